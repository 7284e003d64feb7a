"""How long a user waits for nothing: `samnet_train --help`, and the prediction of one tiny case.

Whole commands in processes of their own, in turns. The model is the small backbone after one training step, on the
demo's made data; the case is one of its test cases. nnU-Net does the same on request, in an environment of its own,
through a script `SCRIPT train|predict ARGUMENTS` that trains for `NNUNET_MINUTES` (nnU-Net itself knows epochs alone).

    python benchmarks/startup.py --output result.json
    python benchmarks/startup.py --nnunet-python ENV/bin/python --nnunet-script nnunet_cpu.py
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path
from typing import Any

from measuring import Cost, describe_machine, median_cost, run_in_folder, run_process

from samnet.demo.anatomy import DATASET_NAME, make_demo_dataset

ID = DATASET_NAME[7:10]
SAMNET = [sys.executable, "-m", "samnet"]


def main() -> None:
    options = parse()
    run_in_folder(options, measure, describe)


def parse() -> argparse.Namespace:
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
        "--nnunet-script", type=Path, metavar="FILE", help="runs nnU-Net for a time"
    )
    parser.add_argument("--output", type=Path, metavar="FILE.json")
    options = parser.parse_args()
    if (options.nnunet_python is None) != (options.nnunet_script is None):
        parser.error("--nnunet-python and --nnunet-script go together")
    return options


def measure(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    make_demo_dataset(folder / "raw", num_training=4, num_test=1, seed=0)
    (folder / "case").mkdir()
    shutil.copy(next((folder / "raw" / DATASET_NAME / "imagesTs").iterdir()), folder / "case")
    environment = {
        f"{prefix}_{part}": str(folder / ("raw" if part == "raw" else f"{prefix}_{part}"))
        for prefix in ("samnet", "nnUNet")
        for part in ("raw", "preprocessed", "results")
    } | {"nnUNet_compile": "f", "nnUNet_n_proc_DA": "1", "NNUNET_MINUTES": "0.01"}
    given = ["-i", str(folder / "case"), "-o"]
    setup = [
        [*SAMNET, "plan_and_preprocess", "-d", ID, "-np", "0"],
        [*SAMNET, "train", ID, "lora", "all", "--steps", "1", "--workers", "0", "--device", "cpu"],
    ]
    steps = {
        "samnet --help": [*SAMNET, "train", "--help"],
        "samnet predict": [
            *SAMNET,
            "predict",
            *given,
            str(folder / "samnet_out"),
            "--device",
            "cpu",
        ],
    }
    if options.nnunet_python:
        peer = [str(options.nnunet_python), str(options.nnunet_script)]
        planner = str(options.nnunet_python.parent / "nnUNetv2_plan_and_preprocess")
        model = ["-d", ID, "-c", "2d", "-f", "all", "-device", "cpu", "-npp", "1", "-nps", "1"]
        setup += [
            [planner, "-d", ID, "-c", "2d", "-np", "1", "-npfp", "1"],
            [*peer, "train", ID, "2d", "all", "-device", "cpu"],
        ]
        steps |= {
            "nnunet --help": [*peer, "train", "-h"],
            "nnunet predict": [*peer, "predict", *given, str(folder / "nnunet_out"), *model],
        }
    for command in setup:
        run_process(command, environment)
    costs: dict[str, list[Cost]] = {name: [] for name in steps}
    for turn in range(options.rounds):
        for name, command in steps.items():
            costs[name].append(run_process(command, environment).cost)
        print(f"round {turn + 1} of {options.rounds}", flush=True)
    medians = {name: median_cost(values) for name, values in costs.items()}
    return {
        "asked": vars(options),
        "machine": describe_machine(),
        "medians": medians,
        "times_as_fast": {
            what: medians[f"nnunet {what}"]["seconds"] / medians[f"samnet {what}"]["seconds"]
            for what in ("--help", "predict")
            if f"nnunet {what}" in medians
        },
    }


def describe(result: dict[str, Any]) -> str:
    lines = [
        f"{name}: {cost['seconds']:.2f} s, {cost['cpu_seconds']:.2f} s of processor time"
        for name, cost in result["medians"].items()
    ]
    return "\n".join(
        lines
        + [
            f"{what}: samnet {ratio:.1f} x as fast"
            for what, ratio in result["times_as_fast"].items()
        ]
    )


if __name__ == "__main__":
    main()
