"""A label that lies around everything else, as background does."""

from __future__ import annotations

import numpy as np
import pytest

from samnet.dataset.border_labels import find_border_label


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
    assert find_border_label(labels) is None
    assert find_border_label(3 * (1 - labels)) == 3


def test_structure_that_extends_beyond_the_outer_slices_may_be_inverted() -> None:
    labels = np.repeat(ball((1, 20, 20), 6), 5, axis=0)
    assert find_border_label(labels) is None
    assert find_border_label(1 - labels) == 1


def test_large_structure_with_background_around_it_is_none() -> None:
    labels = np.ones((10, 20, 20), np.uint8)
    labels[:, :2] = 0
    labels[:, :, :2] = 0
    labels[:, :, -2:] = 0
    assert find_border_label(labels) is None


@pytest.mark.parametrize("value", [0, 1])
def test_label_map_of_one_value_has_no_border(value: int) -> None:
    assert find_border_label(np.full((4, 6, 6), value, np.uint8)) is None


def test_slice_of_a_few_pixels_has_no_border() -> None:
    assert find_border_label(np.array([[[1, 0], [1, 1]]], np.uint8)) is None
