"""Gaps, lone slices and steps across the slices of a mask."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import median_filter

from samnet.postprocessing.across_slices import (
    smoothed_across,
    with_closed_gaps,
    without_thin_components,
)

AXES = pytest.mark.parametrize("axis", [0, 1, 2])


def on_slices(text: str, axis: int) -> np.ndarray:
    """Return a mask with a voxel on each slice that is marked by an x, in a row across an axis."""
    row = np.array([letter == "x" for letter in text])
    return np.moveaxis(np.tile(row[:, None, None], (1, 2, 3)), 0, axis)


@AXES
@pytest.mark.parametrize(
    ("longest", "expected"),
    [(0, "x.xxx..x...x."), (1, "xxxxx..x...x."), (2, "xxxxxxxx...x."), (3, "xxxxxxxxxxxx.")],
)
def test_gaps_between_slices_are_closed_up_to_a_length(
    axis: int, longest: int, expected: str
) -> None:
    mask = on_slices("x.xxx..x...x.", axis)
    assert np.array_equal(with_closed_gaps(mask, axis, longest), on_slices(expected, axis))
    assert np.array_equal(mask, on_slices("x.xxx..x...x.", axis))  # the given array stays


def test_a_gap_is_closed_where_both_slices_show_the_structure() -> None:
    mask = np.zeros((3, 4, 4), dtype=bool)
    mask[0, :3], mask[2, 1:] = True, True
    closed = with_closed_gaps(mask, 0, 2)
    assert np.array_equal(closed[1], mask[0] & mask[2])
    assert np.array_equal(closed[[0, 2]], mask[[0, 2]])


@AXES
def test_smoothing_is_the_median_of_three_slices(axis: int) -> None:
    mask = np.random.default_rng(0).random((6, 7, 8)) < 0.5
    window = [1, 1, 1]
    window[axis] = 3
    expected = median_filter(mask.astype(np.uint8), size=window, mode="nearest")
    assert np.array_equal(smoothed_across(mask, axis), expected.astype(bool))


@AXES
def test_components_on_few_slices_are_left_out(axis: int) -> None:
    mask = on_slices("x..xx...xxx.", axis)
    kept = without_thin_components(mask, axis, 2)
    assert np.array_equal(kept, on_slices("...xx...xxx.", axis))
    assert np.array_equal(without_thin_components(mask, axis, 3), on_slices("........xxx.", axis))
    assert without_thin_components(kept, axis, 2) is kept
    nothing = np.zeros((3, 3, 3), dtype=bool)
    assert without_thin_components(nothing, axis, 2) is nothing


def test_a_component_is_as_thick_as_it_reaches() -> None:
    """A diagonal has one voxel on each of three slices."""
    diagonal = np.zeros((5, 5, 5), dtype=bool)
    diagonal[np.arange(3), np.arange(3), np.arange(3)] = True
    assert without_thin_components(diagonal, 0, 3).sum() == 3
    assert not without_thin_components(diagonal, 0, 4).any()
