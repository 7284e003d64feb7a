r"""Compare each decision of a plan (zoom, views, rank, heads, ...) with its alternatives.

Every choice is planned as `samnet_plan --set` plans it, so values that depend on it follow. It is
trained and validated by `samnet_train`: fold 0, equal steps or minutes, the same cases and seed.
Scores are Dice on validation cases. Images and labels kept for testing are not used, because
rules of the planner are made from these figures.

    python benchmarks/ablate.py 4 --decision zoom --minutes 5 --output OUT
    python benchmarks/ablate.py 4 20 --decision rank heads --steps 250 --cases 16 --seeds 0 1 \
        --output OUT

Raw data are read from `samnet_raw`. Plans, prepared cases and training runs lie in OUT, which no
other command uses. A finished training run is not repeated, whichever decision it was made for.
After an interruption, the same command resumes. Writes OUT/ablation.csv, OUT/ablation.md and, for
machine and versions, OUT/ablation.json after every run.
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
from measuring import describe_machine, machine_line
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
from samnet.evaluation.evaluator import SUMMARY_FILE
from samnet.fingerprint.extract import extract_fingerprint
from samnet.fingerprint.records import Fingerprint
from samnet.models.model_folder import ModelFolder
from samnet.plan.plan import Plan
from samnet.planning.planner import make_plan
from samnet.preprocessing.prepare import prepare_dataset
from samnet.training.dry_run import measure_step
from samnet.training.run_cases import choose_cases


@dataclass(frozen=True)
class Subject:
    """A data set to try choices on.

    Attributes:
        dataset: The raw data set.
        fingerprint: Its fingerprint.
        plan: The plan that samnet makes of it without settings.
        fold: `train`, the cases to draw from for training, and `val`, the cases to score.
    """

    dataset: RawDataset
    fingerprint: Fingerprint
    plan: Plan
    fold: dict[str, list[str]]


def main() -> None:
    """Run the ablation.

    Raises:
        SamnetError: Some runs failed; the others are finished.
    """
    options = parse()
    # Before the data sets are found: their paths are fixed then.
    os.environ["samnet_preprocessed"] = str(options.output / "preprocessed")
    datasets = [RawDataset.load(identifier) for identifier in options.datasets]
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
    """Return the options of the command line."""
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
    length.add_argument("--steps", type=positive_int, help="length of every training run")
    length.add_argument(
        "--minutes",
        type=positive_float,
        help="length of every training run, on a machine that does nothing else",
    )
    parser.add_argument(
        "--seeds",
        type=non_negative_int,
        nargs="+",
        default=[0],
        help="seeds of the choice of cases and of the training (default: 0)",
    )
    parser.add_argument(
        "--cases", type=positive_int, help="most cases to train on (default: all of fold 0)"
    )
    parser.add_argument(
        "--validation-cases",
        type=positive_int,
        default=20,
        help="most cases to score (default: 20)",
    )
    parser.add_argument(
        "--config", default="lora", help="configuration of the plan (default: lora)"
    )
    parser.add_argument(
        "--device",
        default=None,
        help="device to plan for and train on (default: the best one here)",
    )
    parser.add_argument(
        "--processes",
        type=non_negative_int,
        default=default_processes(),
        help="worker processes that measure and prepare cases (default: one a core, at most 8); "
        "0 does it in this process",
    )
    parser.add_argument(
        "--finished",
        action="store_true",
        help="train nothing; write the tables of the finished runs",
    )
    parser.add_argument("--output", type=lambda text: Path(text).resolve(), required=True)
    return parser.parse_args()


def load_subject(dataset: RawDataset, options: argparse.Namespace) -> Subject:
    """Measure and plan a data set, and choose the cases to score.

    Args:
        dataset: The raw data set.
        options: The options of the script.

    Returns:
        The data set with its fingerprint, plan and fold 0. The cases to score are spread evenly
        over the fold's validation cases.

    Raises:
        UserError: There is no such configuration, or all cases are of one patient.
    """
    fingerprint = extract_fingerprint(dataset, options.processes)
    machine, requested = detect_machine(options.device), [options.config]
    plan = make_plan(fingerprint, machine, measure=measure_step, requested=requested)
    plan.configuration(options.config)
    fold = make_splits(list(fingerprint.cases), plan.patient_key)[0]
    if set(fold["train"]) & set(fold["val"]):
        raise UserError(f"{dataset.name}: a single patient: there are no cases to validate on")
    number = min(options.validation_cases, len(fold["val"]))
    chosen = np.linspace(0, len(fold["val"]) - 1, number).round().astype(int)
    scored = [fold["val"][index] for index in chosen]
    return Subject(dataset, fingerprint, plan, {**fold, "val": scored})


def ablate(
    decision: str, subject: Subject, options: argparse.Namespace, rows: list[Row]
) -> list[str]:
    """Run every choice of a decision with every seed, and write the tables after each.

    Args:
        decision: Name of the decision.
        subject: The data set to try the choices on.
        options: The options of the script.
        rows: All rows so far; the new ones are added.

    Returns:
        One message for each run that failed.
    """
    name, failures = subject.dataset.name, []
    choices = find_choices(
        decision, subject.plan, subject.fingerprint, options.config, measure_step
    )
    if not choices:
        print(f"{decision}, {name}: nothing else can be chosen", flush=True)
        return []
    for seed in options.seeds:
        for choice in choices:
            label = f"{decision}, {name}, {choice.name}, seed {seed}"
            try:
                row = run_choice(decision, choice, subject, seed, options)
            except SamnetError as error:
                failures.append(f"{label}: {error}")
                continue
            if row is not None:
                rows.append(row)
                write_tables(rows, options)
                print(f"{label}: {row.dice:.3f}", flush=True)
    found = [row for row in rows if (row.decision, row.dataset) == (decision, name)]
    print(f"{decision}, {name}: {verdict(found)}", flush=True)
    return failures


def run_choice(
    decision: str, choice: Choice, subject: Subject, seed: int, options: argparse.Namespace
) -> Row | None:
    """Train a choice, unless that is done already, and read its scores.

    Args:
        decision: Name of the decision.
        choice: The choice to train.
        subject: The data set to train on.
        seed: Seed of the choice of cases and of the training.
        options: The options of the script.

    Returns:
        The row of the run; None where it is not finished and `--finished` is given.

    Raises:
        SamnetError: Preparation or training failed.
    """
    name, fold = subject.dataset.name, subject.fold
    number = min(options.cases or len(fold["train"]), len(fold["train"]))
    fold = {"train": choose_cases([fold], "0", number, seed).training, "val": fold["val"]}
    length = f"{options.steps} steps" if options.steps else f"{options.minutes:g} minutes"
    # Everything that decides the result: runs with the same key are the same run.
    contents = [
        subject.plan.data_key,
        to_json(choice.plan.configuration(options.config)),
        fold,
        seed,
        length,
    ]
    key = hashlib.sha256(json.dumps(contents, sort_keys=True).encode()).hexdigest()[:12]
    folder = options.output / "runs" / f"{name}-{key}"
    run = ModelFolder(folder / "results" / name / options.config).run("0")
    summary = run.validation / SUMMARY_FILE
    if not summary.is_file():
        if options.finished:
            return None
        train(choice.plan, fold, subject.dataset, seed, folder, options)
    dice = read_dice(summary)
    by_class = zip(choice.plan.label_scheme.class_names, dice.by_class.values(), strict=True)
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
    """Save a plan, prepare the cases that are not prepared yet, and train by the plan.

    Args:
        plan: The plan to train by.
        fold: `train` and `val`, the cases to train on and to score.
        dataset: The raw data set.
        seed: Seed of the training.
        folder: The folder of the run.
        options: The options of the script.

    Raises:
        SamnetError: Preparation or training failed.
    """
    configuration = plan.configuration(options.config)
    needed = {*fold["train"], *fold["val"]}
    cases = tuple(case for case in dataset.cases if case.identifier in needed)
    prepare_dataset(replace(dataset, cases=cases), configuration.views, options.processes)
    plan.save(dataset.folder.plan_file)
    write_json(dataset.folder.splits_file, [fold])
    # One validation, at the end: all choices are measured at the same point, and none of their
    # training time goes to it.
    if options.steps:
        length = ["--steps", str(options.steps)]
        steps_per_epoch = options.steps
    else:
        length = ["--max-time", f"{options.minutes * 60:g}s"]
        steps_per_epoch = configuration.steps
    device = ["--device", options.device] if options.device else []
    command = [*SAMNET, "train", dataset.name, options.config, "0", "--seed", str(seed)]
    command += [*length, "--set", f"steps_per_epoch={steps_per_epoch}", *device]
    call(command, folder / "train.log", {**os.environ, "samnet_results": str(folder / "results")})


def write_tables(rows: list[Row], options: argparse.Namespace) -> None:
    """Write the runs so far as CSV and markdown, and machine and options as JSON.

    Args:
        rows: All rows so far.
        options: The options of the script.
    """
    machine = describe_machine(choose_device(options.device))
    written = time.strftime("%Y-%m-%d %H:%M")
    arguments = {key: str(value) for key, value in vars(options).items()}
    write_rows(options.output / "ablation.csv", rows, Row)
    write_text(
        options.output / "ablation.md",
        f"{machine_line(machine)}; {written}\n\n{describe(rows)}",
    )
    write_json(
        options.output / "ablation.json",
        {"machine": machine, "written": written, "arguments": arguments},
    )


if __name__ == "__main__":
    start(main)
