"""What an ablation found, as markdown: for each decision the choices, and which is best."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import isnan, sqrt
from statistics import mean, stdev

TOLERANCE = 0.005


@dataclass(frozen=True)
class Row:
    """One run.

    follows: what else is other than planned because of the choice. length: of the training, as asked for.
    dice: mean over foreground classes and validation cases. per_class: by name. per_case: in the order of their names.
    seconds: of training.
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
    """A section for each decision: over all data sets, then of each."""
    sections = []
    for decision in _distinct(row.decision for row in rows):
        of_decision = [row for row in rows if row.decision == decision]
        datasets = _distinct(row.dataset for row in of_decision)
        sections.append(f"## {decision}")
        if len(datasets) > 1:
            sections.append(_overview(of_decision, datasets))
        for dataset in datasets:
            of_dataset = [row for row in of_decision if row.dataset == dataset]
            sections += [f"### {decision}, {dataset}", _details(of_dataset), verdict(of_dataset)]
    return "\n\n".join(sections) + "\n"


def verdict(rows: Sequence[Row]) -> str:
    """Of the runs there are for one decision on one data set: which is best, and how far from it the plan's is."""
    dice = _dice_by_choice(rows)
    planned = next((row.choice for row in rows if row.is_planned), None)
    if planned is None or len(dice) == 1:
        return "Not enough runs yet."
    best = max(dice, key=lambda choice: dice[choice])
    if best == planned:
        return f"Best of {len(dice)}: {best}, which is the plan's choice."
    behind = dice[best] - dice[planned]
    place = "within" if behind <= TOLERANCE else "not within"
    return f"Best of {len(dice)}: {best}. The plan's choice, {planned}, is {behind:.3f} behind: {place} {TOLERANCE:g}."


def _overview(rows: Sequence[Row], datasets: Sequence[str]) -> str:
    """Mean Dice of each choice (rows) on each data set (columns), what is planned in bold."""
    lines = [_line(["choice", *datasets]), _line(["---"] * (len(datasets) + 1))]
    for choice in _distinct(row.choice for row in rows):
        cells = [choice]
        for dataset in datasets:
            found = [row for row in rows if (row.choice, row.dataset) == (choice, dataset)]
            dice = f"{mean(row.dice for row in found):.3f}" if found else ""
            cells.append(f"**{dice}**" if found and found[0].is_planned else dice)
        lines.append(_line(cells))
    return "\n".join(lines)


def _details(rows: Sequence[Row]) -> str:
    dice = _dice_by_choice(rows)
    planned = [row for row in rows if row.is_planned]
    first = rows[0]
    seeds = _distinct(str(row.seed) for row in rows)
    heading = (
        f"`{first.configuration}`, {first.cases} training cases, {first.validation_cases} validation cases of fold 0, "
        f"{first.length} each, seed{'s' if len(seeds) > 1 else ''} {', '.join(seeds)}."
    )
    columns = [
        "choice",
        "which changes also",
        "Dice",
        "difference +- its error",
        "of each class",
        "steps",
        "seconds",
    ]
    lines = [heading, "", _line(columns), _line(["---"] * len(columns))]
    for choice in dice:
        found = [row for row in rows if row.choice == choice]
        is_planned = found[0].is_planned
        cells = [
            f"**{choice}** (planned)" if is_planned else choice,
            found[0].follows,
            f"{dice[choice]:.3f}",
            "" if is_planned or not planned else _difference(found, planned),
            "; ".join(row.per_class for row in found),
            f"{mean(row.steps for row in found):.0f}",
            f"{mean(row.seconds for row in found):.0f}",
        ]
        lines.append(_line(cells))
    return "\n".join(lines)


def _difference(rows: Sequence[Row], planned: Sequence[Row]) -> str:
    """Mean Dice less that of the plan's choice, with the standard error of its mean over cases where there is one.

    The same cases are scored for both. Of what another seed would change, the error says nothing.
    """
    difference = mean(row.dice for row in rows) - mean(row.dice for row in planned)
    by_seed = {row.seed: row.per_case for row in planned}
    pairs = [
        zip(row.per_case, by_seed[row.seed], strict=True) for row in rows if row.seed in by_seed
    ]
    of_seeds = [[one - other for one, other in pair] for pair in pairs]
    of_cases = [value for value in map(mean, zip(*of_seeds, strict=True)) if not isnan(value)]
    if len(of_cases) < 2:
        return f"{difference:+.3f}"
    return f"{difference:+.3f} +- {stdev(of_cases) / sqrt(len(of_cases)):.3f}"


def _dice_by_choice(rows: Sequence[Row]) -> dict[str, float]:
    """The mean over seeds."""
    return {
        choice: mean(row.dice for row in rows if row.choice == choice)
        for choice in _distinct(row.choice for row in rows)
    }


def _distinct(values: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(values))


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
