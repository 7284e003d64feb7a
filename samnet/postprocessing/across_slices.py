"""Changes of the mask of one structure across the slices of a volume.

A network that sees slices one by one, or few at a time, now and then misses a structure on one of
them, or finds it on a slice alone.
"""

from __future__ import annotations

import numpy as np

from samnet.core.components import label_components

FEWEST_SLICES = 3  # of a volume; with fewer there is nothing between two slices


def with_closed_gaps(mask: np.ndarray, axis: int, longest: int) -> np.ndarray:
    """Add the voxels that lie between two of the mask along an axis, a few slices apart.

    Args:
        mask: Booleans `(Z, Y, X)`.
        axis: The axis across which the slices lie.
        longest: The largest number of slices between the two.

    Returns:
        Booleans of the same shape.
    """
    slices = np.moveaxis(mask, axis, 0)
    closed = slices.copy()
    for gap in range(1, min(longest, len(slices) - 2) + 1):
        on_both_sides = slices[: -gap - 1] & slices[gap + 1 :]
        for step in range(1, gap + 1):
            closed[step : step + len(on_both_sides)] |= on_both_sides
    return np.moveaxis(closed, 0, axis)


def smoothed_across(mask: np.ndarray, axis: int) -> np.ndarray:
    """Give each voxel the value of most of three: its own, and those before and after it.

    At the first and the last slice the voxel itself stands for the one that is not there.

    Args:
        mask: Booleans `(Z, Y, X)`, with all slices of the volume.
        axis: The axis across which the slices lie.

    Returns:
        Booleans of the same shape.
    """
    slices = np.moveaxis(mask, axis, 0)
    before = np.concatenate([slices[:1], slices[:-1]])
    after = np.concatenate([slices[1:], slices[-1:]])
    return np.moveaxis((before & after) | (slices & (before | after)), 0, axis)


def without_thin_components(mask: np.ndarray, axis: int, fewest: int) -> np.ndarray:
    """Leave out the components that lie on few slices.

    Args:
        mask: Booleans `(Z, Y, X)`.
        axis: The axis across which the slices lie.
        fewest: The number of slices from which on a component is kept.

    Returns:
        Booleans of the same shape.
    """
    from scipy.ndimage import find_objects  # slow to load, and not needed by every worker

    components, _ = label_components(mask)
    num_slices = [box[axis].stop - box[axis].start for box in find_objects(components)]
    is_kept = np.array([False, *(number >= fewest for number in num_slices)])
    return mask if is_kept[1:].all() else is_kept[components]
