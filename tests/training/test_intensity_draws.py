"""The same seed means the same changes as in the first versions, bit for bit.

They called batchgenerators, which draws from the global generators and changes the image at once.
"""

from __future__ import annotations

import dataclasses
import random

import numpy as np
import pytest
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

from samnet.training.intensity_changes import apply_changes
from samnet.training.intensity_draws import ChangeShares, draw_intensities
from samnet.training.smooth_fields import smooth_field

SHAPE = (3, 24, 24)
FIRST_FUNCTIONS = {
    "noise": (augment_gaussian_noise, {"noise_variance": (0, 0.03)}),
    "blur": (augment_gaussian_blur, {"sigma_range": (0.5, 1.5), "per_channel": False}),
    "brightness": (
        augment_brightness_multiplicative,
        {"multiplier_range": (0.75, 1.25), "per_channel": False},
    ),
    "contrast": (augment_contrast, {"contrast_range": (0.75, 1.25), "per_channel": False}),
    "low_resolution": (
        augment_linear_downsampling_scipy,
        {"zoom_range": (0.5, 1), "per_channel": False},
    ),
    "gamma": (augment_gamma, {"gamma_range": (0.7, 1.5), "retain_stats": False}),
}


def change_as_at_first(
    image: np.ndarray, generator: np.random.Generator, shares: ChangeShares
) -> np.ndarray:
    """Change an image `(C, S, S)` in place as the first versions did."""
    draws = generator.random(6)
    if generator.random() < shares.curve:
        knots = np.linspace(0, 1, 6)
        curve = PchipInterpolator(knots, np.clip(knots + generator.normal(0, 0.15, 6), 0, 1))
        table = curve(np.linspace(0, 1, 1024)).astype(np.float32)
        image = table[(image * 1023 + 0.5).astype(np.int32)]
    if generator.random() < shares.unevenness:
        field = smooth_field(generator, int(generator.integers(1, 3, endpoint=True)), len(image[0]))
        strength = np.float32(generator.uniform(0, 0.25))
        image = np.clip(image * np.exp(strength * field), 0, 1)
    seed = int(generator.integers(2**32))
    np.random.seed(seed)
    random.seed(seed)
    for draw, (kind, (function, options)) in zip(draws, FIRST_FUNCTIONS.items(), strict=True):
        if draw < getattr(shares, kind):
            image = function(image, **options)
    return np.clip(image, 0, 1).astype(np.float32)


@pytest.fixture
def image() -> np.ndarray:
    smooth = np.random.default_rng(0).random(SHAPE, dtype=np.float32)
    return np.sqrt(smooth)


@pytest.mark.parametrize(
    "shares",
    [
        ChangeShares(),
        ChangeShares(*[1.0] * 8),
        *(
            dataclasses.replace(ChangeShares(*[0.0] * 8), **{field.name: 1.0})
            for field in dataclasses.fields(ChangeShares)
        ),
    ],
    ids=["as planned", "all", *(field.name for field in dataclasses.fields(ChangeShares))],
)
def test_changes_of_a_seed_are_those_of_the_first_versions(
    image: np.ndarray, shares: ChangeShares
) -> None:
    states = np.random.get_state(), random.getstate()
    try:
        for seed in range(12):
            expected = change_as_at_first(image.copy(), np.random.default_rng(seed), shares)
            draws = draw_intensities(np.random.default_rng(seed), SHAPE, shares)
            assert np.array_equal(apply_changes(image, draws), expected)
    finally:
        np.random.set_state(states[0])
        random.setstate(states[1])


@pytest.mark.parametrize("kind", [field.name for field in dataclasses.fields(ChangeShares)])
def test_what_is_drawn_can_be_applied_again(image: np.ndarray, kind: str) -> None:
    """The image itself is left as it is."""
    shares = dataclasses.replace(ChangeShares(*[0.0] * 8), **{kind: 1.0})
    draws = draw_intensities(np.random.default_rng(3), SHAPE, shares)
    before = image.copy()
    first = apply_changes(image, draws)
    assert not np.array_equal(first, before)
    assert np.array_equal(image, before)
    assert np.array_equal(apply_changes(image, draws), first)
