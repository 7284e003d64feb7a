"""Measure how long commands take to start: `samnet_train --help`, and predicting one tiny case.

Whole commands are run in separate processes, in turns. The model is the small backbone after one
training step on the demo's synthetic data; the case is one of the demo's test cases. On request
nnU-Net does the same in its own environment, through a script `SCRIPT train|predict ARGUMENTS` that
trains for `NNUNET_MINUTES`, because nnU-Net itself can only be given a number of epochs.

    python benchmarks/startup.py --output result.json
    python benchmarks/startup.py --nnunet-python ENV/bin/python --nnunet-script nnunet_cpu.py
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path
from typing import Any

from measuring import (
    Cost,
    describe_machine,
    folder_environment,
    median_cost,
    run_in_folder,
    run_process,
)

from samnet.demo.anatomy import DATASET_NAME, make_demo_dataset

ID = DATASET_NAME[7:10]
SAMNET = [sys.executable, "-m", "samnet"]


def main() -> None:
    """Run the benchmark."""
    options = parse()
    run_in_folder(options, measure, describe)


def parse() -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5, help="default: 5")
    parser.add_argument(
        "--nnunet-python",
        type=Path,
        metavar="FILE",
        help="Python of an environment with nnU-Net 2.8",
    )
    parser.add_argument(
        "--nnunet-script",
        type=Path,
        metavar="FILE",
        help="script that runs nnU-Net for a given time",
    )
    parser.add_argument("--output", type=Path, metavar="FILE.json")
    options = parser.parse_args()
    if (options.nnunet_python is None) != (options.nnunet_script is None):
        parser.error("--nnunet-python and --nnunet-script go together")
    return options


def measure(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Train the models, then run all commands in turns.

    Args:
        options: The options of the script.
        folder: A temporary folder.

    Returns:
        The medians of each command, and the ratios of nnU-Net to samnet.
    """
    make_demo_dataset(folder / "raw", num_training=4, num_test=1, seed=0)
    (folder / "case").mkdir()
    shutil.copy(next((folder / "raw" / DATASET_NAME / "imagesTs").iterdir()), folder / "case")
    environment = folder_environment(folder) | {
        "nnUNet_compile": "f",
        "nnUNet_n_proc_DA": "1",
        "NNUNET_MINUTES": "0.01",
    }
    setup, steps = samnet_commands(folder)
    if options.nnunet_python:
        more_setup, more_steps = nnunet_commands(options, folder)
        setup += more_setup
        steps |= more_steps
    for command in setup:
        run_process(command, environment)
    costs: dict[str, list[Cost]] = {name: [] for name in steps}
    for turn in range(options.rounds):
        for name, command in steps.items():
            costs[name].append(run_process(command, environment).cost)
        print(f"round {turn + 1} of {options.rounds}", flush=True)
    medians = {name: median_cost(values) for name, values in costs.items()}
    return {
        "options": vars(options),
        "machine": describe_machine(),
        "medians": medians,
        "times_as_fast": {
            what: medians[f"nnunet {what}"]["seconds"] / medians[f"samnet {what}"]["seconds"]
            for what in ("--help", "predict")
            if f"nnunet {what}" in medians
        },
    }


def samnet_commands(folder: Path) -> tuple[list[list[str]], dict[str, list[str]]]:
    """Return the commands of samnet.

    Args:
        folder: The folder to work in.

    Returns:
        The commands that make the model, and name -> command to measure.
    """
    setup = [
        [*SAMNET, "plan_and_preprocess", "-d", ID, "-np", "0"],
        [*SAMNET, "train", ID, "lora", "all", "--steps", "1", "--workers", "0", "--device", "cpu"],
    ]
    files = ["-i", str(folder / "case"), "-o", str(folder / "samnet_out")]
    steps = {
        "samnet --help": [*SAMNET, "train", "--help"],
        "samnet predict": [*SAMNET, "predict", *files, "--device", "cpu"],
    }
    return setup, steps


def nnunet_commands(
    options: argparse.Namespace, folder: Path
) -> tuple[list[list[str]], dict[str, list[str]]]:
    """Return the commands of nnU-Net.

    Args:
        options: The options of the script.
        folder: The folder to work in.

    Returns:
        The commands that make the model, and name -> command to measure.
    """
    script = [str(options.nnunet_python), str(options.nnunet_script)]
    planner = str(options.nnunet_python.parent / "nnUNetv2_plan_and_preprocess")
    setup = [
        [planner, "-d", ID, "-c", "2d", "-np", "1", "-npfp", "1"],
        [*script, "train", ID, "2d", "all", "-device", "cpu"],
    ]
    files = ["-i", str(folder / "case"), "-o", str(folder / "nnunet_out")]
    model = ["-d", ID, "-c", "2d", "-f", "all", "-device", "cpu", "-npp", "1", "-nps", "1"]
    steps = {
        "nnunet --help": [*script, "train", "-h"],
        "nnunet predict": [*script, "predict", *files, *model],
    }
    return setup, steps


def describe(result: dict[str, Any]) -> str:
    """Return the result as text.

    Args:
        result: The result of `measure`.
    """
    lines = [
        f"{name}: {cost['seconds']:.2f} s, {cost['cpu_seconds']:.2f} s of processor time"
        for name, cost in result["medians"].items()
    ]
    lines += [
        f"{what}: samnet {ratio:.1f} x as fast" for what, ratio in result["times_as_fast"].items()
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
