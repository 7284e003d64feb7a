r"""Repeat what SAMed and AutoSAM claim on real data: optimiser, LoRA, decoder, few patients.

Each claim is a set of ways to train (`seed_ablation_ways.py`). Every way is trained by
`samnet_train` on fold 0 for equal steps, with the same seeds, and scored on the held-out cases of
the fold. The backbone is the planned one: on a CPU the small one, which was trained on synthetic
images alone. So agreement or disagreement says little about SAM's own encoders.

    samnet_plan_and_preprocess -d 20 --device cpu
    python benchmarks/seed_ablations.py 20 --claims optimizer patients --steps 300 --seeds 0 1 2 \
        --device cpu --output OUT

The data sets have to be planned and prepared. Finished runs are kept: after an interruption the
same command resumes, and ways that train alike (the planned one is part of several claims) are
trained once. Writes OUT/seed_ablations.csv, OUT/seed_ablations.md and, for machine and
options, OUT/seed_ablations.json after every run; OUT/seed_ablations.png after every claim.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import time
from pathlib import Path

from measuring import describe_machine, machine_line
from runs import SAMNET, call, last_epoch, read_dice, start, write_rows
from seed_ablation_tables import Row, describe, draw
from seed_ablation_ways import CLAIMS, Way

from samnet.cli.command import non_negative_int, positive_int
from samnet.core.errors import SamnetError
from samnet.core.files import write_json, write_text
from samnet.core.locks import lock_folder
from samnet.core.machine import choose_device
from samnet.evaluation.evaluator import SUMMARY_FILE
from samnet.models.model_folder import ModelFolder, RunFolder
from samnet.planning.planned_dataset import PlannedDataset

FOLD = "0"
EPOCHS = 6  # points of a loss curve; each is followed by a validation, which costs time


def main() -> None:
    """Run what is not finished yet, and write the tables after each run.

    Raises:
        SamnetError: Some runs failed; the others are finished.
    """
    options = parse()
    datasets = [PlannedDataset.find(identifier) for identifier in options.datasets]
    rows: list[Row] = []
    failures = []
    with lock_folder(options.output, "seed ablations", waits=False):
        for claim in options.claims:
            for dataset in datasets:
                for patients in numbers_of_patients(claim, options):
                    failures += run_claim(claim, dataset, patients, options, rows)
            if rows:
                draw(rows, options.output / "seed_ablations.png")
    if failures:
        raise SamnetError("\n".join(failures))


def parse() -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("datasets", nargs="+", metavar="DATASET", help="ids or names of data sets")
    parser.add_argument(
        "--claims",
        nargs="+",
        choices=CLAIMS,
        default=list(CLAIMS),
        metavar="NAME",
        help=f"{', '.join(CLAIMS)} (default: all)",
    )
    parser.add_argument(
        "--steps", type=positive_int, required=True, help="length of every training run"
    )
    parser.add_argument(
        "--seeds",
        type=non_negative_int,
        nargs="+",
        default=[0, 1, 2],
        help="seeds of the choice of patients and of the training (default: 0 1 2)",
    )
    parser.add_argument(
        "--patients",
        type=positive_int,
        nargs="+",
        default=[1, 3, 10],
        help="numbers of training patients, for claims about few of them (default: 1 3 10)",
    )
    parser.add_argument(
        "--device", default=None, help="cpu, cuda or mps (default: the best one here)"
    )
    parser.add_argument("--output", type=lambda text: Path(text).resolve(), required=True)
    return parser.parse_args()


def numbers_of_patients(claim: str, options: argparse.Namespace) -> list[int]:
    """Return the numbers of training patients that a claim is tried with; 0 stands for all.

    Args:
        claim: Name of the claim.
        options: The options of the script.
    """
    return options.patients if CLAIMS[claim].by_patients else [0]


def run_claim(
    claim: str,
    dataset: PlannedDataset,
    patients: int,
    options: argparse.Namespace,
    rows: list[Row],
) -> list[str]:
    """Run every way of a claim with every seed.

    Args:
        claim: Name of the claim.
        dataset: The data set.
        patients: Number of training patients; 0 for all.
        options: The options of the script.
        rows: All rows so far; the new ones are added.

    Returns:
        One message for each run that failed.
    """
    failures = []
    for seed in options.seeds:
        for way in CLAIMS[claim].ways:
            label = (
                f"{claim}, {dataset.name}, {way.name}, {patients or 'all'} patients, seed {seed}"
            )
            try:
                row = run_way(claim, way, dataset, patients, seed, options)
            except SamnetError as error:
                failures.append(f"{label}: {error}")
                continue
            rows.append(row)
            write_tables(rows, options)
            print(f"{label}: Dice {row.dice:.3f}, loss {row.losses[-1]:.3f}", flush=True)
    return failures


def run_way(
    claim: str,
    way: Way,
    dataset: PlannedDataset,
    patients: int,
    seed: int,
    options: argparse.Namespace,
) -> Row:
    """Train one way, unless that is done already, and read its scores.

    Args:
        claim: Name of the claim.
        way: The way.
        dataset: The data set.
        patients: Number of training patients; 0 for all.
        seed: Seed of the choice of patients and of the training.
        options: The options of the script.

    Returns:
        The row of the run.

    Raises:
        SamnetError: The training failed.
    """
    settings = settings_of(way, dataset, options.steps)
    words = [f"{key}={json.dumps(value, separators=(',', ':'))}" for key, value in settings.items()]
    length = f"{patients or 'all'}_patients-seed_{seed}-{options.steps}_steps"
    name = "-".join((dataset.name, way.configuration, *words, length))
    folder = options.output / "runs" / re.sub(r"[^\w.,=-]", "", name)
    run = ModelFolder(folder / "results" / dataset.name / way.configuration).run(FOLD)
    summary = run.validation / SUMMARY_FILE
    if not summary.is_file():
        number = ["--num-patients", str(patients)] if patients else []
        device = ["--device", options.device] if options.device else []
        command = [*SAMNET, "train", dataset.name, way.configuration, FOLD, "--seed", str(seed)]
        command += ["--steps", str(options.steps), *number, *device]
        for word in words:
            command += ["--set", word]
        environment = {**os.environ, "samnet_results": str(folder / "results")}
        call(command, folder / "train.log", environment)
    dice = read_dice(summary)
    names = dataset.plan.label_scheme.class_names
    by_class = zip(names, dice.by_class.values(), strict=True)
    epoch = last_epoch(run)
    return Row(
        dataset=dataset.name,
        claim=claim,
        way=way.name,
        patients=patients,
        seed=seed,
        steps=epoch["step"],
        dice=round(dice.mean, 5),
        per_class=", ".join(f"{class_name} {value:.3f}" for class_name, value in by_class),
        losses=read_losses(run),
        seconds=epoch["seconds"],
        run=folder.name,
    )


def settings_of(way: Way, dataset: PlannedDataset, steps: int) -> dict[str, object]:
    """Return the values with which a way is trained, for `samnet_train --set`.

    Args:
        way: The way.
        dataset: The data set.
        steps: Length of the training run.

    Returns:
        The values by key, without those that are planned already. No run stops early, and all have
        the same number of epochs.
    """
    planned = dataset.plan.configuration(way.configuration)
    settings: dict[str, object] = {"steps_per_epoch": max(1, steps // EPOCHS), "patience": 0}
    if way.rate_factor != 1:
        settings["learning_rate"] = planned.learning_rate * way.rate_factor
    for key, value in way.settings.items():
        if json.loads(json.dumps(getattr(planned, key))) != value:
            settings[key] = value
    return settings


def read_losses(run: RunFolder) -> tuple[float, ...]:
    """Return the mean training loss of each epoch of a run.

    Args:
        run: The folder of the run.
    """
    lines = run.metrics_file.read_text(encoding="utf-8").splitlines()
    return tuple(round(json.loads(line)["loss"], 5) for line in lines)


def write_tables(rows: list[Row], options: argparse.Namespace) -> None:
    """Write the runs so far as CSV and markdown, and machine and options as JSON.

    Args:
        rows: All rows so far.
        options: The options of the script.
    """
    machine = describe_machine(choose_device(options.device))
    written = time.strftime("%Y-%m-%d %H:%M")
    write_rows(options.output / "seed_ablations.csv", rows, Row)
    heading = f"{machine_line(machine)}; {written}"
    write_text(options.output / "seed_ablations.md", f"{heading}\n\n{describe(rows)}")
    arguments = {key: str(value) for key, value in vars(options).items()}
    write_json(
        options.output / "seed_ablations.json",
        {"machine": machine, "written": written, "arguments": arguments},
    )


if __name__ == "__main__":
    start(main)
