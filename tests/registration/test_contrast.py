"""Whether labels that were taken over fit what they lie on."""

from __future__ import annotations

import numpy as np
import pytest

from samnet.registration.contrast import contrasts, kept_contrast


def scene(bright: float, dark: float) -> tuple[np.ndarray, np.ndarray]:
    """Return an image of 0.5 with noise, with two labelled structures brighter and darker."""
    labels = np.zeros((8, 20, 20), np.uint8)
    labels[2:6, 3:8, 3:8] = 1
    labels[2:6, 12:17, 12:17] = 2
    grey = np.random.default_rng(0).normal(0.5, 0.1, labels.shape)
    grey[labels == 1] += bright
    grey[labels == 2] -= dark
    return grey, labels


def test_contrast_is_the_difference_in_standard_deviations() -> None:
    found = contrasts(*scene(0.2, 0.1))
    assert found == pytest.approx({1: 2.0, 2: -1.0}, abs=0.3)


def test_only_what_is_near_counts() -> None:
    grey, labels = scene(0.2, 0.1)
    grey[:, :, 19:] = 9.0  # more than two voxels from either
    assert contrasts(grey[:, :, :19], labels[:, :, :19]) == pytest.approx(contrasts(grey, labels))


def test_single_slice_and_a_label_that_fills_it() -> None:
    grey, labels = (part[3:4] for part in scene(0.2, 0.1))
    assert contrasts(grey, labels)[1] == pytest.approx(2.0, abs=0.7)
    assert contrasts(grey, np.ones_like(labels)) == {}


def test_all_is_kept_of_equal_contrasts_and_nothing_of_lost_or_opposite_ones() -> None:
    original = [{1: 2.0, 2: -1.0}, {1: 1.0, 2: -0.5}]
    assert kept_contrast(original, [{1: 1.5, 2: -0.75}]) == pytest.approx(1)
    assert kept_contrast(original, [{1: 0.75, 2: 0.0}]) == pytest.approx(1 / 3)
    assert kept_contrast(original, [{1: -1.0, 2: 1.0}]) == 0
    assert kept_contrast(original, []) == 0
    assert kept_contrast([{}], [{1: 1.0}]) == 0


def test_most_images_count_and_a_label_that_is_missing_has_no_contrast() -> None:
    assert kept_contrast([{1: 1.0}], [{1: 1.0}, {1: 1.0}, {1: -9.0}]) == pytest.approx(1)
    assert kept_contrast([{1: 1.0}], [{1: 1.0}, {}, {}]) == 0
