"""The runs of `few_shot.py`: the table that keeps them, its summary and its plot."""

from __future__ import annotations

import csv
from collections import defaultdict
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Row:
    """One run.

    Attributes:
        way: A configuration, with changed values after colons.
        cases: Number of training cases, or of patients if `unit` says so; 0 stands for all.
        seed: Seed of the choice of cases and of the training.
        minutes: Training time in minutes.
        dice: Mean over foreground classes and test cases.
        steps: Training steps that were made.
        per_class: Label value and Dice of each class.
        unit: `cases` or `patients`.
    """

    way: str
    cases: int
    seed: int
    minutes: float
    dice: float
    steps: int
    per_class: str
    unit: str = "cases"

    @property
    def folder(self) -> str:
        """Name of the run's folder; no two runs have the same."""
        way = self.way.replace(":", "_").replace("/", "_")
        patients = "patients-" if self.unit == "patients" else ""
        return f"{way}-{patients}{self.cases}-{self.seed}-{self.minutes:g}"


def read_rows(table: Path) -> list[Row]:
    """Read the finished runs.

    Args:
        table: The CSV file.

    Returns:
        The runs; none where there is no such file.
    """
    if not table.is_file():
        return []
    readers: dict[str, Any] = {"int": int, "float": float, "str": str}
    kinds = {field.name: readers[str(field.type)] for field in fields(Row)}
    rows = []
    with table.open(encoding="utf-8", newline="") as handle:
        for cells in csv.DictReader(handle):
            values = {key: kinds[key](text) for key, text in cells.items()}
            rows.append(Row(**values))
    return rows


def grouped(rows: list[Row]) -> dict[str, dict[int, list[float]]]:
    """Collect the Dice of every seed.

    Args:
        rows: The runs.

    Returns:
        Way -> number of cases -> Dice of each seed.
    """
    groups: dict[str, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        groups[row.way][row.cases].append(row.dice)
    return groups


def summary(rows: list[Row]) -> str:
    """Return the mean and the range of Dice for each way and number of cases, as text.

    Args:
        rows: The runs, all of one unit.
    """
    lines = [
        f"{'way':<40} {rows[0].unit if rows else 'cases'}  Dice (mean of seeds, lowest to highest)"
    ]
    for way, by_cases in grouped(rows).items():
        for cases, dice in sorted(by_cases.items()):
            spread = f"{np.mean(dice):.3f}  ({min(dice):.3f} to {max(dice):.3f}, {len(dice)} seeds)"
            lines.append(f"{way:<40} {cases or 'all':>5}  {spread}")
    return "\n".join(lines)


def draw(rows: list[Row], file: Path, name: str, total: int) -> None:
    """Plot Dice against the number of training cases, one line for each way.

    Args:
        rows: The runs, all of one unit and one training time.
        file: The image file to write.
        name: Name of the data set.
        total: The number of cases or patients that 0 in a row stands for.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for way, by_cases in grouped(rows).items():
        points = sorted((cases or total, dice) for cases, dice in by_cases.items())
        numbers = [number for number, _ in points]
        means = [np.mean(dice) for _, dice in points]
        (line,) = axes.plot(numbers, means, marker="o", label=way)
        for number, dice in points:
            axes.scatter([number] * len(dice), dice, color=line.get_color(), s=10, alpha=0.5)
    axes.set_xscale("log")
    ticks = sorted({row.cases or total for row in rows})
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.minorticks_off()
    axes.set_xlabel(f"training {rows[0].unit}" if rows else "training cases")
    axes.set_ylabel("mean foreground Dice on the test cases")
    axes.set_title(f"{name}, {rows[0].minutes:g} minutes of training each" if rows else name)
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(file, dpi=120)
