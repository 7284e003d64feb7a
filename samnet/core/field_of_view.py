"""Voxels outside the field of view: where an image is blank up to the border of its slices.

A voxel is blank where every channel is within a hundredth of its range above its lowest value, as
in the zeros around a scanned circle or a masked brain, and in a fill value of CT. The lower bound
of a window does not do for this: a window of CT for soft tissue ends above lung, gas and fat. Nor
is a blank voxel alone outside. All around it in its slice has to be blank too, so that noise and
edges do not count, and such voxels have to reach the border of the slice. Gas within the body, and
structures that are black by themselves, are not outside.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

BLANK_SHARE = 0.01


def blank_limits(
    lowest: Sequence[float], highest: Sequence[float], share: float = BLANK_SHARE
) -> np.ndarray | None:
    """Return the intensities up to which the channels of an image are blank.

    Args:
        lowest: The lowest intensity of each channel.
        highest: A high one of each channel, such as a percentile, which single voxels do not move.
        share: Which share of the range between them is blank.

    Returns:
        The limits `(C,)`; None where a channel has no range. Such a channel may be missing, and
        then nothing tells what is outside.
    """
    ranges = np.subtract(highest, lowest, dtype=np.float64)
    if not (ranges > 0).all():
        return None
    return np.asarray(lowest, np.float64) + share * ranges


def find_blank(array: np.ndarray, limits: np.ndarray) -> np.ndarray:
    """Find the blank voxels of an image.

    Args:
        array: Intensities `(C, ...)`.
        limits: What `blank_limits` returns.

    Returns:
        Booleans `(...)`.
    """
    blank = array[0] <= limits[0]
    for channel, limit in zip(array[1:], limits[1:], strict=True):
        blank &= channel <= limit
    return blank


def amid_blank(blank: np.ndarray) -> np.ndarray:
    """Find the blank pixels whose eight neighbours are blank too, or beyond the image.

    Args:
        blank: Booleans `(..., H, W)`.

    Returns:
        Booleans of the same shape.
    """
    result = blank.copy()
    for dim in (-1, -2):
        lines = np.moveaxis(result, dim, 0)
        before = lines.copy()
        lines[1:] &= before[:-1]
        lines[:-1] &= before[1:]
    return result


def axes_of_slices(shape: Sequence[int]) -> list[int]:
    """Return the axes across which slices of more than a line of pixels lie.

    Args:
        shape: Number of voxels along `(Z, Y, X)`.

    Returns:
        The axes; that of a 2D image for itself.
    """
    flat = {axis for axis, length in enumerate(shape) if length == 1}
    return [axis for axis in range(3) if flat <= {axis}]


def find_outside(array: np.ndarray, limits: np.ndarray | None, axis: int) -> np.ndarray:
    """Find the voxels outside the field of view.

    Args:
        array: Intensities `(C, Z, Y, X)`.
        limits: What `blank_limits` returns.
        axis: The axis across which the slices lie.

    Returns:
        Booleans `(Z, Y, X)`; none are true where slices are lines of pixels, all of them border.
    """
    outside = np.zeros(array.shape[1:], bool)
    if limits is None or axis not in axes_of_slices(outside.shape):
        return outside
    of_slices = np.moveaxis(outside, axis, 0)
    for index, image in enumerate(np.moveaxis(array, axis + 1, 0)):
        of_slices[index] = _reaching_the_border(amid_blank(find_blank(image, limits)))
    return outside


def _reaching_the_border(mask: np.ndarray) -> np.ndarray:
    """Return the connected parts of a mask `(H, W)` that reach its border."""
    edges = np.zeros_like(mask)
    edges[[0, -1]] = edges[:, [0, -1]] = True
    if not mask[edges].any():
        return np.zeros_like(mask)
    if mask.all():
        return mask
    from scipy import ndimage  # slow to load, and needed by few images

    labelled, count = ndimage.label(mask)
    reaches = np.zeros(count + 1, bool)
    reaches[labelled[edges]] = True
    reaches[0] = False
    return reaches[labelled]
