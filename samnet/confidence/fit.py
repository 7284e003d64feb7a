"""Fitting a calibration to the held-out cases of a cross-validation.

What is expected of a class is the mean of its cases plus a weighted sum of signals, on the scale of
`from_dice`. No weight is negative: a signal of certainty cannot lower what is expected. Weights are
shrunk towards those of all classes together, and these towards 0. The ends of the interval are
residuals of cases that were left out of the fit (conformal prediction). So few cases, or signals
that say little, give an expectation near the mean and a broad interval.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from samnet.confidence.calibration import (
    LEAST_CERTAIN,
    MOST_CERTAIN,
    SCHEMA_VERSION,
    Calibration,
    ClassCalibration,
    SignalWeight,
)
from samnet.confidence.certainties import MEANINGS, certainties, from_dice, to_dice
from samnet.confidence.signals import ClassSignals

# Share of cases whose Dice lies in the interval; a tenth is below it, and a tenth above. Of
# `MIN_CASES` cases its ends are the lowest and the highest residual. Fewer give no interval of this
# level.
LEVEL = 0.8
MIN_CASES = 9
# The shrinkage counts as so many cases without any relation.
_SHRINKAGE = 5.0
_SHRINKAGE_OF_CLASS = 20.0
_NUM_PARTS = 10  # cases are left out in so many parts
_DOUBTFUL_SHARE = 0.2  # predictions whose expected Dice is among the lowest of held-out cases
_DOUBTFUL_DIFFERENCE = 0.03  # and lower than is typical by this


@dataclass(frozen=True)
class HeldOutClass:
    """One class of a held-out case.

    Attributes:
        case: The name of the case.
        class_name: The name of the class or region.
        signals: The signals of the prediction.
        dice: Its Dice; NaN where the class is in neither label map.
    """

    case: str
    class_name: str
    signals: ClassSignals
    dice: float


def fit_calibration(
    held_out: Sequence[HeldOutClass],
    class_names: Sequence[str],
    folds: Sequence[str],
    *,
    mirror: bool,
) -> Calibration | None:
    """Fit what Dice signals let expect.

    Args:
        held_out: The held-out cases, each class of each once.
        class_names: The classes or regions of the model.
        folds: The names of the runs that predicted them.
        mirror: Whether predictions were averaged over mirrored inputs.

    Returns:
        The calibration; None where fewer than `MIN_CASES` structures were predicted.
    """
    known = [entry for entry in held_out if not math.isnan(entry.dice)]
    predicted = sorted((entry for entry in known if entry.signals.size > 0), key=_case_name)
    if len(predicted) < MIN_CASES:
        return None
    everything = _Table.of(predicted)
    tables = {}
    for name in class_names:
        of_class = [entry for entry in predicted if entry.class_name == name]
        is_pooled = len(of_class) < MIN_CASES
        tables[name] = everything if is_pooled else _Table.of(of_class)
    weights = _fit_all(tables)
    residuals, expected = _leave_out(tables)
    classes = {}
    for name, table in tables.items():
        missed = [entry for entry in held_out if entry.class_name == name]
        missed = [entry for entry in missed if entry.signals.size == 0]
        low, high = _ends(residuals[name])
        typical = float(np.median(table.dice))
        quantile = float(np.quantile(expected[name], _DOUBTFUL_SHARE))
        classes[name] = ClassCalibration(
            num_cases=len(table.dice),
            num_predicted=sum(entry.class_name == name for entry in predicted),
            typical_dice=typical,
            mean=float(table.scaled.mean()),
            typical_log_size=table.typical_log_size,
            weights=table.signal_weights(weights[name]),
            low_residual=low,
            high_residual=high,
            doubtful_below=min(to_dice(quantile), typical - _DOUBTFUL_DIFFERENCE),
            num_unpredicted=len(missed),
            num_missed=sum(not math.isnan(entry.dice) for entry in missed),
        )
    num_cases = len({entry.case for entry in held_out})
    return Calibration(SCHEMA_VERSION, num_cases, tuple(folds), LEVEL, mirror, classes)


def _case_name(entry: HeldOutClass) -> str:
    return entry.case


@dataclass(frozen=True)
class _Table:
    """Held-out cases as numbers: `x` `(N, signals)` in deviations from the mean, and the Dice."""

    x: np.ndarray
    means: np.ndarray
    deviations: np.ndarray
    dice: np.ndarray
    scaled: np.ndarray
    typical_log_size: float

    @classmethod
    def of(cls, entries: Sequence[HeldOutClass]) -> _Table:
        typical_log_size = float(np.median([math.log(entry.signals.size) for entry in entries]))
        raw = np.full((len(entries), len(MEANINGS)), np.nan)
        for row, entry in enumerate(entries):
            found = certainties(entry.signals, typical_log_size)
            raw[row] = [found.get(name, np.nan) for name in MEANINGS]
        counts = np.isfinite(raw).sum(0)
        means = np.nansum(raw, 0) / np.maximum(counts, 1)
        distances = np.nan_to_num(raw - means)
        deviations = np.sqrt((distances**2).sum(0) / np.maximum(counts, 1))
        deviations[deviations < 1e-6] = 0  # equal but for rounding
        x = np.divide(distances, deviations, out=np.zeros_like(distances), where=deviations > 0)
        dice = np.array([entry.dice for entry in entries])
        scaled = np.array([from_dice(value) for value in dice])
        x = x.clip(LEAST_CERTAIN, MOST_CERTAIN)
        return cls(x, means, deviations, dice, scaled, typical_log_size)

    def without(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return signals and scaled of all rows but some."""
        return np.delete(self.x, rows, 0), np.delete(self.scaled, rows)

    def signal_weights(self, weights: np.ndarray) -> dict[str, SignalWeight]:
        found = {}
        numbers = zip(MEANINGS, self.means, self.deviations, weights, strict=True)
        for name, mean, deviation, weight in numbers:
            if deviation > 0:
                found[name] = SignalWeight(float(mean), float(deviation), float(weight))
        return found


