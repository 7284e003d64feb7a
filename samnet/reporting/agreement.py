"""How well predicted and true volumes agree: bias and limits of agreement.

After Bland and Altman, Lancet 1986: the differences of two measurements of each case against their
mean. The bias is the mean difference, and 95 % of the differences are expected within 1.96 standard
deviations of it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

_DEVIATIONS = 1.96


@dataclass(frozen=True)
class Agreement:
    """The agreement of the volumes of a class.

    Attributes:
        names: The names of the cases that count.
        means: Mean of both volumes, for each case.
        differences: Predicted minus true volume, for each case.
        bias: Mean difference.
        low: Lower limit of agreement; NaN for fewer than two cases.
        high: Upper limit.
    """

    names: tuple[str, ...]
    means: tuple[float, ...]
    differences: tuple[float, ...]
    bias: float
    low: float
    high: float


def compare_volumes(
    names: Sequence[str], predicted: Sequence[float], true: Sequence[float]
) -> Agreement | None:
    """Compare the volumes of a class in all cases.

    Cases in whose label maps it is absent from both are left out, as are unknown volumes.

    Args:
        names: The names of the cases.
        predicted: Its volume in the prediction of each case.
        true: Its volume in the reference of each case.

    Returns:
        The agreement; None where no case is left.
    """
    one, other = np.asarray(predicted, float), np.asarray(true, float)
    is_counted = np.isfinite(one) & np.isfinite(other) & ((one > 0) | (other > 0))
    counted = tuple(np.asarray(names, dtype=object)[is_counted].tolist())
    one, other = one[is_counted], other[is_counted]
    if not one.size:
        return None
    differences = one - other
    bias = float(differences.mean())
    width = _DEVIATIONS * float(differences.std(ddof=1)) if one.size > 1 else math.nan
    means = tuple(((one + other) / 2).tolist())
    return Agreement(counted, means, tuple(differences.tolist()), bias, bias - width, bias + width)
