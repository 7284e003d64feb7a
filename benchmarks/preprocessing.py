"""Fingerprint and preprocessing of a data set, against nnU-Net's of its `2d` configuration.

Whole commands, start included, each in processes of its own, in turns. Both plan once before, and begin each round
without what the rounds before have made. nnU-Net runs in an environment of its own, on request. It resamples images to
the spacing of its plan; samnet stores slices on their own pixels, and resamples each when it is looked at.

    python benchmarks/preprocessing.py --nnunet-python ENV/bin/python --output result.json
    python benchmarks/preprocessing.py --dataset 10 --nnunet-python ENV/bin/python

Without --dataset (an id or name in samnet_raw), two CTs of 512 x 512 x 200 voxels are made, of different spacings.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path
from typing import Any

from measuring import Cost, describe_machine, median_cost, run_in_folder, run_process
from synthetic_ct import write_dataset

from samnet.core.paths import find_dataset_name, raw_folder

MADE = "Dataset990_Synthetic"
SPACINGS = [(1.5, 0.7, 0.7), (1.5, 0.8, 0.8)]


def main() -> None:
    options = parse()
    run_in_folder(options, measure, describe)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dataset", metavar="ID", help="in samnet_raw (default: made CTs)")
    parser.add_argument(
        "--shape", type=int, nargs=3, default=(200, 512, 512), help="of made CTs, Z Y X"
    )
    parser.add_argument("--processes", type=int, default=2, help="of both (default: 2)")
    parser.add_argument("--rounds", type=int, default=3, help="default: 3")
    parser.add_argument(
        "--nnunet-python",
        type=Path,
        metavar="FILE",
        help="Python of an environment with nnU-Net 2.8",
    )
    parser.add_argument(
        "--work", type=Path, metavar="FOLDER", help="for all that is made (default: the system's)"
    )
    parser.add_argument("--output", type=Path, metavar="FILE.json")
    return parser.parse_args()


def measure(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    (folder / "raw").mkdir()
    if options.dataset:
        name = find_dataset_name(options.dataset)
        (folder / "raw" / name).symlink_to((raw_folder() / name).resolve())
    else:
        name = MADE
        write_dataset(folder / "raw" / name, tuple(options.shape), SPACINGS)
    sides = {"samnet": samnet_commands(name, options.processes)}
    if options.nnunet_python:
        sides["nnunet"] = nnunet_commands(name, options)
    environment = {
        f"{prefix}_{part}": str(folder / f"{prefix}_{part}" if part != "raw" else folder / "raw")
        for prefix in ("samnet", "nnUNet")
        for part in ("raw", "preprocessed", "results")
    }
    costs: dict[str, dict[str, list[Cost]]] = {
        step: {side: [] for side in sides} for step in ("fingerprint", "preprocess")
    }
    for turn in range(options.rounds):
        for side, commands in sides.items():
            shutil.rmtree(
                folder / f"{side.replace('nnunet', 'nnUNet')}_preprocessed", ignore_errors=True
            )
            for step, command in commands.items():
                cost = run_process(command, environment).cost
                if step in costs:
                    costs[step][side].append(cost)
        print(f"round {turn + 1} of {options.rounds}", flush=True)
    medians = {
        step: {side: median_cost(values) for side, values in each.items()}
        for step, each in costs.items()
    }
    return {
        "asked": vars(options),
        "dataset": name,
        "machine": describe_machine(),
        "medians": medians,
        "times_as_fast": {
            step: each["nnunet"]["seconds"] / each["samnet"]["seconds"]
            for step, each in medians.items()
            if "nnunet" in each
        },
    }


def samnet_commands(name: str, processes: int) -> dict[str, list[str]]:
    base, given = [sys.executable, "-m", "samnet"], ["-d", name, "-np", str(processes)]
    return {
        "fingerprint": [*base, "extract_fingerprint", *given],
        "plan": [*base, "plan", *given],
        "preprocess": [*base, "preprocess", *given],
    }


def nnunet_commands(name: str, options: argparse.Namespace) -> dict[str, list[str]]:
    folder, dataset, processes = options.nnunet_python.parent, name[7:10], str(options.processes)
    return {
        "fingerprint": [
            str(folder / "nnUNetv2_extract_fingerprint"),
            "-d",
            dataset,
            "-np",
            processes,
        ],
        "plan": [str(folder / "nnUNetv2_plan_experiment"), "-d", dataset],
        "preprocess": [
            str(folder / "nnUNetv2_preprocess"),
            "-d",
            dataset,
            "-c",
            "2d",
            "-np",
            processes,
        ],
    }


def describe(result: dict[str, Any]) -> str:
    lines = [f"{result['dataset']}, {result['asked']['processes']} processes"]
    for step, each in result["medians"].items():
        lines += [
            f"{step}, {side}: {cost['seconds']:.1f} s, {cost['cpu_seconds']:.1f} s of processor time"
            for side, cost in each.items()
        ]
    lines += [
        f"{step}: samnet {ratio:.1f} x as fast" for step, ratio in result["times_as_fast"].items()
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
