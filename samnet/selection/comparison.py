"""Which of two predictions of the same cases is better, and whether that is beyond noise."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from samnet.evaluation.intervals import PairedDifference, paired_interval


def compare_dice(
    first: np.ndarray, second: np.ndarray, patients: Sequence[str]
) -> PairedDifference:
    """Compare the Dice of the same cases by the paired bootstrap.

    A structure that is absent has no Dice where nothing is predicted, and Dice 0 where something
    is. So where one of the two has no Dice, it is right, and counts 1: otherwise the case would be
    left out, and nothing would be gained by not predicting what is not there.

    Args:
        first: Dice `(N, K)` of N cases and K structures; NaN where undefined.
        second: The same of the other prediction.
        patients: The patient of each case. Cases of a patient are drawn together.

    Returns:
        The mean of first minus second over cases and structures, with its 95 % interval.
    """
    known = known_in_both(first, second)
    return paired_interval(*known, patients)


def known_in_both(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Fill in the Dice of structures that are rightly absent in one of two predictions.

    Args:
        first: Dice of any shape; NaN where undefined.
        second: The same of the other prediction.

    Returns:
        Both, with 1 where the other one alone is known; NaN where neither is.
    """
    is_known = ~(np.isnan(first) & np.isnan(second))
    one = np.where(np.isnan(first) & is_known, 1.0, first)
    other = np.where(np.isnan(second) & is_known, 1.0, second)
    return one, other
