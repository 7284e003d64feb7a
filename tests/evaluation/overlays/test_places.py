"""The place of the largest error, and the part of a volume around it."""

from __future__ import annotations

import numpy as np
import pytest

from samnet.evaluation.overlays import places
from samnet.evaluation.overlays.places import (
    box_around,
    place_of_largest_error,
    place_of_most_foreground,
)


def ball(shape: tuple[int, ...], centre: tuple[int, ...], radius: float) -> np.ndarray:
    """Return a ball of booleans."""
    grids = np.ogrid[tuple(slice(size) for size in shape)]
    squares = [(grid - middle) ** 2 for grid, middle in zip(grids, centre, strict=True)]
    return sum(squares[1:], squares[0]) <= radius**2


def test_largest_error_is_the_middle_of_the_thickest_one() -> None:
    """The rim of a large organ is wide where a plane touches it, but thin in other planes."""
    shape = (76, 90, 90)
    rim = ball(shape, (37, 37, 37), 34) & ~ball(shape, (37, 37, 37), 32)
    tumour = ball(shape, (40, 80, 80), 3)
    assert rim.sum() > 50 * tumour.sum()
    assert place_of_largest_error(rim | tumour, (1, 1, 1)) == (40, 80, 80)


def test_largest_error_is_measured_in_mm() -> None:
    wrong = np.zeros((20, 40, 40), bool)
    wrong[2:9, 2:9, 2:9] = True
    wrong[12:15, 22:33, 22:33] = True  # a flat one, but not where slices are thick
    assert place_of_largest_error(wrong, (1, 1, 1)) == (5, 5, 5)
    assert place_of_largest_error(wrong, (4, 1, 1)) == (13, 27, 27)


def test_largest_error_in_one_thick_slice_is_found() -> None:
    """The slices beside it, 10 mm away, do not limit its depth to that of a small error."""
    wrong = np.zeros((9, 64, 64), bool)
    wrong[4] = ball((64, 64), (20, 20), 15)
    wrong[2:8, 48:54, 48:54] = True
    assert place_of_largest_error(wrong, (10, 1, 1)) == (4, 20, 20)


def test_largest_error_of_a_2d_image() -> None:
    wrong = np.zeros((1, 40, 50), bool)
    wrong[0, :3] = True
    wrong[0, 20:31, 30:41] = True
    assert place_of_largest_error(wrong, (1, 1, 1)) == (0, 25, 35)


def test_largest_error_is_a_wrong_voxel_also_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Large volumes are searched in blocks, whose middle may be right."""
    wrong = ball((40, 60, 60), (20, 40, 30), 9) | ball((40, 60, 60), (10, 10, 10), 4)
    exact = place_of_largest_error(wrong, (1, 1, 1))
    monkeypatch.setattr(places, "MOST_VOXELS", 100)
    found = place_of_largest_error(wrong, (1, 1, 1))
    assert exact == (20, 40, 30)
    assert found is not None
    assert wrong[found]
    assert np.abs(np.subtract(found, exact)).max() <= 3
    single = np.zeros_like(wrong)
    single[7, 33, 21] = single[35, 1, 1] = True
    assert place_of_largest_error(single, (1, 1, 1)) in ((7, 33, 21), (35, 1, 1))


def test_nothing_wrong_has_no_place() -> None:
    assert place_of_largest_error(np.zeros((2, 3, 4), bool), (1, 1, 1)) is None


def test_most_foreground_is_sought_along_each_axis() -> None:
    labels = np.zeros((5, 6, 7), bool)
    labels[3, 1:4, 2:6] = True
    labels[:, 2, 5] = True
    assert place_of_most_foreground(labels) == (3, 2, 5)
    assert place_of_most_foreground(np.zeros((5, 6, 7), bool)) == (2, 3, 3)


def test_box_holds_the_structure_at_the_place_and_no_other() -> None:
    structures = ball((60, 80, 80), (30, 20, 20), 8) | ball((60, 80, 80), (30, 65, 65), 8)
    box = box_around(structures, (30, 66, 64), (1, 1, 1))
    assert structures[box.slices].sum() == ball((60, 80, 80), (30, 65, 65), 8).sum()
    assert all(20 < size < 40 for size in box.shape)


@pytest.mark.parametrize("place", [(0, 0, 0), (9, 39, 39), (5, 39, 0)])
def test_box_lies_in_the_volume_and_holds_the_place(place: tuple[int, int, int]) -> None:
    structures = np.zeros((10, 40, 40), bool)
    structures[place] = True
    for mask in (structures, np.zeros_like(structures)):
        box = box_around(mask, place, (5, 1, 1))
        for start, index, stop, size in zip(
            box.start, place, box.stop, structures.shape, strict=True
        ):
            assert 0 <= start <= index < stop <= size
