"""The intensities that a figure shows, from black to white."""

from __future__ import annotations

import numpy as np

# Soft tissue in Hounsfield units: width 400 around 40.
CT_WINDOW = (-160.0, 240.0)
_AIR = -500.0  # lower values, next to 0 and more, occur in no other images than CT
_MOST_VALUES = 1_000_000


def intensity_window(
    channel: np.ndarray, foreground: np.ndarray, *, is_ct: bool | None = None
) -> tuple[float, float]:
    """Choose the range of intensities to show.

    Of a CT it is the window of soft tissue, made wider where the foreground lies outside of it, as
    in lungs and bones: in the range of the whole image, the air around the patient would leave only
    a few grey levels to all organs. Of other images it is the range of all voxels that are not 0,
    without the lowest and highest half of a hundredth.

    Args:
        channel: Intensities `(Z, Y, X)`.
        foreground: Booleans of the same shape.
        is_ct: Whether they are Hounsfield units; None to tell by their values.

    Returns:
        The intensities that are shown black and white.
    """
    # A part of a large volume says the same in less time.
    step = max(1, round((channel.size / _MOST_VALUES) ** (1 / 3)))
    sample = channel[::step, ::step, ::step]
    sample = sample[np.isfinite(sample)]
    if sample.size == 0:
        return 0.0, 1.0
    if is_ct is None:
        is_ct = bool(sample.min() < _AIR)
    if is_ct:
        return _ct_window(channel[foreground])
    nonzero = sample[sample != 0]
    lowest, highest = np.percentile(nonzero if nonzero.size else sample, (0.5, 99.5))
    return float(lowest), float(highest)


def _ct_window(inside: np.ndarray) -> tuple[float, float]:
    lowest, highest = CT_WINDOW
    inside = inside[np.isfinite(inside)]
    if inside.size:
        low, high = np.percentile(inside[:: max(1, inside.size // _MOST_VALUES)], (10, 90))
        lowest, highest = min(lowest, float(low)), max(highest, float(high))
    return lowest, highest


def scale_intensities(image: np.ndarray, window: tuple[float, float]) -> np.ndarray:
    """Scale intensities to 0 to 1.

    Args:
        image: Intensities of any shape.
        window: The intensities that become 0 and 1.

    Returns:
        Numbers from 0 to 1 of the same shape, float32; values that are not finite become 0.
    """
    lowest, highest = window
    width = highest - lowest
    scaled = (image.astype(np.float32) - lowest) / (width if width > 0 else 1.0)
    return np.clip(np.nan_to_num(scaled, nan=0.0), 0, 1)


def colour_range(image: np.ndarray) -> tuple[float, float]:
    """Return the range of the values of a colour image.

    Args:
        image: Its values.

    Returns:
        0 and 255 for 8 bits, else the lowest and highest value of the image.
    """
    if image.dtype == np.uint8:
        return 0.0, 255.0
    return float(np.nanmin(image)), float(np.nanmax(image))
