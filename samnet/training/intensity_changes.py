"""Random changes of the intensities of training images."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter
from skimage.transform import resize

from samnet.training.intensity_draws import (
    CURVE_VALUES,
    PLANNED_SHARES,
    ChangeShares,
    IntensityDraws,
    Unevenness,
    draw_intensities,
)
from samnet.training.smooth_fields import spread_field

RANGE_MARGIN = 1e-7  # keeps the range of a constant image from being 0


def change_intensities(
    image: np.ndarray, generator: np.random.Generator, shares: ChangeShares = PLANNED_SHARES
) -> np.ndarray:
    """Change an image as scanners and their settings differ, each kind of change now and then.

    Args:
        image: `(C, S, S)`, values from 0 to 1.
        generator: Draws the changes.
        shares: The share of images that get each kind of change.

    Returns:
        The changed image `(C, S, S)`, float32, values from 0 to 1.
    """
    return apply_changes(image, draw_intensities(generator, image.shape, shares))


def apply_changes(image: np.ndarray, draws: IntensityDraws) -> np.ndarray:
    """Change the intensities of an image in the way that was drawn.

    Args:
        image: `(C, S, S)`, float32, values from 0 to 1. It is not changed itself.
        draws: The changes.

    Returns:
        The changed image `(C, S, S)`, float32, values from 0 to 1.
    """
    if draws.curve is not None:
        image = draws.curve[(image * (CURVE_VALUES - 1) + 0.5).astype(np.int32)]
    if draws.unevenness is not None:
        image = _unevenly(image, draws.unevenness)
    if draws.noise is not None:
        image = (image + draws.noise).astype(np.float32)
    if draws.blur is not None:
        image = gaussian_filter(image, (0, draws.blur, draws.blur))
    if draws.brightness is not None:
        image = image * draws.brightness
    if draws.contrast is not None:
        image = np.stack([_with_contrast(channel, draws.contrast) for channel in image])
    if draws.low_resolution is not None:
        kept = draws.low_resolution
        image = np.stack([lose_resolution(channel, kept, kept) for channel in image])
    if draws.gamma is not None:
        image = _to_power(image, draws.gamma)
    return np.clip(image, 0, 1).astype(np.float32)


def _unevenly(image: np.ndarray, unevenness: Unevenness) -> np.ndarray:
    field = spread_field(unevenness.coarse, image.shape[-1])
    return np.clip(image * np.exp(unevenness.strength * field), 0, 1)


def _with_contrast(channel: np.ndarray, factor: float) -> np.ndarray:
    """Move the values of a channel `(S, S)` from their mean, within their range."""
    mean = channel.mean()
    return np.clip((channel - mean) * factor + mean, channel.min(), channel.max())


def lose_resolution(plane: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """Shrink a plane by linear interpolation, and enlarge it again by the nearest pixel.

    It works along rows and columns apart, and is linear in the values.

    Args:
        plane: `(H, W)`.
        rows: The rows that are kept, at most H.
        columns: The columns that are kept, at most W.

    Returns:
        The plane `(H, W)`, float32.
    """
    small = resize(plane.astype(float), (rows, columns), order=1, mode="edge", anti_aliasing=False)
    large = resize(small, plane.shape, order=0, mode="edge", anti_aliasing=False)
    return large.astype(np.float32)


def _to_power(image: np.ndarray, gamma: float) -> np.ndarray:
    """Raise values to a power; lowest and highest stay where they are."""
    lowest = image.min()
    extent = image.max() - lowest
    share = (image - lowest) / float(extent + RANGE_MARGIN)
    return np.power(share, gamma) * extent + lowest
