"""The table of all cases, the worst first."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from samnet.evaluation.volumes import PIXELS, VOXELS
from samnet.reporting.numbers import UNKNOWN, show_score, show_size, show_whole
from samnet.reporting.source import ClassResult, ReportedCase, Source

MOST_ROWS = 2000


@dataclass(frozen=True)
class Cell:
    """A cell of the table.

    Attributes:
        text: What it shows.
        key: The number that it is sorted by; None for unknown numbers, which come last.
    """

    text: str
    key: float | None


@dataclass(frozen=True)
class Row:
    """A row of the table.

    Attributes:
        name: The name of the case.
        fold: The fold that held it out; empty for none.
        cells: Its numbers.
        warnings: Sentences about it.
        viewer: The number of its slices on the page, from 1; 0 for none.
    """

    name: str
    fold: str
    cells: tuple[Cell, ...]
    warnings: tuple[str, ...]
    viewer: int


@dataclass(frozen=True)
class CaseTable:
    """The table.

    Attributes:
        columns: The titles of the numbers.
        rows: A row for each case, at most `MOST_ROWS`.
        num_left_out: How many cases have no row.
        has_folds: Whether cases belong to folds.
        has_warnings: Whether any case has a warning.
    """

    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    num_left_out: int
    has_folds: bool
    has_warnings: bool


def build_table(source: Source, shown: Sequence[str]) -> CaseTable:
    """Build the table of all cases.

    Args:
        source: What the report is about.
        shown: The names of the cases whose slices the page shows, in their order.
    """
    with_expectations = has_expectations(source)
    with_empty_slices = _has_empty_slices(source)
    columns: list[str] = []
    if source.summary is not None:
        columns += _mean_of(["mean Dice"], source)
        columns += [f"Dice {name}" for name in source.class_names]
    if with_expectations:
        columns += [f"expected Dice {name}" for name in source.class_names]
    for name in source.class_names:
        columns.append(f"{name}, predicted ({source.shown_unit})")
        columns.append(f"{name}, {_second_title(source)}")
        if with_empty_slices:
            columns.append(f"{name}, on empty {source.slice_word}s ({source.shown_unit})")
    ordered = sorted(source.cases, key=_rank)
    viewers = {name: number for number, name in enumerate(shown, 1)}
    rows = []
    for case in ordered[:MOST_ROWS]:
        viewer = viewers.get(case.identifier, 0)
        rows.append(
            _build_row(
                case,
                source,
                viewer,
                with_expectations=with_expectations,
                with_empty_slices=with_empty_slices,
            )
        )
    return CaseTable(
        columns=tuple(columns),
        rows=tuple(rows),
        num_left_out=len(ordered) - len(rows),
        has_folds=len({case.fold for case in source.cases}) > 1,
        has_warnings=any(case.warnings for case in source.cases),
    )


def _rank(case: ReportedCase) -> tuple[bool, float, str]:
    dice = case.expected_dice if math.isnan(case.mean_dice) else case.mean_dice
    return math.isnan(dice), 0.0 if math.isnan(dice) else dice, case.identifier


def _build_row(
    case: ReportedCase,
    source: Source,
    viewer: int,
    *,
    with_expectations: bool,
    with_empty_slices: bool,
) -> Row:
    has_scores = source.summary is not None
    results = [case.results.get(name, ClassResult()) for name in source.class_names]
    cells: list[Cell] = []
    if has_scores:
        dice = [*_mean_of([case.mean_dice], source), *(result.dice for result in results)]
        cells += [Cell(show_score(value), _key(value)) for value in dice]
    if with_expectations:
        cells += [_expectation_cell(result) for result in results]
    show = show_whole if source.volume_unit in (PIXELS, VOXELS) else show_size
    for result in results:
        cells.append(Cell(show(result.predicted), _key(result.predicted)))
        second = result.true if has_scores else result.parts
        text = show(second) if has_scores else show_whole(second)
        cells.append(Cell(text, _key(second)))
        if with_empty_slices:
            cells.append(Cell(show(result.on_empty_slices), _key(result.on_empty_slices)))
    return Row(case.identifier, case.fold, tuple(cells), case.warnings, viewer)


def _mean_of(column: list[Any], source: Source) -> list[Any]:
    """Return the column of the means; nothing for a single class, which is its own mean."""
    return column if len(source.class_names) > 1 else []


def has_expectations(source: Source) -> bool:
    """Tell whether the model expects a Dice of any case.

    Args:
        source: What the report is about.
    """
    return any(math.isfinite(case.expected_dice) for case in source.cases)


def _has_empty_slices(source: Source) -> bool:
    """Tell whether volumes on slices without a structure are known; older versions lack them."""
    for case in source.cases:
        if any(math.isfinite(result.on_empty_slices) for result in case.results.values()):
            return True
    return False


def _expectation_cell(result: ClassResult) -> Cell:
    expected = result.expected
    if expected is None or expected.dice is None:
        return Cell(UNKNOWN, None)
    text = f"{expected.dice:.2f}"
    if expected.low is not None and expected.high is not None:
        text += f" ({expected.low:.2f} to {expected.high:.2f})"
    return Cell(text, expected.dice)


def _second_title(source: Source) -> str:
    """Return what is shown of a class next to its predicted volume."""
    return "parts" if source.summary is None else f"true ({source.shown_unit})"


def _key(value: float) -> float | None:
    return value if math.isfinite(value) else None
