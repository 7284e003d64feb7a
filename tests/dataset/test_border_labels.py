"""A label that lies around everything else, as background does."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from samnet.dataset.border_labels import find_border_label


def found_in(labels: np.ndarray) -> int | None:
    return find_border_label(labels, Counter(labels.ravel().tolist()))


def ball(shape: tuple[int, int, int], radius: float) -> np.ndarray:
    """Return a ball in the middle, of 1 in 0."""
    axes = [np.arange(length) - (length - 1) / 2 for length in shape]
    distance = np.sqrt(sum(square**2 for square in np.meshgrid(*axes, indexing="ij")))
    return (distance <= radius).astype(np.uint8)


@pytest.mark.parametrize(("shape", "radius"), [((12, 20, 20), 5), ((1, 20, 20), 6), ((2, 9, 9), 3)])
def test_inverted_mask_has_its_class_on_the_border(
    shape: tuple[int, int, int], radius: float
) -> None:
    labels = ball(shape, radius)
    assert found_in(labels) is None
    assert found_in(3 * (1 - labels)) == 3


def test_structure_that_extends_beyond_the_outer_slices_may_be_inverted() -> None:
    labels = np.repeat(ball((1, 20, 20), 6), 5, axis=0)
    assert found_in(labels) is None
    assert found_in(1 - labels) == 1


def test_large_structure_with_background_around_it_is_none() -> None:
    labels = np.ones((10, 20, 20), np.uint8)
    labels[:, :2] = 0
    labels[:, :, :2] = 0
    labels[:, :, -2:] = 0
    assert found_in(labels) is None


@pytest.mark.parametrize("value", [0, 1])
def test_label_map_of_one_value_has_no_border(value: int) -> None:
    assert found_in(np.full((4, 6, 6), value, np.uint8)) is None


def test_slice_of_a_few_pixels_has_no_border() -> None:
    assert found_in(np.array([[[1, 0], [1, 1]]], np.uint8)) is None
