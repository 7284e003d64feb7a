"""How doubtful the predictions of cases are, as one number for each case, and why."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from samnet.annotation.candidate import Candidate
from samnet.confidence.calibration import Expectation
from samnet.confidence.certainties import MEANINGS, certainties
from samnet.core.errors import UserError

# Certainties further from the mean than this, in standard deviations, count as this far.
_MOST_DEVIATIONS = 3.0
_NOT_PREDICTED = "not predicted"
_MOST_REASONS = 2


@dataclass(frozen=True)
class Doubt:
    """How doubtful the prediction of a case is.

    Attributes:
        value: The larger, the more doubtful. It is 1 minus the mean expected Dice of the classes
            where that is known of all cases. Otherwise it is the mean certainty of the signals
            below the mean of all cases, in standard deviations.
        why: The reason in words.
    """

    value: float
    why: str


def measure_doubt(cases: Sequence[Candidate]) -> list[Doubt]:
    """Measure how doubtful predictions are.

    Where the model is calibrated, the expected Dice says it. Without, as after training on a few
    cases that left none to hold out, cases are compared with each other: each of their
    `certainties` counts as much as any other, in standard deviations from its mean over the cases.

    Args:
        cases: Cases with predictions.

    Returns:
        The doubt of each case, in the same order.

    Raises:
        UserError: Some cases have an expected Dice only, and others only signals.
    """
    if all(case.confidence for case in cases):
        return [_doubt_of_expected(case) for case in cases]
    for case in cases:
        if not case.signals:
            raise UserError(
                f"{case.identifier} has an expected Dice and no signals, other cases have none: "
                "they were predicted by different models; predict all by one, without -p"
            )
    return _doubts_of_signals(cases)


def _doubt_of_expected(case: Candidate) -> Doubt:
    dice = {}
    for name, expected in case.confidence.items():
        if expected.dice is not None:
            dice[name] = expected.dice
        elif expected.is_doubtful:  # a class that should be there
            dice[name] = 0.0
    if not dice:
        return Doubt(0.0, "nothing is predicted, as in such cases before")
    worst = min(dice, key=lambda name: dice[name])
    value = 1 - sum(dice.values()) / len(dice)
    return Doubt(value, f"{worst}: {_describe_expected(case.confidence[worst])}")


def _describe_expected(expected: Expectation) -> str:
    if expected.reason:
        return expected.reason
    return _NOT_PREDICTED if expected.dice is None else f"expected Dice {expected.dice:.2f}"


def _doubts_of_signals(cases: Sequence[Candidate]) -> list[Doubt]:
    names = dict.fromkeys(name for case in cases for name in case.signals)
    totals: list[list[float]] = [[] for _ in cases]
    parts: list[dict[tuple[str, str], float]] = [{} for _ in cases]
    for name in names:
        for index, deviations in enumerate(_deviations_of_class(cases, name)):
            if deviations:
                totals[index].append(sum(deviations.values()) / len(deviations))
            parts[index].update({(name, signal): value for signal, value in deviations.items()})
    doubts = []
    for of_classes, of_signals in zip(totals, parts, strict=True):
        certainty = sum(of_classes) / len(of_classes) if of_classes else 0.0
        doubts.append(Doubt(-certainty, _name_lowest(of_signals)))
    return doubts


def _deviations_of_class(cases: Sequence[Candidate], name: str) -> list[dict[str, float]]:
    """Return the certainties of a class in each case, in deviations from the mean over cases."""
    known = [case.signals.get(name) for case in cases]
    sizes = [signals.size for signals in known if signals is not None and signals.size > 0]
    if not sizes:
        return [{} for _ in cases]
    typical_log_size = float(np.median(np.log(sizes)))
    table = np.full((len(cases), len(MEANINGS)), np.nan)
    for row, signals in zip(table, known, strict=True):
        if signals is not None and signals.size > 0:
            found = certainties(signals, typical_log_size)
            row[:] = [found.get(signal, math.nan) for signal in MEANINGS]
    scaled = _standardise(table)
    is_usual = 2 * len(sizes) > len(cases)
    rows: list[dict[str, float]] = []
    for signals, row in zip(known, scaled, strict=True):
        if signals is not None and signals.size == 0:
            # Most other cases show it, so it may be missed; else it may well not be there.
            rows.append({_NOT_PREDICTED: -_MOST_DEVIATIONS} if is_usual else {})
            continue
        named = zip(MEANINGS, row, strict=True)
        rows.append({signal: float(value) for signal, value in named if np.isfinite(value)})
    return rows


def _standardise(table: np.ndarray) -> np.ndarray:
    """Return columns in deviations from their mean; NaN stays, and what does not vary is NaN."""
    counts = np.isfinite(table).sum(0)
    mean = np.nansum(table, 0) / np.maximum(counts, 1)
    deviation = np.sqrt(np.nansum((table - mean) ** 2, 0) / np.maximum(counts, 1))
    deviation[deviation < 1e-9] = np.nan
    return np.clip((table - mean) / deviation, -_MOST_DEVIATIONS, _MOST_DEVIATIONS)


def _name_lowest(parts: dict[tuple[str, str], float]) -> str:
    """Return the signals that are furthest below the mean, with their classes, in words."""
    lowest = sorted((value, name, signal) for (name, signal), value in parts.items() if value < 0)
    if not lowest:
        return "no signal is below the mean of the cases"
    by_class: dict[str, list[str]] = {}
    for _, name, signal in lowest[:_MOST_REASONS]:
        by_class.setdefault(name, []).append(MEANINGS.get(signal, signal))
    return "; ".join(f"{name}: {', '.join(words)}" for name, words in by_class.items())
