"""Label maps on any grid are prepared and restored without a change."""

from __future__ import annotations

import numpy as np
import pytest
from builders.properties import affines, for_any_input, shapes
from hypothesis import given
from hypothesis import strategies as st

from samnet.core.geometry import Grid, Reorientation
from samnet.preprocessing.case import prepare_labels, prepare_volume


@for_any_input(50)
@given(affines(max_shear=0.2), shapes(), st.integers(0, 999), st.floats(0, 1))
def test_labels_on_any_grid_are_restored_exactly(
    affine: np.ndarray, shape: tuple[int, int, int], seed: int, share: float
) -> None:
    generator = np.random.default_rng(seed)
    labels = np.where(generator.random(shape) < share, generator.integers(1, 9, shape), 0)
    image = np.where(generator.random((2, *shape)) < share, 1.0, 0.0)
    volume = prepare_volume(image, Grid(shape, affine), labels)
    prepared = prepare_labels(labels, volume)
    assert prepared.shape == volume.array.shape[1:] == volume.box.shape
    assert np.array_equal(volume.restore(prepared), labels)
    for channel, prepared_channel in zip(image, volume.array, strict=True):
        assert np.array_equal(volume.restore(prepared_channel), channel)


@for_any_input(40)
@given(affines(max_shear=0.2), shapes())
def test_voxels_keep_their_place_in_space_on_the_canonical_grid(
    affine: np.ndarray, shape: tuple[int, int, int]
) -> None:
    """Each axis then runs mainly to the right, to the front or to the head."""
    reorientation = Reorientation(Grid(shape, affine))
    z, y, x = np.indices(shape)
    homogeneous = np.stack([x, y, z, np.ones(shape)])
    places = np.einsum("ij,jzyx->izyx", affine, homogeneous)[:3]
    moved = np.stack([reorientation.to_canonical(along) for along in places])
    canonical = reorientation.canonical_grid
    assert moved.shape[1:] == canonical.shape
    z, y, x = np.indices(canonical.shape)
    homogeneous = np.stack([x, y, z, np.ones(canonical.shape)])
    expected = np.einsum("ij,jzyx->izyx", canonical.affine, homogeneous)[:3]
    assert np.allclose(moved, expected, rtol=0, atol=1e-9)
    assert sorted(canonical.spacing) == pytest.approx(sorted(Grid(shape, affine).spacing))
    assert (canonical.direction.diagonal() > 0).all()
