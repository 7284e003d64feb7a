"""From raw intensities to numbers from 0 to 1."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from samnet.plan.configuration import IntensityWindow

QUANTILE_POINTS = np.linspace(0.0, 100.0, 201)
_MAX_VOXELS = 2_000_000


def without_nan(array: np.ndarray) -> np.ndarray:
    """The array itself, or a copy with 0 in the place of NaN and infinity: a single one would spread over its slice."""
    if array.dtype.kind != "f" or np.isfinite(array).all():
        return array
    return np.nan_to_num(array, nan=0.0, posinf=0.0, neginf=0.0)


def channel_quantiles(channel: np.ndarray) -> np.ndarray:
    """The percentiles `QUANTILE_POINTS` of a channel's non-zero voxels; zeros where there are none."""
    values = channel[channel != 0]
    if values.size == 0:
        return np.zeros(len(QUANTILE_POINTS))
    return _percentiles(np.sort(values[:: max(1, values.size // _MAX_VOXELS)]))


def _percentiles(ordered: np.ndarray) -> np.ndarray:
    """`QUANTILE_POINTS` of sorted values, the very numbers of `np.percentile` in double precision.

    That would partition a copy in double precision; sorting small numbers as they are takes a fraction of the time.
    """
    places = (ordered.size - 1) * (QUANTILE_POINTS / 100)
    before = np.floor(places).astype(int)
    below, above = (
        ordered[np.minimum(before + step, ordered.size - 1)].astype(np.float64) for step in (0, 1)
    )
    share = places - before
    # From the nearer of both neighbours, as there: the last digits depend on it.
    return np.where(
        share < 0.5, below + (above - below) * share, above - (above - below) * (1 - share)
    )


def window_bounds(windows: Sequence[IntensityWindow], quantiles: np.ndarray) -> np.ndarray:
    """Lower and upper intensity of each channel, `(C, 2)`, for a case with `quantiles` `(C, 201)`.

    NaN where every slice has bounds of its own (`slice_range`).
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
    """Clip and scale `(..., C, H, W)` by `bounds` `(C, 2)` to float32 from 0 to 1."""
    values = array.astype(np.float32)
    lower, upper = (bounds[:, side, None, None].astype(np.float32) for side in (0, 1))
    if np.isnan(bounds).any():
        lowest, highest = (
            reduce(values, axis=(-2, -1), keepdims=True) for reduce in (np.min, np.max)
        )
        lower, upper = (
            np.where(np.isnan(lower), lowest, lower),
            np.where(np.isnan(upper), highest, upper),
        )
    values -= lower
    values /= np.maximum(upper - lower, np.finfo(np.float32).tiny)
    return np.clip(values, 0.0, 1.0, out=values)
