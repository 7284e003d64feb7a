"""The overlap of centrelines, of tubes drawn by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from samnet.evaluation.centrelines import centreline, centreline_dice


def tube(width: int, start: int, stop: int, offset: int = 5) -> np.ndarray:
    """Return a straight tube along the last axis in a volume."""
    mask = np.zeros((16, 16, 40), dtype=bool)
    mask[offset : offset + width, offset : offset + width, start:stop] = True
    return mask


def test_centreline_dice_of_lines_is_the_dice_of_their_parts() -> None:
    # Lines of one voxel are their own centrelines: 20 and 10 voxels, 10 in common.
    assert centreline_dice(tube(1, 5, 15), tube(1, 5, 25)) == pytest.approx(2 * 0.5 / 1.5)


def test_centreline_dice_does_not_depend_on_the_width() -> None:
    assert centreline_dice(tube(5, 5, 35, offset=4), tube(3, 5, 35)) == 1.0


def test_centreline_dice_of_2d_masks() -> None:
    reference = np.zeros((9, 30), dtype=bool)
    reference[3:6, 2:28] = True
    assert centreline_dice(reference, reference) == 1.0
    assert centreline_dice(np.roll(reference, 4, axis=0), reference) == 0.0


@pytest.mark.parametrize("width", [1, 2, 3, 4, 6])
def test_centreline_is_there_whatever_the_width(width: int) -> None:
    """scikit-image alone deletes straight tubes of an even width."""
    mask = tube(width, 5, 35)
    line = centreline(mask)
    assert not (line & ~mask).any()
    along = line.any(axis=(0, 1))
    assert along[5 + width : 35 - width].all()
    assert line.sum() <= 30


def test_centreline_of_a_speck_is_the_speck() -> None:
    mask = tube(5, 5, 35)
    mask[0:2, 0:2, 0:2] = True
    assert centreline(mask)[:2, :2, :2].any()


def test_centreline_dice_of_empty_masks() -> None:
    nothing = np.zeros((16, 16, 40), dtype=bool)
    assert centreline_dice(nothing, tube(3, 5, 15)) == 0.0
    assert centreline_dice(tube(3, 5, 15), nothing) == 0.0
    assert math.isnan(centreline_dice(nothing, nothing))
