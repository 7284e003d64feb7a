"""The scores of a report: rows of a table, and the lines at the top of the page."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from samnet.evaluation.intervals import ENOUGH_PATIENTS
from samnet.evaluation.policies import EMPTY_SLICES, find_policy
from samnet.evaluation.summary import DISTANCES, tolerance_of
from samnet.evaluation.worst_cases import never_found
from samnet.reporting.agreement import compare_volumes
from samnet.reporting.numbers import (
    is_known,
    show_count,
    show_interval,
    show_names,
    show_score,
    show_size,
)
from samnet.reporting.plan_words import important_values
from samnet.reporting.score_charts import NamedValue, draw_agreement, draw_boxes
from samnet.reporting.source import Source
from samnet.training.steps_done import warn_of_few_steps

_LOW_DICE = 0.5
_SHOWN = {  # the other scores than Dice that are shown -> their titles
    "IoU": "IoU",
    "precision": "precision",
    "recall": "recall",
    "HD95": "HD95",
    "NSD": "NSD",
    "lesion_sensitivity": "lesions found",
    "lesion_F1": "lesion F1",
    EMPTY_SLICES: "on empty slices",
    "clDice": "clDice",
}
_SIZES = (*DISTANCES, EMPTY_SLICES)
_MOST_NAMES = 6


@dataclass(frozen=True)
class ScoreRow:
    """The scores of a class.

    Attributes:
        name: Its name.
        num_cases: In how many cases it has a Dice.
        mean: Mean Dice.
        interval: Its 95 % interval.
        median: Median Dice.
        others: Means of the other scores.
        missed: In how many cases it is in the reference only.
        spurious: In how many cases it is in the prediction only.
    """

    name: str
    num_cases: int
    mean: str
    interval: str
    median: str
    others: tuple[str, ...]
    missed: int
    spurious: int


@dataclass(frozen=True)
class AgreementChart:
    """The agreement of the volumes of a class.

    Attributes:
        name: Its name.
        drawing: The chart; None where no case has the class.
        bias: Mean difference of the volumes.
        limits: The limits of agreement.
    """

    name: str
    drawing: Markup | None
    bias: str
    limits: str


@dataclass(frozen=True)
class ScoreFacts:
    """The scores of a report.

    Attributes:
        headings: Titles of the other scores than Dice.
        rows: A row for each class, and one for all where there are several.
        boxes: The chart of the Dice of each case.
        agreements: The agreement of the volumes of each class.
        has_narrow_intervals: Whether the cases are of so few patients that the intervals are too
            narrow.
        num_cases: The number of scored cases.
    """

    headings: tuple[str, ...]
    rows: tuple[ScoreRow, ...]
    boxes: Markup
    agreements: tuple[AgreementChart, ...]
    has_narrow_intervals: bool
    num_cases: int


def describe_scores(source: Source) -> ScoreFacts | None:
    """Collect the scores of a report.

    Args:
        source: What the report is about.

    Returns:
        The scores; None where there are none.
    """
    summary = source.summary
    if summary is None:
        return None
    others = _shown_scores(summary)
    names = {label: name for name, label in summary["labels"].items()}
    rows = []
    for label, presence in summary["presence"].items():
        numbers = _Numbers(
            summary["mean"][label], summary["interval"][label], summary["median"][label]
        )
        counts = presence["cases"], presence["missed"], presence["spurious"]
        rows.append(_row(names[label], numbers, others, counts))
    if len(rows) > 1:
        numbers = _Numbers(
            summary["foreground_mean"], summary["foreground_interval"], summary["foreground_median"]
        )
        totals = (
            len(summary["metric_per_case"]),
            sum(row.missed for row in rows),
            sum(row.spurious for row in rows),
        )
        rows.append(_row("all classes", numbers, others, totals))
    return ScoreFacts(
        headings=tuple(_heading(name, source, summary) for name in others),
        rows=tuple(rows),
        boxes=draw_boxes(_dice_by_class(source), "Dice"),
        agreements=tuple(_agreement(source, name) for name in source.class_names),
        has_narrow_intervals=summary["num_patients"] < ENOUGH_PATIENTS,
        num_cases=len(summary["metric_per_case"]),
    )


def _shown_scores(summary: dict[str, Any]) -> list[str]:
    """Return the names of the scores next to the Dice that any class has."""
    defined = find_policy(summary["policy"]).metrics
    known: set[str] = set()
    for mean in summary["mean"].values():
        known.update(name for name, value in mean.items() if is_known(value))
    return [name for name in defined if name in _SHOWN and name in known]


@dataclass(frozen=True)
class _Numbers:
    """Means, intervals of the means and medians by the name of the score."""

    mean: dict[str, float]
    interval: dict[str, list[float]]
    median: dict[str, float]


def _row(
    name: str, numbers: _Numbers, others: Sequence[str], counts: tuple[int, int, int]
) -> ScoreRow:
    shown = []
    for score in others:
        value = numbers.mean.get(score, math.nan)
        shown.append(show_size(value) if score in _SIZES else show_score(value))
    return ScoreRow(
        name=name,
        num_cases=counts[0],
        mean=show_score(numbers.mean["Dice"]),
        interval=show_interval(numbers.interval["Dice"]),
        median=show_score(numbers.median["Dice"]),
        others=tuple(shown),
        missed=counts[1],
        spurious=counts[2],
    )


def _heading(name: str, source: Source, summary: dict[str, Any]) -> str:
    if name == EMPTY_SLICES:
        return f"on empty {source.slice_word}s ({source.shown_unit})"
    if name == "NSD":
        return f"NSD ({tolerance_of(summary)})"
    return f"{name} ({summary['distance_unit']})" if name in DISTANCES else _SHOWN[name]


def _dice_by_class(source: Source) -> dict[str, list[NamedValue]]:
    values: dict[str, list[NamedValue]] = {name: [] for name in source.class_names}
    for case in source.cases:
        for name, result in case.results.items():
            if math.isfinite(result.dice):
                values[name].append(NamedValue(case.identifier, result.dice))
    return values


def _agreement(source: Source, name: str) -> AgreementChart:
    cases = [case for case in source.cases if name in case.results]
    results = [case.results[name] for case in cases]
    agreement = compare_volumes(
        [case.identifier for case in cases],
        [result.predicted for result in results],
        [result.true for result in results],
    )
    if agreement is None:
        return AgreementChart(name, None, "", "")
    unit = source.shown_unit
    limits = "not known from a single case"
    if math.isfinite(agreement.low):
        limits = f"{_signed(agreement.low)} to {_signed(agreement.high)} {unit}"
    drawing = draw_agreement(agreement, name, source.size_word, unit)
    return AgreementChart(name, drawing, f"{_signed(agreement.bias)} {unit}", limits)


def _signed(value: float) -> str:
    text = show_size(value)
    return f"+{text}" if value > 0 else text


def describe_first_glance(source: Source) -> list[str]:
    """Return the lines at the top of the page: how good, how many, and what to look at.

    Args:
        source: What the report is about.
    """
    summary = source.summary
    model = _describe_model(source)
    count = show_count(len(source.cases), "case")
    if summary is None:
        why = "there are no references to compare them with" if source.cases else "none were found"
        return [*model, *_doubts(source), f"{count}, without scores: {why}."]
    mean, median = summary["foreground_mean"]["Dice"], summary["foreground_median"]["Dice"]
    interval = show_interval(summary["foreground_interval"]["Dice"])
    num_scored = len(summary["metric_per_case"])
    patients = summary["num_patients"]
    of_patients = f" of {show_count(patients, 'patient')}" if patients < num_scored else ""
    of_classes = " over the classes" if len(source.class_names) > 1 else ""
    good = (
        f"mean Dice{of_classes} {show_score(mean)} (95 % interval {interval}), "
        f"median {show_score(median)}"
    )
    return [
        *model,
        good,
        f"{show_count(num_scored, 'scored case')}{of_patients}: {source.subject}.",
        _what_to_look_at(source),
    ]


def _doubts(source: Source) -> list[str]:
    """Say how many predictions without scores somebody should look at."""
    num_warned = sum(bool(case.warnings) for case in source.cases)
    return [f"{show_count(num_warned, 'case')} to look at: see the warnings"] if num_warned else []


def _describe_model(source: Source) -> list[str]:
    names = source.class_names
    structures = f"{show_count(len(names), 'structure')}: {show_names(names, _MOST_NAMES)}"
    if source.plan is None:
        return [structures[0].upper() + structures[1:]]
    values = {entry.key: entry.value for entry in important_values(source.plan, is_2d=False)}
    how = values.get("backbone", "")
    if values.get("encoder_tuning"):
        how += f"; {values['encoder_tuning']}"
    return [f"{structures}. {how[:1].upper()}{how[1:]}", *warn_of_few_steps(source.runs)]


def _what_to_look_at(source: Source) -> str:
    scored = [case for case in source.cases if math.isfinite(case.mean_dice)]
    if not scored:
        return "No case has a score."
    worst = min(scored, key=lambda case: (case.mean_dice, case.identifier))
    text = f"{worst.identifier} is the worst case, with a Dice of {show_score(worst.mean_dice)}"
    num_low = sum(case.mean_dice < _LOW_DICE for case in scored)
    if num_low > 1:
        text += f"; {num_low} cases are below {_LOW_DICE}"
    num_missed = 0
    for presence in (source.summary or {}).get("presence", {}).values():
        num_missed += presence["missed"]
    if num_missed:
        text += f"; a structure was missed altogether {show_count(num_missed, 'time')}"
    missing = never_found(source.summary) if source.summary else []
    if missing:
        text += f"; found in no case: {show_names(missing, _MOST_NAMES)}"
    num_warned = sum(bool(case.warnings) for case in source.cases)
    if num_warned:
        text += f"; {show_count(num_warned, 'case')} with a warning"
    return text + "."
