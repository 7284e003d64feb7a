"""The results of `seed_ablations.py`: a table and a figure for each claim."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

from ablation_tables import distinct
from seed_ablation_ways import CLAIMS


@dataclass(frozen=True)
class Row:
    """One run.

    Attributes:
        dataset: Name of the data set.
        claim: Name of the claim.
        way: Name of the way.
        patients: Number of training patients; 0 for all.
        seed: Seed of the choice of patients and of the training.
        steps: Training steps.
        dice: Mean over foreground classes and held-out cases.
        per_class: Name and Dice of each class.
        losses: Mean training loss of each epoch.
        seconds: Training time in seconds.
        run: Name of the folder of the run.
    """

    dataset: str
    claim: str
    way: str
    patients: int
    seed: int
    steps: int
    dice: float
    per_class: str
    losses: tuple[float, ...]
    seconds: float
    run: str


def describe(rows: Sequence[Row]) -> str:
    """Return a section for each claim, with a table for each data set.

    Args:
        rows: The runs.

    Returns:
        Markdown.
    """
    sections = []
    for claim in distinct(row.claim for row in rows):
        sections.append(f"## {claim}\n\n{CLAIMS[claim].statement}.")
        for dataset in distinct(row.dataset for row in rows):
            found = [row for row in rows if (row.claim, row.dataset) == (claim, dataset)]
            if found:
                sections.append(f"### {claim}, {dataset}\n\n{_table(found)}")
    return "\n\n".join(sections) + "\n"


def _table(rows: Sequence[Row]) -> str:
    lines = [
        "| way | patients | steps | Dice of each seed | mean Dice | last training loss |",
        "|---|---|---|---|---|---|",
    ]
    for patients in distinct(row.patients for row in rows):
        for way in distinct(row.way for row in rows):
            group = [row for row in rows if (row.way, row.patients) == (way, patients)]
            if not group:
                continue
            dice = ", ".join(f"{row.dice:.3f}" for row in group)
            steps = ", ".join(map(str, distinct([row.steps for row in group])))
            loss = mean(row.losses[-1] for row in group)
            of_seeds = mean(row.dice for row in group)
            cells = (way, str(patients or "all"), steps, dice, f"{of_seeds:.3f}", f"{loss:.3f}")
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def draw(rows: Sequence[Row], file: Path) -> None:
    """Plot each claim on each data set: loss curves, or Dice by the number of patients.

    Args:
        rows: The runs.
        file: The image file to write.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    claims = distinct(row.claim for row in rows)
    datasets = distinct(row.dataset for row in rows)
    size = (5 * len(datasets), 3.5 * len(claims))
    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(len(claims), len(datasets), squeeze=False)
    for claim, line in zip(claims, grid, strict=True):
        for dataset, axes in zip(datasets, line, strict=True):
            found = [row for row in rows if (row.claim, row.dataset) == (claim, dataset)]
            (_draw_patients if CLAIMS[claim].by_patients else _draw_losses)(axes, found)
            axes.set_title(f"{claim}, {dataset}", fontsize="medium")
            axes.grid(alpha=0.3)
            if found:
                axes.legend(fontsize="x-small")
    figure.savefig(file, dpi=120)


def _draw_losses(axes: Any, rows: Sequence[Row]) -> None:
    for way in distinct(row.way for row in rows):
        curves = [row.losses for row in rows if row.way == way]
        # A run may have ended early: the curve is as long as the shortest one.
        means = [mean(losses) for losses in zip(*curves, strict=False)]
        axes.plot(range(1, len(means) + 1), means, marker=".", label=way)
    axes.set_xlabel("epoch")
    axes.set_ylabel("training loss, mean of seeds")


def _draw_patients(axes: Any, rows: Sequence[Row]) -> None:
    for way in distinct(row.way for row in rows):
        of_way = [row for row in rows if row.way == way]
        numbers = sorted({row.patients for row in of_way})
        means = []
        for number in numbers:
            means.append(mean(row.dice for row in of_way if row.patients == number))
        axes.plot(numbers, means, marker="o", label=way)
    axes.set_xlabel("training patients")
    axes.set_ylabel("mean foreground Dice")
