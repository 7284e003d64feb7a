r"""Measure Dice against the number of training cases, for several ways to adapt, at equal time.

Each way is a configuration of the plan, with changed values after colons. Every run is made of the
commands that a user would type, one after the other: train on N cases drawn by a seed (a larger
number includes the cases of a smaller one), predict the test images, evaluate against their labels.
Ways alternate, so that other load of the machine affects all of them alike. Finished runs are kept:
after an interruption the same command resumes, and with more ways, seeds or numbers of cases it
adds to the table.

    python benchmarks/few_shot.py 4 --cases 1 5 20 --seeds 0 1 2 --minutes 5 --ways lora scratch \
        --output OUT
    python benchmarks/few_shot.py 20 --patients --cases 1 3 --ways lora scratch --output OUT
    python benchmarks/few_shot.py 4 --cases 5 --ways lora lora:lora_rank=16 \
        lora:lora_rank=1:head=cnn_slim --output OUT
    python benchmarks/few_shot.py 4 --cases 20 --ways lora --nnunet 2d \
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
from samnet.dataset.cases import RawDataset
from samnet.dataset.splits import patient_of
from samnet.evaluation.evaluator import SUMMARY_FILE
from samnet.models.model_folder import ALL_CASES, ModelFolder
from samnet.planning.planned_dataset import PlannedDataset
from samnet.training.run_cases import choose_cases

NNUNET_ID = 990


def main() -> None:
    """Run everything that is not finished yet, then write the table, the plot and the facts."""
    options = parse()
    options.output.mkdir(parents=True, exist_ok=True)
    dataset = PlannedDataset.find(options.dataset)
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
                row = run(dataset, planned, options)
                rows.append(row)
                write_rows(table, rows, Row)
                found = f"{row.dice:.3f} after {row.steps} steps"
                print(f"{way}, {cases or 'all'} {row.unit}, seed {seed}: {found}", flush=True)
    write_facts(options, dataset.name)
    alike = [row for row in rows if (row.minutes, row.unit) == (options.minutes, options.unit)]
    total = count_all(dataset, options.unit) if alike else 0
    draw(alike, options.output / "few_shot.png", dataset.name, total)
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
    add_patients_option(
        parser, "the numbers are of patients; all cases of a patient are trained on"
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


def add_patients_option(parser: argparse.ArgumentParser, text: str) -> None:
    """Add the option by which `--cases` counts patients.

    Args:
        parser: The parser of a benchmark; `unit` is `patients` or `cases` afterwards.
        text: What the help says.
    """
    parser.add_argument(
        "--patients",
        dest="unit",
        action="store_const",
        const="patients",
        default="cases",
        help=text,
    )


def run_samnet(dataset: PlannedDataset, planned: Row, options: argparse.Namespace) -> Row:
    """Train, predict and evaluate with samnet.

    Args:
        dataset: The data set.
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
    train = [*SAMNET, "train", dataset.name, configuration, ALL_CASES, "--seed", str(planned.seed)]
    train += ["--max-time", f"{options.minutes * 60:g}s", *number, *settings, *device]
    call(train, folder / "train.log", environment)
    run = ModelFolder(results / dataset.name / configuration).run(ALL_CASES)
    predictions = folder / "predictions"
    images = dataset.folder.test_images
    predict = [*SAMNET, "predict", "-i", images, "-o", predictions, "-m", run.path, *device]
    call(predict, folder / "predict.log", environment)
    return score(dataset, folder, replace(planned, steps=last_epoch(run)["step"]))


def run_nnunet(dataset: PlannedDataset, planned: Row, options: argparse.Namespace) -> Row:
    """Train, predict and evaluate with nnU-Net on the same cases.

    nnU-Net plans on these cases alone, because samnet's runs see no others while they train.

    Args:
        dataset: The data set.
        planned: The row of the run, without results.
        options: The options of the script.

    Returns:
        The row with its results.

    Raises:
        SamnetError: A command failed.
    """
    configuration = planned.way.partition(":")[2]
    folder = (options.output / "runs" / planned.folder).resolve()
    raw = folder / "raw" / f"Dataset{NNUNET_ID}_FewShot"
    copy_dataset(RawDataset.read(dataset.folder), raw, chosen_cases(dataset, planned))
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
    predict = [*script, "predict", *which, "-i", raw / "imagesTs", "-o", folder / "predictions"]
    call([*predict, "-f", "all", *device], folder / "predict.log", environment)
    return score(dataset, folder, replace(planned, steps=_nnunet_steps(folder / "train.log")))


def _nnunet_steps(log: Path) -> int:
    """The number of steps that the script for nnU-Net printed; 0 where it printed none."""
    for line in log.read_text(encoding="utf-8", errors="replace").splitlines():
        if line.startswith("nnU-Net: "):
            return int(line.split()[1])
    return 0


def score(dataset: PlannedDataset, folder: Path, row: Row) -> Row:
    """Evaluate the predictions in a run's folder.

    Args:
        dataset: The data set.
        folder: The folder of the run.
        row: The row of the run.

    Returns:
        The row with the Dice.

    Raises:
        SamnetError: The command failed.
    """
    references = dataset.folder.test_labels
    evaluate: list[str | Path] = [*SAMNET, "evaluate", "-d", dataset.name, "-r", references]
    evaluate += ["-p", folder / "predictions", "-o", folder / "scores"]
    call(evaluate, folder / "evaluate.log", dict(os.environ))
    dice = read_dice(folder / "scores" / SUMMARY_FILE)
    per_class = " ".join(f"{label}={value:.3f}" for label, value in dice.by_class.items())
    return replace(row, dice=round(dice.mean, 5), per_class=per_class)


def chosen_cases(dataset: PlannedDataset, planned: Row) -> list[str]:
    """Return the cases that samnet trains on for a run.

    These are the cases of `samnet_train ID CONFIG all --num-cases N --seed S`, or of
    `--num-patients N`.

    Args:
        dataset: The data set.
        planned: The row of the run.
    """
    number = planned.cases or None
    if planned.unit == "cases":
        return choose_cases(dataset.splits, ALL_CASES, number, planned.seed).training
    return choose_cases(
        dataset.splits,
        ALL_CASES,
        seed=planned.seed,
        num_patients=number,
        patient_key=dataset.plan.patient_key,
    ).training


def copy_dataset(source: RawDataset, target: Path, chosen: list[str]) -> None:
    """Write a raw data set of some training cases and all test images.

    Args:
        source: The raw data set to copy from.
        target: The folder to write; it is emptied first.
        chosen: The training cases to copy.
    """
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source.folder.test_images, target / "imagesTs")
    (target / "imagesTr").mkdir()
    (target / "labelsTr").mkdir()
    for case in source.cases:
        if case.identifier in chosen:
            for file in case.image_files:
                shutil.copy(file, target / "imagesTr")
            assert case.label_file is not None
            shutil.copy(case.label_file, target / "labelsTr")
    description = json.loads(source.folder.description_file.read_text(encoding="utf-8"))
    description["numTraining"] = len(chosen)
    (target / "dataset.json").write_text(json.dumps(description), encoding="utf-8")


def count_all(dataset: PlannedDataset, unit: str) -> int:
    """Return how many cases or patients a data set has for training.

    Args:
        dataset: The data set.
        unit: `cases` or `patients`.
    """
    cases = [case.identifier for case in RawDataset.read(dataset.folder).cases]
    key = dataset.plan.patient_key if unit == "patients" else None
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
