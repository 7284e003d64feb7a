"""What is done to the mask of a structure."""

from __future__ import annotations

import numpy as np
import pytest

from samnet.postprocessing.structures import (
    largest_component,
    with_filled_holes,
    without_small_components,
)


@pytest.fixture
def mask() -> np.ndarray:
    """Return components of 8, 3 and 1 voxels, of which the first holds together by a corner."""
    mask = np.zeros((5, 8, 8), dtype=bool)
    mask[0, 0:2, 0:2] = True
    mask[1, 2:4, 2:4] = True
    mask[4, 0, 5:8] = True
    mask[4, 7, 7] = True
    return mask


def test_the_largest_component_is_kept(mask: np.ndarray) -> None:
    kept = largest_component(mask)
    assert kept.sum() == 8
    assert kept[1, 3, 3]
    assert not kept[4].any()
    assert (largest_component(kept) == kept).all()
    assert not largest_component(np.zeros_like(mask)).any()


@pytest.mark.parametrize(("fewest", "left"), [(1, 12), (2, 11), (3, 11), (3.5, 8), (9, 0)])
def test_components_below_a_size_are_left_out(mask: np.ndarray, fewest: float, left: int) -> None:
    assert without_small_components(mask, fewest).sum() == left


def test_holes_are_what_no_way_leads_out_of() -> None:
    shell = np.ones((5, 5, 5), dtype=bool)
    shell[2, 2, 2] = False
    assert with_filled_holes(shell).all()
    tunnel = shell.copy()
    tunnel[:, 2, 2] = False
    assert (with_filled_holes(tunnel) == tunnel).all()


def test_holes_of_a_single_slice_are_those_in_its_plane() -> None:
    ring = np.ones((1, 5, 5), dtype=bool)
    ring[0, 2, 2] = False
    assert (with_filled_holes(ring) == ring).all()  # one slice of a volume of several
    assert with_filled_holes(ring, flat_axes=(0,)).all()
