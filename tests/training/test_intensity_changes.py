from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
from scipy import ndimage

from samnet.training.intensity_changes import ChangeShares, change_intensities

SIZE = 32
NO_CHANGES = ChangeShares(
    curve=0, unevenness=0, noise=0, blur=0, brightness=0, contrast=0, low_resolution=0, gamma=0
)


def changed(image: np.ndarray, number: int, shares: ChangeShares) -> list[np.ndarray]:
    """Return an image changed by the seeds from 0 on."""
    return [
        change_intensities(image.copy(), np.random.default_rng(seed), shares)
        for seed in range(number)
    ]


def test_changed_intensities_stay_from_0_to_1() -> None:
    noise = np.random.default_rng(0).normal(size=(3, SIZE, SIZE))
    smooth = ndimage.gaussian_filter(noise, (0, 2, 2)).astype(np.float32) * 4 + 1
    image = np.clip(smooth / 4, 0, 1)
    results = changed(image, 60, ChangeShares())
    assert all(one.dtype == np.float32 and one.shape == image.shape for one in results)
    assert all(one.min() >= 0 and one.max() <= 1 for one in results)
    differences = np.array([np.abs(one - image).max() for one in results])
    assert 5 < (differences == 0).sum() < 40
    assert np.median(differences[differences > 0]) > 0.02


def test_intensities_stay_the_same_without_any_change() -> None:
    image = np.random.default_rng(0).random((1, SIZE, SIZE), dtype=np.float32)
    assert all(np.array_equal(one, image) for one in changed(image, 20, NO_CHANGES))


def stripes() -> np.ndarray:
    """Return an image `(1, S, S)` of three grey values in columns."""
    row = np.repeat([0.0, 0.3, 0.3, 1.0], SIZE // 4).astype(np.float32)
    return np.tile(row, (1, SIZE, 1))


def test_a_curve_changes_equal_grey_values_alike_everywhere() -> None:
    curved = changed(stripes(), 20, ChangeShares(1, 0, 0, 0, 0, 0, 0, 0))
    assert all(len(np.unique(image)) <= 3 for image in curved)
    assert all(image.min() >= 0 and image.max() <= 1 for image in curved)
    assert np.std([image[0, 0, SIZE // 2] for image in curved]) > 0.05


def test_uneven_sensitivity_changes_equal_grey_values_differently() -> None:
    flat = stripes()
    uneven = changed(flat, 20, ChangeShares(0, 1, 0, 0, 0, 0, 0, 0))
    assert all((image[flat == 0] == 0).all() and image.max() <= 1 for image in uneven)
    assert max(image[flat == np.float32(0.3)].std() for image in uneven) > 0.02


def test_noise_is_strong_enough_to_be_seen() -> None:
    """Its strength is a standard deviation, which batchgenerators calls a variance."""
    grey = np.full((3, SIZE, SIZE), 0.5, dtype=np.float32)
    spread = [one.std() for one in changed(grey, 100, ChangeShares(unevenness=0))]
    assert 0.015 < max(spread) < 0.05
    assert np.isfinite(spread).all()


def test_every_kind_of_change_is_drawn_apart_from_the_others() -> None:
    """A seed that changes an image in one way may or may not change it in another."""
    image = np.random.default_rng(0).random((1, SIZE, SIZE), dtype=np.float32)
    is_changed = {}
    for field in dataclasses.fields(ChangeShares):
        shares = dataclasses.replace(NO_CHANGES, **{field.name: 0.5})
        results = changed(image, 60, shares)
        is_changed[field.name] = [not np.array_equal(image, one) for one in results]
        assert np.mean(is_changed[field.name]) == pytest.approx(0.5, abs=0.2)
    for one, other in itertools.combinations(is_changed.values(), 2):
        assert len(set(zip(one, other, strict=True))) == 4


def test_gamma_and_brightness_stay_within_their_ranges() -> None:
    image = np.linspace(0, 1, SIZE * SIZE, dtype=np.float32).reshape(1, SIZE, SIZE)
    middle = image[0, SIZE // 2, SIZE // 2]
    powers = [
        np.log(one[0, SIZE // 2, SIZE // 2]) / np.log(middle)
        for one in changed(image, 60, dataclasses.replace(NO_CHANGES, gamma=1))
    ]
    assert 0.69 < min(powers) < 0.8
    assert 1.3 < max(powers) < 1.51
    factors = [
        one[0, SIZE // 2, SIZE // 2] / middle
        for one in changed(image, 60, dataclasses.replace(NO_CHANGES, brightness=1))
    ]
    assert 0.749 < min(factors) < 0.8
    assert 1.2 < max(factors) < 1.251
