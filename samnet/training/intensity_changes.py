"""Random changes of the intensities of training images."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from batchgenerators.augmentations.color_augmentations import (
    augment_brightness_multiplicative,
    augment_contrast,
    augment_gamma,
)
from batchgenerators.augmentations.noise_augmentations import (
    augment_gaussian_blur,
    augment_gaussian_noise,
)
from batchgenerators.augmentations.resample_augmentations import augment_linear_downsampling_scipy
from scipy.interpolate import PchipInterpolator

from samnet.training.smooth_fields import smooth_field

CURVE_KNOTS = 6
CURVE_MOVE = 0.15  # standard deviation of the moves of a curve's knots
CURVE_VALUES = 1024  # grey values that are told apart
MAX_UNEVENNESS = 0.25  # largest standard deviation of the logarithm of the sensitivity


@dataclass(frozen=True)
class ChangeShares:
    """The share of images that get each kind of change.

    Attributes:
        curve: Every grey value is replaced by its value on a random smooth curve.
        unevenness: The sensitivity of the scanner differs from place to place.
        noise: Gaussian noise is added.
        blur: The image is blurred.
        brightness: All values are multiplied by a factor.
        contrast: Values move towards their mean or away from it.
        low_resolution: The image loses resolution.
        gamma: Values are raised to a power.
    """

    curve: float = 0.5
    unevenness: float = 0.5
    noise: float = 0.15
    blur: float = 0.1
    brightness: float = 0.2
    contrast: float = 0.2
    low_resolution: float = 0.1
    gamma: float = 0.25


PLANNED_SHARES = ChangeShares()


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
    draws = generator.random(6)
    if generator.random() < shares.curve:
        image = _along_curve(image, generator)
    if generator.random() < shares.unevenness:
        image = _unevenly(image, generator)
    with _seeded(generator):
        if draws[0] < shares.noise:
            # batchgenerators calls these a variance, but they are standard deviations.
            image = augment_gaussian_noise(image, noise_variance=(0, 0.03))
        if draws[1] < shares.blur:
            image = augment_gaussian_blur(image, (0.5, 1.5), per_channel=False)
        if draws[2] < shares.brightness:
            image = augment_brightness_multiplicative(image, (0.75, 1.25), per_channel=False)
        if draws[3] < shares.contrast:
            image = augment_contrast(image, (0.75, 1.25), per_channel=False)
        if draws[4] < shares.low_resolution:
            image = augment_linear_downsampling_scipy(image, zoom_range=(0.5, 1), per_channel=False)
        if draws[5] < shares.gamma:
            image = augment_gamma(image, (0.7, 1.5), retain_stats=False)
    return np.clip(image, 0, 1).astype(np.float32)


def _along_curve(image: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Replace grey values by those of a smooth curve through moved knots, alike in all channels."""
    knots = np.linspace(0, 1, CURVE_KNOTS)
    moved = np.clip(knots + generator.normal(0, CURVE_MOVE, CURVE_KNOTS), 0, 1)
    curve = PchipInterpolator(knots, moved)
    table = curve(np.linspace(0, 1, CURVE_VALUES)).astype(np.float32)
    return table[(image * (CURVE_VALUES - 1) + 0.5).astype(np.int32)]


def _unevenly(image: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Multiply by a smooth random sensitivity, alike in all channels."""
    waves = int(generator.integers(1, 3, endpoint=True))
    field = smooth_field(generator, waves, image.shape[-1])
    strength = np.float32(generator.uniform(0, MAX_UNEVENNESS))
    return np.clip(image * np.exp(strength * field), 0, 1)


@contextlib.contextmanager
def _seeded(generator: np.random.Generator) -> Iterator[None]:
    """Seed the global generators from this sample's generator, and restore their state afterwards.

    The functions of batchgenerators draw from the global generators.
    """
    numpy_state, python_state = np.random.get_state(), random.getstate()
    seed = int(generator.integers(2**32))
    np.random.seed(seed)
    random.seed(seed)
    try:
        yield
    finally:
        np.random.set_state(numpy_state)
        random.setstate(python_state)
