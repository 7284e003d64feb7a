"""How sure a mean over cases is: 95 % intervals by the bootstrap, and those of differences.

The cases are drawn again with replacement, as often as there are cases, and the mean is computed of
each draw. The interval goes from the 2.5th to the 97.5th percentile of these means (percentile
bootstrap, Efron and Tibshirani 1993). Cases of one patient are drawn together, because they are not
independent. The seed is fixed: the same scores have the same interval on every machine. With fewer
than ten patients the interval is too narrow.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

NUM_RESAMPLES = 2000
ENOUGH_PATIENTS = 10  # fewer have an interval that is too narrow
_PERCENTILES = (2.5, 97.5)
_SEED = 12345
_DRAWN_TOGETHER = 250  # bounds the memory where there are thousands of images


@dataclass(frozen=True)
class PairedDifference:
    """The mean of the differences of two sets of scores of the same cases.

    Attributes:
        mean: The mean difference, first minus second; NaN where no case has both scores.
        low: Lower end of its 95 % interval; NaN where fewer than two patients have both scores.
        high: Upper end.
        num_cases: Number of cases that have both scores.
    """

    mean: float
    low: float
    high: float
    num_cases: int

    @property
    def is_beyond_noise(self) -> bool:
        """Whether the interval does not contain 0."""
        return self.low > 0 or self.high < 0


def bootstrap_means(
    scores: np.ndarray, patients: Sequence[str] | None = None, num_resamples: int = NUM_RESAMPLES
) -> np.ndarray:
    """Compute the means of cases that are drawn again with replacement.

    All columns are computed of the same draws. A score that is NaN is left out of the mean.

    Args:
        scores: The scores `(cases, columns)`.
        patients: The patient of each case; None where every case is a patient.
        num_resamples: How often to draw.

    Returns:
        Means `(num_resamples, columns)`. NaN where no drawn case has the score, and in every draw
        of a column that fewer than two patients have.
    """
    known = ~np.isnan(scores)
    sums = sum_by_patient(np.where(known, scores, 0.0), patients)
    counts = sum_by_patient(known.astype(float), patients)
    num_patients = len(sums)
    if num_patients == 0:
        return np.full((num_resamples, scores.shape[1]), np.nan)
    generator = np.random.default_rng(_SEED)
    has_several_patients = (counts > 0).sum(axis=0) > 1
    means = []
    for start in range(0, num_resamples, _DRAWN_TOGETHER):
        num_draws = min(_DRAWN_TOGETHER, num_resamples - start)
        times = _times_drawn(generator, num_draws, num_patients)
        totals, numbers = times @ sums, times @ counts
        unknown = np.full_like(totals, np.nan)
        is_usable = (numbers > 0) & has_several_patients
        means.append(np.divide(totals, numbers, out=unknown, where=is_usable))
    return np.concatenate(means)


def _times_drawn(generator: np.random.Generator, num_draws: int, num_patients: int) -> np.ndarray:
    """Return how often each patient is in each draw `(num_draws, num_patients)`."""
    drawn = generator.integers(num_patients, size=(num_draws, num_patients))
    drawn += num_patients * np.arange(num_draws)[:, None]
    times = np.bincount(drawn.reshape(-1), minlength=num_draws * num_patients)
    return times.reshape(num_draws, num_patients).astype(float)


def sum_by_patient(values: np.ndarray, patients: Sequence[str] | None) -> np.ndarray:
    """Add up the scores of each patient.

    Args:
        values: Scores `(cases, columns)`.
        patients: The patient of each case; None where every case is a patient.

    Returns:
        Sums `(patients, columns)`.
    """
    if patients is None:
        return values
    names, rows = np.unique(np.asarray(patients, dtype=str), return_inverse=True)
    sums = np.zeros((len(names), values.shape[1]))
    np.add.at(sums, rows.reshape(-1), values)
    return sums


def intervals_of(means: np.ndarray) -> np.ndarray:
    """Return the 95 % interval of each column of means that `bootstrap_means` has drawn.

    Args:
        means: Means `(resamples, columns)`; NaN is left out.

    Returns:
        Ends `(2, columns)` of the intervals, the lower ones first; NaN for a column of NaN.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "All-NaN slice", RuntimeWarning)
        return np.nanpercentile(means, _PERCENTILES, axis=0)


def mean_over_classes(values: np.ndarray) -> np.ndarray:
    """Average over the last axis and leave NaN out.

    Args:
        values: Values `(..., classes)`.

    Returns:
        Means `(...)`; NaN where every class is NaN.
    """
    known = ~np.isnan(values)
    sums, counts = np.where(known, values, 0.0).sum(axis=-1), known.sum(axis=-1)
    return np.divide(sums, counts, out=np.full(sums.shape, np.nan), where=counts > 0)


def paired_interval(
    first: Sequence[float] | np.ndarray,
    second: Sequence[float] | np.ndarray,
    patients: Sequence[str] | None = None,
    num_resamples: int = NUM_RESAMPLES,
) -> PairedDifference:
    """Compare two sets of scores of the same cases by the bootstrap of their differences.

    With several classes, the mean difference is the mean of those of the classes, as
    `foreground_mean` is the mean of the means of the classes.

    Args:
        first: Scores `(cases,)` or `(cases, classes)`.
        second: Scores of the same shape, of the same cases in the same order. Where one of the two
            is NaN, neither counts.
        patients: The patient of each case; None where every case is a patient.
        num_resamples: How often to draw.

    Returns:
        The mean of first minus second, and its 95 % interval.

    Raises:
        ValueError: The shapes differ.
    """
    one, other = np.asarray(first, dtype=float), np.asarray(second, dtype=float)
    if one.shape != other.shape:
        raise ValueError(f"scores of shape {one.shape} cannot be paired with {other.shape}")
    differences = (one - other).reshape(len(one), -1)
    is_known = ~np.isnan(differences)
    num_cases = int(is_known.any(axis=1).sum())
    if num_cases == 0:
        return PairedDifference(math.nan, math.nan, math.nan, 0)
    mean = mean_over_classes(mean_over_classes(differences.T))
    drawn = mean_over_classes(bootstrap_means(differences, patients, num_resamples))
    low, high = intervals_of(drawn[:, None])[:, 0]
    return PairedDifference(float(mean), float(low), float(high), num_cases)