def _fit_all(tables: Mapping[str, _Table], part: int | None = None) -> dict[str, np.ndarray]:
    """Return the weights of each class, without one part of its cases where one is given."""
    rows = {}
    for name, table in tables.items():
        left_out = _part_rows(len(table.dice), part)
        x, scaled = table.without(left_out)
        rows[name] = (x, scaled - scaled.mean())
    x = np.concatenate([of_class for of_class, _ in rows.values()])
    y = np.concatenate([of_class for _, of_class in rows.values()])
    common = _non_negative(x, y, np.zeros(x.shape[1]), _SHRINKAGE)
    return {name: _non_negative(x, y, common, _SHRINKAGE_OF_CLASS) for name, (x, y) in rows.items()}


def _leave_out(
    tables: Mapping[str, _Table],
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Return residuals, and expected scaled, of cases that were left out of the fit, by class."""
    expected = {name: np.empty(len(table.dice)) for name, table in tables.items()}
    for part in range(_NUM_PARTS):
        weights = _fit_all(tables, part)
        for name, table in tables.items():
            rows = _part_rows(len(table.dice), part)
            _, scaled = table.without(rows)
            expected[name][rows] = scaled.mean() + table.x[rows] @ weights[name]
    residuals = {name: table.scaled - expected[name] for name, table in tables.items()}
    return residuals, expected


def _part_rows(num_rows: int, part: int | None) -> np.ndarray:
    """Return the rows of a part. Neighbouring names, as of one patient, stay together."""
    if part is None:
        return np.arange(0)
    return np.array_split(np.arange(num_rows), _NUM_PARTS)[part]


def _non_negative(x: np.ndarray, y: np.ndarray, centre: np.ndarray, shrinkage: float) -> np.ndarray:
    """Return weights, none of them negative, by least squares; shrunk towards a centre."""
    from scipy.optimize import nnls  # slow to load

    root = math.sqrt(shrinkage)
    augmented = np.vstack([x, root * np.eye(x.shape[1])])
    return nnls(augmented, np.concatenate([y, root * centre]))[0]


def _ends(residuals: np.ndarray) -> tuple[float, float]:
    """Return the residuals between which a further case lies with a probability of `LEVEL`."""
    ordered = np.sort(residuals)
    outside = (len(ordered) + 1) // (MIN_CASES + 1)
    return float(ordered[outside - 1]), float(ordered[-outside])
