"""Compare the weights of single steps with their averages over steps, within the same runs.

Each run trains on a few cases, and averages its weights with several decays at once
(`samnet/training/weight_average.py`). At some steps, the weights of the step and all averages
are scored on labelled cases that the run does not train on. So what is compared differs in the
average alone, and the load of the machine has no effect.

    python benchmarks/weight_average.py 4 --cases 5 --steps 300 --seeds 0 1 2 \
        --ways lora scratch --output OUT
    python benchmarks/weight_average.py 20 --patients --cases 2 --output OUT

The data set has to be planned and prepared. Writes OUT/weight_average.csv, a row for each run, step
and decay, and prints the means over seeds.
"""

from __future__ import annotations

import argparse
import csv
import os
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from runs import start, write_rows

from samnet.cli.settings import key_and_value
from samnet.dataset.splits import patient_of
from samnet.models.model_folder import ALL_CASES
from samnet.planning.planned_dataset import PlannedDataset
from samnet.preprocessing.storage import StoredCase
from samnet.training.distributed import SINGLE_PROCESS
from samnet.training.loop import Trainer
from samnet.training.open_run import open_run
from samnet.training.options import TrainingOptions
from samnet.training.resolve import ResolvedRun, resolve_run
from samnet.training.run_cases import load_cases, names_in_splits
from samnet.training.validation import validate
from samnet.training.weight_average import WeightAverage


@dataclass(frozen=True)
class Row:
    """The score of one average in one run.

    Attributes:
        way: The configuration, with changed values after colons.
        cases: Number of training cases or patients.
        seed: Seed of the choice of cases and of the training.
        step: After how many steps.
        decay: Decay of the average; 0 for the weights of the step.
        dice: Mean Dice over classes of the held-out cases.
    """

    way: str
    cases: int
    seed: int
    step: int
    decay: float
    dice: float


def main() -> None:
    """Train what the table lacks, and print the means over seeds."""
    options = parse()
    options.output.mkdir(parents=True, exist_ok=True)
    os.environ["samnet_results"] = str(options.output / "results")
    table = options.output / "weight_average.csv"
    rows = read_rows(table)
    for seed in options.seeds:
        for way in options.ways:
            planned = (way, options.cases, seed)
            if planned not in {(row.way, row.cases, row.seed) for row in rows}:
                rows += train(way, seed, options)
                write_rows(table, rows, Row)
    print(summary(rows))


def parse() -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("dataset", help="id or name of a planned and prepared data set")
    parser.add_argument("--cases", type=int, default=5, help="training cases (default: 5)")
    parser.add_argument(
        "--patients", action="store_true", help="the number of cases is one of patients"
    )
    parser.add_argument("--steps", type=int, default=300, help="steps of a run (default: 300)")
    parser.add_argument(
        "--scored-steps",
        type=int,
        nargs="+",
        default=[100, 200, 300],
        help="after which steps to score (default: 100 200 300)",
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument(
        "--ways", nargs="+", default=["lora", "scratch"], help="CONFIG or CONFIG:KEY=VALUE:..."
    )
    parser.add_argument("--decays", type=float, nargs="+", default=[0.9, 0.97, 0.99, 0.997])
    parser.add_argument(
        "--held-out", type=int, default=24, help="at most so many cases to score (default: 24)"
    )
    parser.add_argument("--output", type=Path, required=True)
    return parser.parse_args()


def train(way: str, seed: int, options: argparse.Namespace) -> list[Row]:
    """Train one run, and score its weights and their averages.

    Args:
        way: The configuration, with changed values after colons.
        seed: Seed of the choice of cases and of the training.
        options: The options of the script.

    Returns:
        The rows of the run.
    """
    dataset = PlannedDataset.find(options.dataset)
    configuration, *changes = way.split(":")
    settings = dict(key_and_value(change) for change in changes)
    number = "num_patients" if options.patients else "num_cases"
    request = TrainingOptions(
        settings={**settings, "steps": options.steps},
        seed=seed,
        device="cpu",
        workers=0,
        restart=True,
        **{number: options.cases},
    )
    run = resolve_run(dataset, configuration, ALL_CASES, request)
    cases = held_out_cases(run, options.held_out)
    rows: list[Row] = []
    with open_run(run, SINGLE_PROCESS) as trainer:
        averages = [WeightAverage(trainer.network, decay) for decay in (0.0, *options.decays)]

        def add(step: int, loss: float) -> None:
            for average in averages:
                average.add_step()
            if step not in options.scored_steps:
                return
            for average in averages:
                dice = score(trainer, average, cases)
                rows.append(Row(way, options.cases, seed, step, average.decay, round(dice, 5)))
                print(rows[-1], flush=True)

        trainer.on_step = add
        trainer.validator = lambda *_, **__: np.full(len(run.plan.label_scheme.class_names), np.nan)
        trainer.run()
    return rows


def held_out_cases(run: ResolvedRun, number: int) -> list[StoredCase]:
    """Choose labelled cases of other patients than those that a run trains on.

    Args:
        run: The run.
        number: At most so many, evenly over their names.
    """
    key = run.plan.patient_key
    trained = {patient_of(name, key) for name in run.cases.training}
    names = names_in_splits(run.dataset.splits)
    others = [name for name in names if patient_of(name, key) not in trained]
    positions = np.linspace(0, len(others) - 1, min(number, len(others))).round().astype(int)
    chosen = [others[position] for position in positions]
    views = run.plan.single_configuration.views
    return list(load_cases(run.dataset.folder.slices, chosen, views))


def score(trainer: Trainer, average: WeightAverage, cases: Sequence[StoredCase]) -> float:
    """Return the mean Dice with an average, over classes.

    Args:
        trainer: The trainer of the network.
        average: The average.
        cases: The cases to score.
    """
    task = trainer.task
    with average.in_network():
        dice = validate(trainer.network, task.configuration, cases, task.label_scheme)
    return float(np.nanmean(dice))


def read_rows(table: Path) -> list[Row]:
    """Read the rows of an earlier call.

    Args:
        table: The file, which may be missing.
    """
    if not table.is_file():
        return []
    types = {"way": str, "cases": int, "seed": int, "step": int, "decay": float, "dice": float}
    assert set(types) == {field.name for field in fields(Row)}
    with table.open(encoding="utf-8", newline="") as handle:
        lines = list(csv.DictReader(handle))
    rows = []
    for line in lines:
        values = {name: types[name](value) for name, value in line.items()}
        rows.append(Row(**values))
    return rows


def summary(rows: Sequence[Row]) -> str:
    """Return the means over seeds, each with its difference to the weights of the step.

    Args:
        rows: All rows.
    """
    lines = []
    for way, cases, step in sorted({(row.way, row.cases, row.step) for row in rows}):
        alike = [row for row in rows if (row.way, row.cases, row.step) == (way, cases, step)]
        plain = {row.seed: row.dice for row in alike if not row.decay}
        parts = [f"step {np.mean(list(plain.values())):.4f}"]
        for decay in sorted({row.decay for row in alike if row.decay}):
            gains = [row.dice - plain[row.seed] for row in alike if row.decay == decay]
            each = " ".join(f"{100 * gain:+.1f}" for gain in gains)
            parts.append(f"{decay:g} {100 * np.mean(gains):+.2f} ({each})")
        lines.append(f"{way}, {cases} cases, after {step} steps: " + "; ".join(parts))
    return "\n".join(lines)


if __name__ == "__main__":
    start(main)
