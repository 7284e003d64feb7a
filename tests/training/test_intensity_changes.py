from __future__ import annotations

import dataclasses
import itertools
import random

import numpy as np
import pytest
from scipy import ndimage

from samnet.training.intensity_changes import change_intensities
from samnet.training.intensity_draws import ChangeShares

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


def only(kind: str, image: np.ndarray, number: int = 60) -> list[np.ndarray]:
    """Return an image that gets one kind of change, by the seeds from 0 on."""
    return changed(image, number, dataclasses.replace(NO_CHANGES, **{kind: 1.0}))


def test_planned_shares_are_those_that_were_measured() -> None:
    """Each kind of change, as often as the documentation of `augmentation` says."""
    assert dataclasses.astuple(ChangeShares()) == (0.5, 0.5, 0.15, 0.1, 0.2, 0.2, 0.1, 0.25)


def test_contrast_stays_within_its_range() -> None:
    image = np.linspace(0.4, 0.6, SIZE * SIZE, dtype=np.float32).reshape(1, SIZE, SIZE)
    image[0, 0, 0], image[0, -1, -1] = 0, 1  # the range that values are kept in
    inner = np.s_[0, 1:-1]
    results = only("contrast", image)
    factors = [one[inner].std() / image[inner].std() for one in results]
    assert all(one[inner].mean() == pytest.approx(0.5, abs=0.001) for one in results)
    assert 0.749 < min(factors) < 0.8
    assert 1.2 < max(factors) < 1.251


def test_blur_is_that_of_a_gaussian_within_its_range() -> None:
    image = np.random.default_rng(0).random((1, SIZE, SIZE), dtype=np.float32)
    weakest, strongest = (ndimage.gaussian_filter(image[0], sigma).std() for sigma in (0.5, 1.5))
    spread = [one.std() for one in only("blur", image)]
    assert 0.99 * strongest < min(spread) < 1.2 * strongest
    assert 0.8 * weakest < max(spread) < 1.01 * weakest


def test_low_resolution_keeps_at_least_every_second_pixel() -> None:
    wave = 0.5 + 0.4 * np.sin((np.arange(60) + 0.5) * 2 * np.pi / 6)
    image = np.tile(wave, (1, 60, 1)).astype(np.float32)
    lost = [np.abs(one - image).mean() for one in only("low_resolution", image, 100)]
    # 0.095 is lost at 0.7 of the resolution, 0.133 at half of it.
    assert 0.12 < max(lost) < 0.135
    assert 0.08 < np.median(lost) < 0.105


@pytest.mark.parametrize(
    "kind", ["curve", "unevenness", "blur", "brightness", "contrast", "low_resolution", "gamma"]
)
def test_channels_that_are_alike_stay_alike(kind: str) -> None:
    """What neighbouring slices and copies of a grey image have in common is not torn apart."""
    image = np.tile(np.random.default_rng(0).random((1, SIZE, SIZE), dtype=np.float32), (3, 1, 1))
    for one in only(kind, image, 10):
        assert np.array_equal(one[0], one[1])
        assert np.array_equal(one[0], one[2])


def test_a_curve_moves_each_grey_value_by_the_same_spread() -> None:
    """Also black and white: what is cut off there counts as not moved."""
    ramp = np.linspace(0, 1, SIZE, dtype=np.float32)
    results = only("curve", np.tile(ramp, (1, SIZE, 1)), 300)
    moves = np.array([one[0, 0] - ramp for one in results])
    for place in (6, 12, 19, 25):  # next to the inner ones of six knots
        assert moves[:, place].std() == pytest.approx(0.15, abs=0.03)
        assert moves[:, place].mean() == pytest.approx(0, abs=0.03)
    assert (moves[:, 0] == 0).mean() == pytest.approx(0.5, abs=0.1)
    assert (moves[:, -1] == 0).mean() == pytest.approx(0.5, abs=0.1)


def test_unevenness_has_waves_of_every_length_and_strength_up_to_its_limit() -> None:
    flat = np.full((1, 64, 64), 0.3, dtype=np.float32)
    fields = np.log(np.concatenate(only("unevenness", flat, 300)) / 0.3)
    strengths = fields.std(axis=(1, 2))
    assert strengths.min() < 0.01
    assert 0.2 < strengths.max() < 0.4
    assert np.sqrt((fields**2).mean()) == pytest.approx(0.25 / np.sqrt(3), rel=0.15)
    # A field of few waves changes less from pixel to pixel.
    slopes = np.abs(np.diff(fields, axis=1)).mean(axis=(1, 2)) / strengths
    assert slopes.max() > 2 * slopes.min()


def test_the_global_generators_are_left_as_they_were() -> None:
    image = np.random.default_rng(0).random((1, SIZE, SIZE), dtype=np.float32)
    np.random.seed(5)
    random.seed(5)
    expected = np.random.random(), random.random()
    np.random.seed(5)
    random.seed(5)
    first = only("noise", image, 5)
    assert (np.random.random(), random.random()) == expected
    # What is drawn does not depend on their state.
    assert all(map(np.array_equal, first, only("noise", image, 5)))
    # Every sample has its own.
    images = only("noise", image, 200)
    assert len({one.tobytes() for one in images}) == 200
