"""Across which axis the slices of a volume lie."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

ANISOTROPIC = 1.5


def is_anisotropic(spacing: Sequence[float] | np.ndarray) -> bool:
    """Tell whether the coarsest spacing is over `ANISOTROPIC` times the finest.

    Args:
        spacing: Distance of neighbouring voxel centres along each axis.

    Returns:
        Whether it is.
    """
    return bool(max(spacing) / min(spacing) > ANISOTROPIC)


def find_slicing_axis(
    spacing: Sequence[float] | np.ndarray, lengths: Sequence[float] | np.ndarray
) -> int:
    """Return the axis across which a volume is taken as slices.

    Across the coarsest spacing, slices have the full resolution. Where all spacings are alike, they
    are the largest across the shortest axis.

    Args:
        spacing: Distance of neighbouring voxel centres along each axis.
        lengths: Extent along each axis, in the same unit.

    Returns:
        The number of the axis; the first one of equals.
    """
    chosen = np.argmax(spacing) if is_anisotropic(spacing) else np.argmin(lengths)
    return int(chosen)
