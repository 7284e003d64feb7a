"""Each decision of a plan against its neighbours, by training: zoom, views, channels, window, rank, heads, ...

Every choice is planned as `samnet_plan --set` plans it, so that what depends on it follows, and is trained and
validated by `samnet_train`: fold 0, equal steps or minutes, the same cases and seed. Scores are Dice on validation
cases; images and labels kept for testing are not touched, since rules are made from these figures.

    python benchmarks/ablate.py 4 --decision zoom --minutes 5 --output OUT
    python benchmarks/ablate.py 4 20 --decision rank heads --steps 250 --cases 16 --seeds 0 1 --output OUT

Raw data are those of `samnet_raw`. Plans, prepared cases and trainings lie below OUT, which no other command uses. A
finished training is not repeated, whichever decision it was made for; the same command goes on where it was ended.
Writes OUT/ablation.csv, OUT/ablation.md and, for machine and versions, OUT/ablation.json after every run.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from ablation_tables import Row, describe, verdict
from measuring import describe_machine
from neighbours import DECISIONS, Choice, find_choices
from runs import SAMNET, call, last_epoch, read_dice, start, write_rows

from samnet.cli.command import non_negative_int, positive_float, positive_int
from samnet.core.errors import SamnetError, UserError
from samnet.core.files import write_json, write_text
from samnet.core.locks import lock_folder
from samnet.core.machine import choose_device, detect_machine
from samnet.core.records import to_json
from samnet.core.worker_pool import default_processes
from samnet.dataset.cases import RawDataset
from samnet.dataset.splits import make_splits
from samnet.fingerprint.extract import extract_fingerprint
from samnet.fingerprint.records import Fingerprint
from samnet.plan.plan import Plan, plan_path
from samnet.planning.planner import make_plan
from samnet.planning.splits import splits_path
from samnet.preprocessing.prepare import prepare_dataset
from samnet.training.dry_run import measure_step
from samnet.training.run_cases import choose_cases
from samnet.training.run_folder import VALIDATION


@dataclass(frozen=True)
class Subject:
    """A data set to try choices on. fold: the cases to draw from for training, `train`, and those to score, `val`."""

    dataset: RawDataset
    fingerprint: Fingerprint
    plan: Plan
    fold: dict[str, list[str]]


def main() -> None:
    options = parse()
    datasets = [RawDataset.load(identifier) for identifier in options.datasets]
    os.environ["samnet_preprocessed"] = str(options.output / "preprocessed")
    rows: list[Row] = []
    failures = []
    trains_alone = lock_folder(options.output, "ablation", waits=False)
    with contextlib.nullcontext() if options.finished else trains_alone:
        subjects = [load_subject(dataset, options) for dataset in datasets]
        for decision in options.decision:
            for subject in subjects:
                failures += ablate(decision, subject, options, rows)
    if failures:
        raise SamnetError("\n".join(failures))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("datasets", nargs="+", metavar="DATASET", help="ids or names of data sets")
    parser.add_argument(
        "--decision",
        nargs="+",
        required=True,
        choices=DECISIONS,
        metavar="NAME",
        help=", ".join(DECISIONS),
    )
    length = parser.add_mutually_exclusive_group(required=True)
    length.add_argument("--steps", type=positive_int, help="of every training")
    length.add_argument(
        "--minutes",
        type=positive_float,
        help="of every training, on a machine that does nothing else",
    )
    parser.add_argument(
        "--seeds",
        type=non_negative_int,
        nargs="+",
        default=[0],
        help="of the choice of cases and of the training",
    )
    parser.add_argument(
        "--cases", type=positive_int, help="to train on at most (default: all of fold 0)"
    )
    parser.add_argument(
        "--validation-cases", type=positive_int, default=20, help="to score at most (default: 20)"
    )
    parser.add_argument(
        "--config", default="lora", help="configuration of the plan (default: lora)"
    )
    parser.add_argument(
        "--device", default=None, help="to plan for and train on (default: the best one here)"
    )
    parser.add_argument(
        "--finished",
        action="store_true",
        help="train nothing: the tables of the runs that are there",
    )
    parser.add_argument("--output", type=lambda text: Path(text).resolve(), required=True)
    return parser.parse_args()


def load_subject(dataset: RawDataset, options: argparse.Namespace) -> Subject:
    """Measure and plan a data set, and choose the cases to score.

    Raises:
        UserError: there is no such configuration, or all cases are of one patient.
    """
    fingerprint = extract_fingerprint(dataset, default_processes())
    plan = make_plan(fingerprint, detect_machine(options.device), measure=measure_step)
    plan.configuration(options.config)
    fold = make_splits(list(fingerprint.cases), plan.patient_key)[0]
    if set(fold["train"]) & set(fold["val"]):
        raise UserError(f"{dataset.name}: a single patient: there are no cases to validate on")
    chosen = (
        np.linspace(0, len(fold["val"]) - 1, min(options.validation_cases, len(fold["val"])))
        .round()
        .astype(int)
    )
    return Subject(
        dataset, fingerprint, plan, {**fold, "val": [fold["val"][index] for index in chosen]}
    )


def ablate(
    decision: str, subject: Subject, options: argparse.Namespace, rows: list[Row]
) -> list[str]:
    """Add a row for every choice and seed, and write the tables; returns what failed."""
    name, failures = subject.dataset.name, []
    choices = find_choices(
        decision, subject.plan, subject.fingerprint, options.config, measure_step
    )
    if not choices:
        print(f"{decision}, {name}: nothing else can be chosen", flush=True)
        return []
    for seed in options.seeds:
        for choice in choices:
            try:
                row = run_choice(decision, choice, subject, seed, options)
            except SamnetError as error:
                failures.append(f"{decision}, {name}, {choice.name}, seed {seed}: {error}")
                continue
            if row is not None:
                rows.append(row)
                write_tables(rows, options)
                print(f"{decision}, {name}, {choice.name}, seed {seed}: {row.dice:.3f}", flush=True)
    found = [row for row in rows if (row.decision, row.dataset) == (decision, name)]
    print(f"{decision}, {name}: {verdict(found)}", flush=True)
    return failures


def run_choice(
    decision: str, choice: Choice, subject: Subject, seed: int, options: argparse.Namespace
) -> Row | None:
    """Train a choice where that is not done yet, and read its scores; None where it is not to be trained.

    Raises:
        SamnetError: preparation or training failed.
    """
    name, fold = subject.dataset.name, subject.fold
    number = min(options.cases or len(fold["train"]), len(fold["train"]))
    fold = {"train": choose_cases([fold], "0", number, seed)[0], "val": fold["val"]}
    length = f"{options.steps} steps" if options.steps else f"{options.minutes:g} minutes"
    contents = [
        subject.plan.data_key,
        to_json(choice.plan.configuration(options.config)),
        fold,
        seed,
        length,
    ]
    key = hashlib.sha256(json.dumps(contents, sort_keys=True).encode()).hexdigest()[:12]
    folder = options.output / "runs" / f"{name}-{key}"
    run = folder / "results" / name / options.config / "fold_0"
    if not (run / VALIDATION / "summary.json").is_file():
        if options.finished:
            return None
        train(choice.plan, fold, subject.dataset, seed, folder, options)
    dice = read_dice(run / VALIDATION / "summary.json")
    by_class = zip(choice.plan.class_names, dice.by_class.values(), strict=True)
    epoch = last_epoch(run)
    return Row(
        dataset=name,
        decision=decision,
        choice=choice.name,
        is_planned=choice.is_planned,
        follows=", ".join(f"{key} {value}" for key, value in choice.follows.items()),
        configuration=options.config,
        cases=len(fold["train"]),
        validation_cases=len(fold["val"]),
        seed=seed,
        length=length,
        dice=round(dice.mean, 5),
        per_class=", ".join(f"{class_name} {value:.3f}" for class_name, value in by_class),
        per_case=tuple(round(value, 5) for _, value in sorted(dice.by_case.items())),
        steps=epoch["step"],
        seconds=epoch["seconds"],
        run=folder.name,
    )


def train(
    plan: Plan,
    fold: dict[str, list[str]],
    dataset: RawDataset,
    seed: int,
    folder: Path,
    options: argparse.Namespace,
) -> None:
    """Put a plan into its place, prepare what it needs that is not there yet, and train by it, in a folder of its own.

    Raises:
        SamnetError: preparation or training failed.
    """
    configuration = plan.configuration(options.config)
    needed = {*fold["train"], *fold["val"]}
    cases = tuple(case for case in dataset.cases if case.identifier in needed)
    prepare_dataset(replace(dataset, cases=cases), configuration.views, default_processes())
    plan.save(plan_path(dataset.name))
    write_json(splits_path(dataset.name), [fold])
    # One validation, at the end: all choices are measured at the same point, and none of their time goes to it.
    if options.steps:
        length = ["--steps", str(options.steps), "--set", f"steps_per_epoch={options.steps}"]
    else:
        length = [
            "--max-time",
            f"{options.minutes * 60:g}s",
            "--set",
            f"steps_per_epoch={configuration.steps}",
        ]
    device = ["--device", options.device] if options.device else []
    command = [
        *SAMNET,
        "train",
        dataset.name,
        options.config,
        "0",
        "--seed",
        str(seed),
        *length,
        *device,
    ]
    call(command, folder / "train.log", {**os.environ, "samnet_results": str(folder / "results")})


def write_tables(rows: list[Row], options: argparse.Namespace) -> None:
    machine, written = (
        describe_machine(choose_device(options.device)),
        time.strftime("%Y-%m-%d %H:%M"),
    )
    heading = (
        f"{machine['processor']}, {machine['threads']} threads, device {machine['device']}; torch {machine['torch']}, "
        f"Python {machine['python']}, samnet {machine['samnet']}; {written}"
    )
    arguments = {key: str(value) for key, value in vars(options).items()}
    write_rows(options.output / "ablation.csv", rows, Row)
    write_text(options.output / "ablation.md", f"{heading}\n\n{describe(rows)}")
    write_json(
        options.output / "ablation.json",
        {"machine": machine, "written": written, "arguments": arguments},
    )


if __name__ == "__main__":
    start(main)
