"""The results of an ablation as markdown: for each decision its choices, and which is best."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import isnan, sqrt
from statistics import mean, stdev
from typing import Any

TOLERANCE = 0.005
_COLUMNS = (
    "choice",
    "other values that follow",
    "Dice",
    "difference +- standard error",
    "Dice of each class",
    "steps",
    "seconds",
)


@dataclass(frozen=True)
class Row:
    """One run.

    Attributes:
        dataset: Name of the data set.
        decision: Name of the decision.
        choice: Name of the choice.
        is_planned: Whether the plan makes this choice without settings.
        follows: The other values that differ from the plan because of the choice.
        configuration: Name of the configuration.
        cases: Number of training cases.
        validation_cases: Number of scored cases.
        seed: Seed of the choice of cases and of the training.
        length: Length of the training run as given, such as `250 steps`.
        dice: Mean over foreground classes and validation cases.
        per_class: Name and Dice of each class.
        per_case: Dice of each case, in the order of their names.
        steps: Training steps that were made.
        seconds: Training time in seconds.
        run: Name of the folder of the run.
    """

    dataset: str
    decision: str
    choice: str
    is_planned: bool
    follows: str
    configuration: str
    cases: int
    validation_cases: int
    seed: int
    length: str
    dice: float
    per_class: str
    per_case: tuple[float, ...]
    steps: int
    seconds: float
    run: str


def describe(rows: Sequence[Row]) -> str:
    """Return a section for each decision: first over all data sets, then for each.

    Args:
        rows: The runs.

    Returns:
        Markdown.
    """
    sections = []
    for decision in distinct(row.decision for row in rows):
        of_decision = [row for row in rows if row.decision == decision]
        datasets = distinct(row.dataset for row in of_decision)
        sections.append(f"## {decision}")
        if len(datasets) > 1:
            sections.append(_overview(of_decision, datasets))
        for dataset in datasets:
            of_dataset = [row for row in of_decision if row.dataset == dataset]
            sections += [f"### {decision}, {dataset}", _details(of_dataset), verdict(of_dataset)]
    return "\n\n".join(sections) + "\n"


def verdict(rows: Sequence[Row]) -> str:
    """Say which choice is best, and how far the plan's choice is behind it.

    Args:
        rows: The runs of one decision on one data set.

    Returns:
        One or two sentences.
    """
    dice = _dice_by_choice(rows)
    planned = next((row.choice for row in rows if row.is_planned), None)
    if planned is None or len(dice) == 1:
        return "Not enough runs yet."
    best = max(dice, key=lambda choice: dice[choice])
    if best == planned:
        return f"Best of {len(dice)}: {best}, which is the plan's choice."
    behind = dice[best] - dice[planned]
    place = "within" if behind <= TOLERANCE else "not within"
    return (
        f"Best of {len(dice)}: {best}. "
        f"The plan's choice, {planned}, is {behind:.3f} behind: {place} {TOLERANCE:g}."
    )


def _overview(rows: Sequence[Row], datasets: Sequence[str]) -> str:
    """Mean Dice of each choice (rows) on each data set (columns), the planned choice in bold."""
    lines = [_line(["choice", *datasets]), _line(["---"] * (len(datasets) + 1))]
    for choice in distinct(row.choice for row in rows):
        cells = [choice]
        for dataset in datasets:
            found = [row for row in rows if (row.choice, row.dataset) == (choice, dataset)]
            dice = f"{mean(row.dice for row in found):.3f}" if found else ""
            cells.append(f"**{dice}**" if found and found[0].is_planned else dice)
        lines.append(_line(cells))
    return "\n".join(lines)


def _details(rows: Sequence[Row]) -> str:
    planned = [row for row in rows if row.is_planned]
    first = rows[0]
    seeds = distinct(str(row.seed) for row in rows)
    heading = (
        f"`{first.configuration}`, {first.cases} training cases, "
        f"{first.validation_cases} validation cases of fold 0, "
        f"{first.length} each, seed{'s' if len(seeds) > 1 else ''} {', '.join(seeds)}."
    )
    lines = [heading, "", _line(_COLUMNS), _line(["---"] * len(_COLUMNS))]
    for choice in distinct(row.choice for row in rows):
        found = [row for row in rows if row.choice == choice]
        lines.append(_line(_cells(found, planned)))
    return "\n".join(lines)


def _cells(found: Sequence[Row], planned: Sequence[Row]) -> list[str]:
    """The cells of one choice in a table of details, from its runs and the plan's own runs."""
    choice, is_planned = found[0].choice, found[0].is_planned
    return [
        f"**{choice}** (planned)" if is_planned else choice,
        found[0].follows,
        f"{mean(row.dice for row in found):.3f}",
        "" if is_planned or not planned else _difference(found, planned),
        "; ".join(row.per_class for row in found),
        f"{mean(row.steps for row in found):.0f}",
        f"{mean(row.seconds for row in found):.0f}",
    ]


def _difference(rows: Sequence[Row], planned: Sequence[Row]) -> str:
    """Mean Dice minus that of the plan's choice, with the standard error over cases.

    The same cases are scored for both. The error says nothing about what another seed would change.
    With fewer than two cases that have a difference, there is no error.
    """
    difference = mean(row.dice for row in rows) - mean(row.dice for row in planned)
    by_seed = {row.seed: row.per_case for row in planned}
    of_seeds = [
        _differences(row.per_case, by_seed[row.seed]) for row in rows if row.seed in by_seed
    ]
    means = [mean(values) for values in zip(*of_seeds, strict=True)]
    of_cases = [value for value in means if not isnan(value)]
    if len(of_cases) < 2:
        return f"{difference:+.3f}"
    return f"{difference:+.3f} +- {stdev(of_cases) / sqrt(len(of_cases)):.3f}"


def _differences(ones: Sequence[float], others: Sequence[float]) -> list[float]:
    return [one - other for one, other in zip(ones, others, strict=True)]


def _dice_by_choice(rows: Sequence[Row]) -> dict[str, float]:
    """The mean over seeds."""
    means = {}
    for choice in distinct(row.choice for row in rows):
        means[choice] = mean(row.dice for row in rows if row.choice == choice)
    return means


def distinct(values: Iterable[Any]) -> list[Any]:
    """Return values once each, in their order.

    Args:
        values: The values.

    Returns:
        The different ones.
    """
    return list(dict.fromkeys(values))


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
