"""Random draws of changes of intensities, apart from the pixels that they are applied to."""

from __future__ import annotations

import random
from dataclasses import dataclass

import numpy as np
from scipy.interpolate import PchipInterpolator

from samnet.training.smooth_fields import draw_coarse_values

CURVE_KNOTS = 6
CURVE_MOVE = 0.15  # standard deviation of the moves of a curve's knots
CURVE_VALUES = 1024  # grey values that are told apart
UNEVENNESS_WAVES = (1, 3)  # fewest and most waves of an uneven sensitivity along an edge
MAX_UNEVENNESS = 0.25  # largest standard deviation of the logarithm of the sensitivity
MAX_NOISE = 0.03  # largest standard deviation
BLUR = (0.5, 1.5)  # standard deviations in pixels
FACTORS = (0.75, 1.25)  # of brightness and of contrast
LOW_RESOLUTION = (0.5, 1.0)  # shares of the pixels along each edge
GAMMA = (0.7, 1.5)


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


@dataclass(frozen=True)
class Unevenness:
    """A smooth random sensitivity: the exponential of `strength` times a field.

    Attributes:
        coarse: Coarse values of the field, see `samnet.training.smooth_fields`.
        strength: Standard deviation of the logarithm of the sensitivity.
    """

    coarse: np.ndarray
    strength: np.float32


@dataclass(frozen=True)
class IntensityDraws:
    """The changes of one image in the order in which they are applied; None for no such change.

    Attributes:
        curve: The new values of `CURVE_VALUES` grey values from 0 to 1, float32.
        unevenness: The sensitivity, alike in all channels.
        noise: What is added, `(C, S, S)`, float64.
        blur: Standard deviation of the Gaussian in pixels.
        brightness: The factor.
        contrast: The factor of the distance from the mean of a channel.
        low_resolution: The pixels along each edge that are kept.
        gamma: The power.
    """

    curve: np.ndarray | None = None
    unevenness: Unevenness | None = None
    noise: np.ndarray | None = None
    blur: float | None = None
    brightness: float | None = None
    contrast: float | None = None
    low_resolution: int | None = None
    gamma: float | None = None


def draw_intensities(
    generator: np.random.Generator,
    shape: tuple[int, ...],
    shares: ChangeShares = PLANNED_SHARES,
) -> IntensityDraws:
    """Draw how an image is changed, each kind of change now and then.

    The numbers are those that batchgenerators 0.25 draws from the global generators, which samnet
    called at first: a seed means the same changes as then.

    Args:
        generator: Draws the changes.
        shape: Shape `(C, S, S)` of the image.
        shares: The share of images that get each kind of change.

    Returns:
        The changes.
    """
    draws = generator.random(6)
    curve = _draw_curve(generator) if generator.random() < shares.curve else None
    unevenness = _draw_unevenness(generator) if generator.random() < shares.unevenness else None
    seed = int(generator.integers(2**32))
    numbers = _Numbers(seed, shape)
    return IntensityDraws(
        curve=curve,
        unevenness=unevenness,
        # The order of these lines is that of the draws.
        noise=numbers.noise() if draws[0] < shares.noise else None,
        blur=numbers.blur() if draws[1] < shares.blur else None,
        brightness=numbers.brightness() if draws[2] < shares.brightness else None,
        contrast=numbers.contrast() if draws[3] < shares.contrast else None,
        low_resolution=numbers.low_resolution() if draws[4] < shares.low_resolution else None,
        gamma=numbers.gamma() if draws[5] < shares.gamma else None,
    )


def _draw_curve(generator: np.random.Generator) -> np.ndarray:
    """Return the values of a smooth curve through moved knots."""
    knots = np.linspace(0, 1, CURVE_KNOTS)
    moved = np.clip(knots + generator.normal(0, CURVE_MOVE, CURVE_KNOTS), 0, 1)
    curve = PchipInterpolator(knots, moved)
    return curve(np.linspace(0, 1, CURVE_VALUES)).astype(np.float32)


def _draw_unevenness(generator: np.random.Generator) -> Unevenness:
    waves = int(generator.integers(*UNEVENNESS_WAVES, endpoint=True))
    coarse = draw_coarse_values(generator, waves)
    return Unevenness(coarse, np.float32(generator.uniform(0, MAX_UNEVENNESS)))


class _Numbers:
    """Parameters of changes from two generators of one seed, in batchgenerators' order of draws."""

    def __init__(self, seed: int, shape: tuple[int, ...]) -> None:
        self._numpy, self._python = np.random.RandomState(seed), random.Random(seed)
        self._shape = shape

    def noise(self) -> np.ndarray:
        deviation = self._python.uniform(0, MAX_NOISE)
        noise = np.empty(self._shape)
        for channel in range(len(noise)):
            self._numpy.uniform()
            noise[channel] = self._numpy.normal(0.0, deviation, size=self._shape[1:])
        return noise

    def blur(self) -> float:
        deviation = self._python.uniform(*BLUR)
        self._skip_channels()
        return deviation

    def brightness(self) -> float:
        return self._numpy.uniform(*FACTORS)

    def contrast(self) -> float:
        factor = self._around_one(*FACTORS)
        self._skip_channels()
        return factor

    def low_resolution(self) -> int:
        share = self._numpy.uniform(*LOW_RESOLUTION)
        self._skip_channels()
        return int(np.round(self._shape[-1] * share))

    def gamma(self) -> float:
        return self._around_one(*GAMMA)

    def _around_one(self, lowest: float, highest: float) -> float:
        """Return a factor that is as often below 1 as above it."""
        if self._numpy.random_sample() < 0.5:
            return self._numpy.uniform(lowest, 1)
        return self._numpy.uniform(1, highest)

    def _skip_channels(self) -> None:
        """Draw what decided for each channel whether it is changed; all of them are."""
        self._numpy.uniform(size=self._shape[0])
