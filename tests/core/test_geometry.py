from __future__ import annotations

import itertools

import numpy as np
import pytest
from builders.geometry import SPACING_XYZ, native_affine
from nibabel.orientations import io_orientation
from scipy.spatial.transform import Rotation

from samnet.core.geometry import Box, Grid, Reorientation, bounding_box, nonzero_box, spacing_affine

SHAPE_ZYX = (3, 4, 5)
MARKED_ZYX = (2, 1, 3)
ORIENTATIONS = [
    (order, signs)
    for order in itertools.permutations(range(3))
    for signs in itertools.product((1, -1), repeat=3)
]


def world(grid: Grid, zyx: tuple[int, ...]) -> np.ndarray:
    return (grid.affine @ [*zyx[::-1], 1.0])[:3]


@pytest.mark.parametrize("degrees", [0.0, 17.0, 44.0])
@pytest.mark.parametrize(("order", "signs"), ORIENTATIONS)
def test_canonical_and_back(order: tuple[int, ...], signs: tuple[int, ...], degrees: float) -> None:
    native = Grid(SHAPE_ZYX, native_affine(order, signs, degrees))
    reorientation = Reorientation(native)
    canonical = reorientation.canonical_grid
    array = np.arange(2 * 60).reshape(2, *SHAPE_ZYX)

    turned = reorientation.to_canonical(array)
    assert turned.shape == (2, *canonical.shape)
    assert np.array_equal(reorientation.to_native(turned), array)
    assert np.array_equal(reorientation.to_canonical(array[0]), turned[0])

    assert np.array_equal(io_orientation(canonical.affine), [[0, 1], [1, 1], [2, 1]])
    index = tuple(int(i) for i in np.argwhere(turned[0] == array[0][MARKED_ZYX])[0])
    assert np.allclose(world(canonical, index), world(native, MARKED_ZYX), atol=1e-9)
    if degrees == 0.0:
        expected_xyz = [SPACING_XYZ[order.index(axis)] for axis in range(3)]
        assert np.allclose(canonical.spacing, expected_xyz[::-1])
    assert np.allclose(sorted(canonical.spacing), sorted(SPACING_XYZ))


@pytest.mark.parametrize("seed", range(20))
def test_any_turned_grid_keeps_its_voxels_in_place(seed: int) -> None:
    affine = np.eye(4)
    affine[:3, :3] = Rotation.random(rng=np.random.default_rng(seed)).as_matrix() * SPACING_XYZ
    native = Grid(SHAPE_ZYX, affine)
    reorientation = Reorientation(native)
    array = np.arange(60).reshape(SHAPE_ZYX)
    turned = reorientation.to_canonical(array)
    assert np.array_equal(reorientation.to_native(turned), array)
    index = tuple(int(i) for i in np.argwhere(turned == array[MARKED_ZYX])[0])
    assert np.allclose(world(reorientation.canonical_grid, index), world(native, MARKED_ZYX))


def test_reorientation_copies_nothing() -> None:
    reorientation = Reorientation(Grid(SHAPE_ZYX, native_affine((2, 0, 1), (-1, 1, -1))))
    array = np.zeros(SHAPE_ZYX)
    turned = reorientation.to_canonical(array)
    assert np.shares_memory(turned, array)
    assert np.shares_memory(reorientation.to_native(turned), array)


def test_a_single_slice_is_reoriented_too() -> None:
    reorientation = Reorientation(Grid((1, 4, 5), np.diag([-0.5, -0.7, 1.0, 1.0])))
    picture = np.arange(20).reshape(1, 4, 5)
    assert np.array_equal(reorientation.to_canonical(picture), picture[:, ::-1, ::-1])


def test_spacing_is_in_the_order_of_the_array_axes() -> None:
    grid = Grid(SHAPE_ZYX, spacing_affine((3.0, 2.0, 1.0)))
    assert grid.spacing == (3.0, 2.0, 1.0)
    assert np.allclose(world(grid, (1, 0, 0)), (0, 0, 3))


def test_distance_is_that_of_the_farthest_corner_in_voxels() -> None:
    grid = Grid(SHAPE_ZYX, spacing_affine((4.0, 0.5, 0.5)))
    shifted, stretched = grid.affine.copy(), grid.affine.copy()
    shifted[0, 3] += 1.0
    stretched[2, 2] += 0.5
    assert grid.distance_in_voxels(Grid(SHAPE_ZYX, shifted)) == pytest.approx(2.0)
    assert grid.distance_in_voxels(Grid(SHAPE_ZYX, stretched)) == pytest.approx(2 * 0.5 / 0.5)


def test_grids_are_close_by_shape_and_distance() -> None:
    grid = Grid(SHAPE_ZYX, spacing_affine((1.0, 1.0, 1.0)))
    nudged = grid.affine.copy()
    nudged[:3, 3] += 0.005
    assert grid.is_close_to(Grid(SHAPE_ZYX, nudged))
    assert not grid.is_close_to(Grid(SHAPE_ZYX, nudged), tolerance=1e-3)
    assert not grid.is_close_to(Grid((3, 4, 6), grid.affine))
    assert not grid.is_close_to(Grid(SHAPE_ZYX, np.full((4, 4), np.nan)))


def test_the_bounding_box_is_tight() -> None:
    mask = np.zeros((6, 7, 8), dtype=bool)
    mask[2, 3, 4] = mask[4, 1, 7] = True
    box = bounding_box(mask)
    assert box == Box((2, 1, 4), (5, 4, 8))
    assert box.shape == mask[box.slices].shape == (3, 3, 4)
    assert mask[box.slices].sum() == 2


def test_the_box_of_nothing_is_everything() -> None:
    assert bounding_box(np.zeros((2, 3, 4), dtype=bool)) == Box((0, 0, 0), (2, 3, 4))


def test_the_nonzero_box_holds_every_channel_and_label() -> None:
    image, labels = np.zeros((2, 5, 5, 5)), np.zeros((5, 5, 5), dtype=np.uint8)
    image[0, 1, 2, 2], image[1, 2, 3, 2], labels[2, 2, 4] = 5, -5, 1
    assert nonzero_box(image) == Box((1, 2, 2), (3, 4, 3))
    assert nonzero_box(image, labels) == Box((1, 2, 2), (3, 4, 5))


@pytest.mark.parametrize("degrees", [0.0, 0.5, 15.0, 60.0])
def test_shear_is_the_angle_that_axes_miss_being_perpendicular_by(degrees: float) -> None:
    affine = native_affine((2, 0, 1), (1, -1, 1), 17.0)
    assert Grid(SHAPE_ZYX, affine).shear == pytest.approx(0, abs=1e-5)
    x, z = affine[:3, 0], affine[:3, 2]
    affine[:3, 2] = z + np.tan(np.radians(degrees)) * np.linalg.norm(z) * x / np.linalg.norm(x)
    assert Grid(SHAPE_ZYX, affine).shear == pytest.approx(degrees, abs=1e-5)


def test_origin_and_direction_are_those_of_the_affine() -> None:
    grid = Grid(SHAPE_ZYX, native_affine((1, 0, 2), (1, -1, 1)))
    assert grid.origin == (-31.5, 8.25, 120.0)
    assert np.allclose(grid.direction, [[0, -1, 0], [1, 0, 0], [0, 0, 1]])
