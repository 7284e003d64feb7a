"""Measure Dice against the number of training cases, for several ways to adapt, at equal time.

Each way is a configuration of the plan, with changed values after colons. Every run is made of the
commands that a user would type, one after the other: train on N cases drawn by a seed (a larger
number includes the cases of a smaller one), predict the test images, evaluate against their labels.
Ways alternate, so that other load of the machine affects all of them alike. Finished runs are kept:
after an interruption the same command resumes, and with more ways, seeds or numbers of cases it
adds to the table.

    python benchmarks/few_shot.py 4 --cases 1 5 20 --seeds 0 1 2 --minutes 5 --ways lora scratch \\
        --output OUT
    python benchmarks/few_shot.py 20 --patients --cases 1 3 --ways lora scratch --output OUT
    python benchmarks/few_shot.py 4 --cases 5 --ways lora lora:lora_rank=16 \\
        lora:lora_rank=1:head=cnn_slim --output OUT
    python benchmarks/few_shot.py 4 --cases 20 --ways lora --nnunet 2d \\
        --nnunet-python ENV/bin/python --nnunet-script nnunet_cpu.py --output OUT

The data set has to be planned and prepared. Writes OUT/few_shot.csv, OUT/few_shot.png and, for the
machine and versions, OUT/few_shot.json. nnU-Net is run in its own environment, by a script that
trains for `NNUNET_MINUTES`.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import time
from dataclasses import replace
from pathlib import Path

import torch
from few_shot_tables import Row, draw, read_rows, summary
from measuring import describe_machine
from runs import SAMNET, call, last_epoch, read_dice, start, write_rows

from samnet.core.machine import choose_device
from samnet.core.paths import find_dataset_name, raw_folder
from samnet.dataset.cases import RawDataset
from samnet.dataset.splits import patient_of, read_splits
from samnet.fingerprint.extract import fingerprint_path
from samnet.fingerprint.records import Fingerprint
from samnet.plan.plan import Plan, plan_path
from samnet.planning.splits import splits_path
from samnet.training.run_cases import choose_cases

NNUNET_ID = 990


def main() -> None:
    """Run everything that is not finished yet, then write the table, the plot and the facts."""
    options = parse()
    options.output.mkdir(parents=True, exist_ok=True)
    name = find_dataset_name(options.dataset)
    table = options.output / "few_shot.csv"
    rows = read_rows(table)
    ways = [*options.ways, *(f"nnunet:{configuration}" for configuration in options.nnunet)]
    for cases in options.cases:
        for seed in options.seeds:
            for way in ways:
                planned = Row(way, cases, seed, options.minutes, math.nan, 0, "", options.unit)
                if any(row.folder == planned.folder for row in rows):
                    continue
                run = run_nnunet if way.startswith("nnunet:") else run_samnet
                row = run(name, planned, options)
                rows.append(row)
                write_rows(table, rows, Row)
                found = f"{row.dice:.3f} after {row.steps} steps"
                print(f"{way}, {cases or 'all'} {row.unit}, seed {seed}: {found}", flush=True)
    write_facts(options, name)
    alike = [row for row in rows if (row.minutes, row.unit) == (options.minutes, options.unit)]
    total = count_all(name, options.unit) if alike else 0
    draw(alike, options.output / "few_shot.png", name, total)
    print(summary(alike))


def parse() -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("dataset", help="id or name of a planned and prepared data set")
    parser.add_argument(
        "--cases",
        type=int,
        nargs="+",
        default=[1, 5, 20],
        help="numbers of training cases; 0 for all (default: 1 5 20)",
    )
    parser.add_argument(
        "--patients",
        dest="unit",
        action="store_const",
        const="patients",
        default="cases",
        help="the numbers are of patients; all cases of a patient are trained on",
    )
    parser.add_argument(
        "--seeds",
        type=int,
        nargs="+",
        default=[0],
        help="seeds of the choice of cases and of the training (default: 0)",
    )
    parser.add_argument(
        "--minutes", type=float, default=5.0, help="training time of each run (default: 5)"
    )
    parser.add_argument(
        "--ways", nargs="+", default=["lora", "scratch"], help="CONFIG or CONFIG:KEY=VALUE:..."
    )
    parser.add_argument(
        "--device", default=None, help="cpu, cuda or mps (default: the best one here)"
    )
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument(
        "--nnunet",
        nargs="+",
        default=[],
        metavar="CONFIG",
        help="configurations of nnU-Net, such as 2d 3d_fullres",
    )
    parser.add_argument(
        "--nnunet-python", type=Path, help="the Python of an environment with nnU-Net"
    )
    parser.add_argument(
        "--nnunet-script", type=Path, help="runs `train` and `predict` for NNUNET_MINUTES"
    )
    options = parser.parse_args()
    if options.nnunet and not (options.nnunet_python and options.nnunet_script):
        parser.error("--nnunet needs --nnunet-python and --nnunet-script")
    return options


def run_samnet(name: str, planned: Row, options: argparse.Namespace) -> Row:
    """Train, predict and evaluate with samnet.

    Args:
        name: Name of the data set.
        planned: The row of the run, without results.
        options: The options of the script.

    Returns:
        The row with its results.

    Raises:
        SamnetError: A command failed.
    """
    configuration, *changes = planned.way.split(":")
    folder = options.output / "runs" / planned.folder
    results = folder / "results"
    environment = {**os.environ, "samnet_results": str(results)}
    device = ["--device", options.device] if options.device else []
    settings = [word for change in changes for word in ("--set", change)]
    number = [f"--num-{planned.unit}", str(planned.cases)] if planned.cases else []
    train = [*SAMNET, "train", name, configuration, "all", "--seed", str(planned.seed)]
    train += ["--max-time", f"{options.minutes * 60:g}s", *number, *settings, *device]
    call(train, folder / "train.log", environment)
    model = results / name / configuration / "fold_all"
    predictions = folder / "predictions"
    images = raw_folder() / name / "imagesTs"
    predict = [*SAMNET, "predict", "-i", images, "-o", predictions, "-m", model, *device]
    call(predict, folder / "predict.log", environment)
    return score(name, folder, replace(planned, steps=last_epoch(model)["step"]))


def run_nnunet(name: str, planned: Row, options: argparse.Namespace) -> Row:
    """Train, predict and evaluate with nnU-Net on the same cases.

    nnU-Net plans on these cases alone, because samnet's runs see no others while they train.

    Args:
        name: Name of the data set.
        planned: The row of the run, without results.
        options: The options of the script.

    Returns:
        The row with its results.

    Raises:
        SamnetError: A command failed.
    """
    configuration = planned.way.partition(":")[2]
    folder = (options.output / "runs" / planned.folder).resolve()
    dataset = f"Dataset{NNUNET_ID}_FewShot"
    copy_dataset(raw_folder() / name, folder / "raw" / dataset, chosen_cases(name, planned))
    environment = {
        **os.environ,
        **{f"nnUNet_{part}": str(folder / part) for part in ("raw", "preprocessed", "results")},
        "nnUNet_compile": "f",
        "NNUNET_MINUTES": str(options.minutes),
    }
    planner = options.nnunet_python.parent / "nnUNetv2_plan_and_preprocess"
    script = [options.nnunet_python, options.nnunet_script]
    device = ["-device", options.device or ("cuda" if torch.cuda.is_available() else "cpu")]
    which = ["-d", str(NNUNET_ID), "-c", configuration]
    call([planner, *which, "-np", "2", "-npfp", "2"], folder / "plan.log", environment)
    train = [*script, "train", str(NNUNET_ID), configuration, "all", *device]
    call(train, folder / "train.log", environment)
    images = folder / "raw" / dataset / "imagesTs"
    predict = [*script, "predict", *which, "-i", images, "-o", folder / "predictions"]
    call([*predict, "-f", "all", *device], folder / "predict.log", environment)
    return score(name, folder, replace(planned, steps=_nnunet_steps(folder / "train.log")))


def _nnunet_steps(log: Path) -> int:
    """The number of steps that the script for nnU-Net printed; 0 where it printed none."""
    for line in log.read_text(encoding="utf-8", errors="replace").splitlines():
        if line.startswith("nnU-Net: "):
            return int(line.split()[1])
    return 0


def score(name: str, folder: Path, row: Row) -> Row:
    """Evaluate the predictions in a run's folder.

    Args:
        name: Name of the data set.
        folder: The folder of the run.
        row: The row of the run.

    Returns:
        The row with the Dice.

    Raises:
        SamnetError: The command failed.
    """
    references = raw_folder() / name / "labelsTs"
    evaluate: list[str | Path] = [*SAMNET, "evaluate", "-d", name, "-r", references]
    evaluate += ["-p", folder / "predictions", "-o", folder / "scores"]
    call(evaluate, folder / "evaluate.log", dict(os.environ))
    dice = read_dice(folder / "scores" / "summary.json")
    per_class = " ".join(f"{label}={value:.3f}" for label, value in dice.by_class.items())
    return replace(row, dice=round(dice.mean, 5), per_class=per_class)


def chosen_cases(name: str, planned: Row) -> list[str]:
    """Return the cases that samnet trains on for a run.

    These are the cases of `samnet_train ID CONFIG all --num-cases N --seed S`, or of
    `--num-patients N`.

    Args:
        name: Name of the data set.
        planned: The row of the run.
    """
    fingerprint = Fingerprint.load(fingerprint_path(name))
    splits = read_splits(splits_path(name), list(fingerprint.cases))
    number = planned.cases or None
    if planned.unit == "cases":
        return choose_cases(splits, "all", number, planned.seed)[0]
    key = Plan.load(plan_path(name)).patient_key
    return choose_cases(splits, "all", seed=planned.seed, num_patients=number, patient_key=key)[0]


def copy_dataset(source: Path, target: Path, chosen: list[str]) -> None:
    """Write a raw data set of some training cases and all test images.

    Args:
        source: The folder of the raw data set to copy from.
        target: The folder to write; it is emptied first.
        chosen: The training cases to copy.
    """
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source / "imagesTs", target / "imagesTs")
    (target / "imagesTr").mkdir()
    (target / "labelsTr").mkdir()
    for case in RawDataset.load(source.name).cases:
        if case.identifier in chosen:
            for file in case.image_files:
                shutil.copy(file, target / "imagesTr")
            assert case.label_file is not None
            shutil.copy(case.label_file, target / "labelsTr")
    description = json.loads((source / "dataset.json").read_text(encoding="utf-8"))
    description["numTraining"] = len(chosen)
    (target / "dataset.json").write_text(json.dumps(description), encoding="utf-8")


def count_all(name: str, unit: str) -> int:
    """Return how many cases or patients a data set has for training.

    Args:
        name: Name of the data set.
        unit: `cases` or `patients`.
    """
    cases = [case.identifier for case in RawDataset.load(name).cases]
    key = Plan.load(plan_path(name)).patient_key if unit == "patients" else None
    return len({patient_of(case, key) for case in cases})


def write_facts(options: argparse.Namespace, name: str) -> None:
    """Write machine, versions and options as `few_shot.json`.

    Args:
        options: The options of the script.
        name: Name of the data set.
    """
    facts = {
        "dataset": name,
        "machine": describe_machine(choose_device(options.device)),
        "written": time.strftime("%Y-%m-%d %H:%M"),
        "arguments": {key: str(value) for key, value in vars(options).items()},
    }
    text = json.dumps(facts, indent=2) + "\n"
    (options.output / "few_shot.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    start(main)
