"""From raw intensities to numbers from 0 to 1."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from samnet.plan.configuration import IntensityWindow

QUANTILE_POINTS = np.linspace(0.0, 100.0, 201)
MAX_SAMPLED_VOXELS = 2_000_000


def without_nan(array: np.ndarray) -> np.ndarray:
    """Return an array with 0 in place of NaN and infinity.

    In an interpolation a single such value would spread over its slice.

    Args:
        array: Intensities of any shape.

    Returns:
        A copy; the array itself where every value is finite.
    """
    if array.dtype.kind != "f" or np.isfinite(array).all():
        return array
    return np.nan_to_num(array, nan=0.0, posinf=0.0, neginf=0.0)


def channel_quantiles(channel: np.ndarray) -> np.ndarray:
    """Return the percentiles `QUANTILE_POINTS` of the non-zero voxels of a channel.

    Args:
        channel: Intensities of any shape. Where it has at least twice `MAX_SAMPLED_VOXELS` non-zero
            voxels, every k-th one is used.

    Returns:
        201 percentiles; zeros where every voxel is 0.
    """
    values = channel[channel != 0]
    if values.size == 0:
        return np.zeros(len(QUANTILE_POINTS))
    step = max(1, values.size // MAX_SAMPLED_VOXELS)
    return _percentiles(np.sort(values[::step]))


def _percentiles(ordered: np.ndarray) -> np.ndarray:
    """Return `QUANTILE_POINTS` of sorted values, exactly as `np.percentile` in double precision.

    `np.percentile` would partition a copy in double precision. Sorting the values in their own
    short type takes a fraction of the time.
    """
    positions = (ordered.size - 1) * (QUANTILE_POINTS / 100)
    before = np.floor(positions).astype(int)
    after = np.minimum(before + 1, ordered.size - 1)
    lower, upper = ordered[before].astype(np.float64), ordered[after].astype(np.float64)
    share = positions - before
    # np.percentile interpolates from the nearer neighbour; the last digits depend on it.
    from_lower = lower + (upper - lower) * share
    from_upper = upper - (upper - lower) * (1 - share)
    return np.where(share < 0.5, from_lower, from_upper)


def window_bounds(windows: Sequence[IntensityWindow], quantiles: np.ndarray) -> np.ndarray:
    """Return the lower and upper intensity of each channel of a case.

    Args:
        windows: The planned window of each channel.
        quantiles: `channel_quantiles` of each channel of the case, `(C, 201)`.

    Returns:
        Bounds `(C, 2)` in float64; NaN where every slice has bounds of its own (`slice_range`).
    """
    bounds = []
    for window, table in zip(windows, quantiles, strict=True):
        if window.scheme == "fixed":
            bounds.append((window.lower, window.upper))
        elif window.scheme == "slice_range":
            bounds.append((np.nan, np.nan))
        else:
            low, high = np.interp((window.lower, window.upper), QUANTILE_POINTS, table)
            bounds.append((low, high if high > low else low + 1.0))
    return np.array(bounds, dtype=np.float64)


def apply_window(array: np.ndarray, bounds: np.ndarray) -> np.ndarray:
    """Clip intensities to their bounds and scale them to numbers from 0 to 1.

    Args:
        array: Slices `(..., C, H, W)`.
        bounds: `window_bounds` `(C, 2)`. Where they are NaN, the lowest and highest value of each
            slice take their place.

    Returns:
        The scaled slices `(..., C, H, W)` in float32.
    """
    values = array.astype(np.float32)
    lower = bounds[:, 0, None, None].astype(np.float32)
    upper = bounds[:, 1, None, None].astype(np.float32)
    if np.isnan(bounds).any():
        lowest = values.min(axis=(-2, -1), keepdims=True)
        highest = values.max(axis=(-2, -1), keepdims=True)
        lower = np.where(np.isnan(lower), lowest, lower)
        upper = np.where(np.isnan(upper), highest, upper)
    values -= lower
    values /= np.maximum(upper - lower, np.finfo(np.float32).tiny)
    return np.clip(values, 0.0, 1.0, out=values)
