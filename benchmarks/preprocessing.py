"""Compare fingerprint and preprocessing of a data set with nnU-Net's for its `2d` configuration.

Whole commands, start included, are run in separate processes, in turns. Every round begins without
what earlier rounds prepared, and both plan between fingerprint and preprocessing; planning is not
reported. On request nnU-Net takes part, in its own environment. nnU-Net resamples images to the
spacing of its plan; samnet stores slices with their own pixels, and resamples each when it is used.

    python benchmarks/preprocessing.py --nnunet-python ENV/bin/python --output result.json
    python benchmarks/preprocessing.py --dataset 10 --nnunet-python ENV/bin/python

Without --dataset (an id or name in samnet_raw), two synthetic CTs of 512 x 512 x 200 voxels with
different spacings are used.
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
from synthetic_ct import write_dataset

from samnet.core.paths import find_dataset_name, raw_folder

SYNTHETIC = "Dataset990_Synthetic"
SPACINGS = [(1.5, 0.7, 0.7), (1.5, 0.8, 0.8)]
REPORTED = ("fingerprint", "preprocess")
PREPARED = {"samnet": "samnet_preprocessed", "nnunet": "nnUNet_preprocessed"}


def main() -> None:
    """Run the benchmark."""
    options = parse()
    run_in_folder(options, measure, describe)


def parse() -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dataset", metavar="ID", help="in samnet_raw (default: synthetic CTs)")
    parser.add_argument(
        "--shape",
        type=int,
        nargs=3,
        default=(200, 512, 512),
        help="voxels of synthetic CTs along Z Y X",
    )
    parser.add_argument(
        "--processes", type=int, default=2, help="worker processes of each command (default: 2)"
    )
    parser.add_argument("--rounds", type=int, default=3, help="default: 3")
    parser.add_argument(
        "--nnunet-python",
        type=Path,
        metavar="FILE",
        help="Python of an environment with nnU-Net 2.8",
    )
    parser.add_argument(
        "--work",
        type=Path,
        metavar="FOLDER",
        help="folder for temporary files (default: the system's temporary folder)",
    )
    parser.add_argument("--output", type=Path, metavar="FILE.json")
    return parser.parse_args()


def measure(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Run the commands of both packages in turns.

    Args:
        options: The options of the script.
        folder: A temporary folder.

    Returns:
        The medians of each step and package, and the ratios of nnU-Net to samnet.
    """
    (folder / "raw").mkdir()
    if options.dataset:
        name = find_dataset_name(options.dataset)
        (folder / "raw" / name).symlink_to((raw_folder() / name).resolve())
    else:
        name = SYNTHETIC
        write_dataset(folder / "raw" / name, tuple(options.shape), SPACINGS)
    sides = {"samnet": samnet_commands(name, options.processes)}
    if options.nnunet_python:
        sides["nnunet"] = nnunet_commands(name, options)
    medians = {}
    for step, of_step in run_rounds(sides, options.rounds, folder).items():
        medians[step] = {side: median_cost(values) for side, values in of_step.items()}
    return {
        "options": vars(options),
        "dataset": name,
        "machine": describe_machine(),
        "medians": medians,
        "times_as_fast": {
            step: of_step["nnunet"]["seconds"] / of_step["samnet"]["seconds"]
            for step, of_step in medians.items()
            if "nnunet" in of_step
        },
    }


def run_rounds(
    sides: dict[str, dict[str, list[str]]], rounds: int, folder: Path
) -> dict[str, dict[str, list[Cost]]]:
    """Run the commands of all packages in turns.

    Args:
        sides: Package -> step -> command.
        rounds: How often to run each command.
        folder: The folder to work in; prepared data in there are removed before each round.

    Returns:
        Reported step -> package -> the cost of each run.
    """
    environment = folder_environment(folder)
    costs: dict[str, dict[str, list[Cost]]] = {}
    for step in REPORTED:
        costs[step] = {side: [] for side in sides}
    for turn in range(rounds):
        for side, commands in sides.items():
            shutil.rmtree(folder / PREPARED[side], ignore_errors=True)
            for step, command in commands.items():
                cost = run_process(command, environment).cost
                if step in costs:
                    costs[step][side].append(cost)
        print(f"round {turn + 1} of {rounds}", flush=True)
    return costs


def samnet_commands(name: str, processes: int) -> dict[str, list[str]]:
    """Return the commands of samnet.

    Args:
        name: Name of the data set.
        processes: Number of worker processes.

    Returns:
        Step -> command, in order.
    """
    program, given = [sys.executable, "-m", "samnet"], ["-d", name, "-np", str(processes)]
    return {
        "fingerprint": [*program, "extract_fingerprint", *given],
        "plan": [*program, "plan", *given],
        "preprocess": [*program, "preprocess", *given],
    }


def nnunet_commands(name: str, options: argparse.Namespace) -> dict[str, list[str]]:
    """Return the commands of nnU-Net.

    Args:
        name: Name of the data set.
        options: The options of the script.

    Returns:
        Step -> command, in order.
    """
    folder = options.nnunet_python.parent
    which, processes = ["-d", name[7:10]], ["-np", str(options.processes)]
    return {
        "fingerprint": [str(folder / "nnUNetv2_extract_fingerprint"), *which, *processes],
        "plan": [str(folder / "nnUNetv2_plan_experiment"), *which],
        "preprocess": [str(folder / "nnUNetv2_preprocess"), *which, "-c", "2d", *processes],
    }


def describe(result: dict[str, Any]) -> str:
    """Return the result as text.

    Args:
        result: The result of `measure`.
    """
    lines = [f"{result['dataset']}, {result['options']['processes']} processes"]
    for step, of_step in result["medians"].items():
        lines += [
            f"{step}, {side}: {cost['seconds']:.1f} s, "
            f"{cost['cpu_seconds']:.1f} s of processor time"
            for side, cost in of_step.items()
        ]
    lines += [
        f"{step}: samnet {ratio:.1f} x as fast" for step, ratio in result["times_as_fast"].items()
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
