from __future__ import annotations

import itertools

import numpy as np
import pytest
from builders.geometry import SPACING_XYZ, native_affine
from nibabel.orientations import aff2axcodes, io_orientation
from scipy.spatial.transform import Rotation

from samnet.core.geometry import (
    Box,
    Grid,
    Reorientation,
    bounding_box,
    is_orientation,
    nonzero_box,
    spacing_affine,
)

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
def test_reorientation_to_canonical_axes_and_back(
    order: tuple[int, ...], signs: tuple[int, ...], degrees: float
) -> None:
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


@pytest.mark.parametrize("orientation", ["patient", "file", "file_transposed", "LPS"])
@pytest.mark.parametrize(("order", "signs"), ORIENTATIONS)
def test_native_axes_name_the_canonical_axis_of_each_and_its_direction(
    order: tuple[int, ...], signs: tuple[int, ...], orientation: str
) -> None:
    """The axis and direction of a step of one voxel along each axis of the file."""
    reorientation = Reorientation(Grid(SHAPE_ZYX, native_affine(order, signs, 0.0)), orientation)
    numbers = np.arange(60).reshape(SHAPE_ZYX)
    turned = reorientation.to_canonical(numbers)
    for native, (axis, is_reversed) in enumerate(reorientation.native_axes):
        first, next_one = (0, 0, 0), tuple(int(index == native) for index in range(3))
        places = [np.argwhere(turned == numbers[voxel])[0] for voxel in (first, next_one)]
        step = [0, 0, 0]
        step[axis] = -1 if is_reversed else 1
        assert (places[1] - places[0]).tolist() == step


@pytest.mark.parametrize("seed", range(20))
def test_reorientation_keeps_the_voxels_of_any_turned_grid_in_place(seed: int) -> None:
    affine = np.eye(4)
    affine[:3, :3] = Rotation.random(rng=np.random.default_rng(seed)).as_matrix() * SPACING_XYZ
    native = Grid(SHAPE_ZYX, affine)
    reorientation = Reorientation(native)
    array = np.arange(60).reshape(SHAPE_ZYX)
    turned = reorientation.to_canonical(array)
    assert np.array_equal(reorientation.to_native(turned), array)
    index = tuple(int(i) for i in np.argwhere(turned == array[MARKED_ZYX])[0])
    assert np.allclose(world(reorientation.canonical_grid, index), world(native, MARKED_ZYX))


@pytest.mark.parametrize(("order", "signs"), ORIENTATIONS[::5])
@pytest.mark.parametrize("code", ["SAR", "SPL", "LIA"])
def test_reorientation_to_given_directions_and_back(
    order: tuple[int, ...], signs: tuple[int, ...], code: str
) -> None:
    """A code names slices, rows and columns; nibabel names x, y and z."""
    native = Grid(SHAPE_ZYX, native_affine(order, signs, 17.0))
    reorientation = Reorientation(native, code)
    array = np.arange(60).reshape(SHAPE_ZYX)
    turned = reorientation.to_canonical(array)
    assert "".join(reversed(aff2axcodes(reorientation.canonical_grid.affine))) == code
    assert turned.shape == reorientation.canonical_grid.shape
    assert np.array_equal(reorientation.to_native(turned), array)
    if code == "SAR":
        assert np.array_equal(turned, Reorientation(native).to_canonical(array))


def test_reorientation_to_the_axes_of_the_file_leaves_or_transposes_slices() -> None:
    native = Grid(SHAPE_ZYX, native_affine((2, 0, 1), (1, -1, -1), 0.0))
    array = np.arange(60).reshape(SHAPE_ZYX)
    as_stored, transposed = Reorientation(native, "file"), Reorientation(native, "file_transposed")
    assert np.array_equal(as_stored.to_canonical(array), array)
    assert as_stored.canonical_grid.spacing == native.spacing
    assert np.array_equal(transposed.to_canonical(array), array.swapaxes(1, 2))
    assert np.array_equal(transposed.to_native(array.swapaxes(1, 2)), array)
    z, y, x = native.spacing
    assert transposed.canonical_grid.spacing == (z, x, y)


def test_is_orientation_knows_names_and_one_letter_for_each_axis() -> None:
    assert all(map(is_orientation, ("patient", "file", "file_transposed", "SAR", "LPI")))
    assert not any(map(is_orientation, ("", "SA", "SAX", "SAP", "SSS", "SARA", "sar", "Patient")))


def test_box_margins_are_what_is_cut_from_rows_and_columns() -> None:
    box = Box((1, 2, 3), (4, 7, 9))
    assert box.margins((10, 20, 30), 0) == ((2, 13), (3, 21))
    assert box.margins((10, 20, 30), 1) == ((1, 6), (3, 21))
    assert box.margins((10, 20, 30), 2) == ((1, 6), (2, 13))


def test_reorientation_copies_no_voxels() -> None:
    reorientation = Reorientation(Grid(SHAPE_ZYX, native_affine((2, 0, 1), (-1, 1, -1))))
    array = np.zeros(SHAPE_ZYX)
    turned = reorientation.to_canonical(array)
    assert np.shares_memory(turned, array)
    assert np.shares_memory(reorientation.to_native(turned), array)


def test_reorientation_of_a_single_slice() -> None:
    reorientation = Reorientation(Grid((1, 4, 5), np.diag([-0.5, -0.7, 1.0, 1.0])))
    array = np.arange(20).reshape(1, 4, 5)
    assert np.array_equal(reorientation.to_canonical(array), array[:, ::-1, ::-1])


def test_grid_spacing_is_in_the_order_of_the_array_axes() -> None:
    grid = Grid(SHAPE_ZYX, spacing_affine((3.0, 2.0, 1.0)))
    assert grid.spacing == (3.0, 2.0, 1.0)
    assert np.array_equal(grid.affine, np.diag([1.0, 2.0, 3.0, 1.0]))


def test_grid_distance_is_that_of_the_farthest_corner_in_voxels() -> None:
    grid = Grid(SHAPE_ZYX, spacing_affine((4.0, 0.5, 0.5)))
    shifted, stretched = grid.affine.copy(), grid.affine.copy()
    shifted[0, 3] += 1.0
    stretched[2, 2] += 0.5
    assert grid.distance_in_voxels(Grid(SHAPE_ZYX, shifted)) == pytest.approx(2.0)
    assert grid.distance_in_voxels(Grid(SHAPE_ZYX, stretched)) == pytest.approx(2 * 0.5 / 0.5)


@pytest.mark.parametrize(("axis_xyz", "expected"), [(0, 4 * 1.0), (1, 3 * 2.0), (2, 2 * 3.0)])
def test_grid_distance_is_found_where_the_grids_agree_at_the_last_voxel(
    axis_xyz: int, expected: float
) -> None:
    grid = Grid(SHAPE_ZYX, spacing_affine((3.0, 2.0, 1.0)))
    stretched = grid.affine.copy()
    stretched[axis_xyz, axis_xyz] *= 2
    stretched[axis_xyz, 3] = -expected
    assert grid.distance_in_voxels(Grid(SHAPE_ZYX, stretched)) == pytest.approx(expected)


def shifted_by(grid: Grid, x: float = 0.0, y: float = 0.0, z: float = 0.0) -> Grid:
    """Return a grid that is shifted by millimetres."""
    affine = grid.affine.copy()
    affine[:3, 3] += (x, y, z)
    return Grid(grid.shape, affine)


def scaled_by(grid: Grid, x: float = 1.0, y: float = 1.0, z: float = 1.0) -> Grid:
    """Return a grid with the same first voxel and another spacing."""
    return Grid(grid.shape, grid.affine @ np.diag([x, y, z, 1.0]))


def turned_by(grid: Grid, degrees: float) -> Grid:
    """Return a grid that is turned about the z axis through its first voxel."""
    affine = grid.affine.copy()
    turn = Rotation.from_euler("z", degrees, degrees=True).as_matrix()
    affine[:3, :3] = turn @ affine[:3, :3]
    return Grid(grid.shape, affine)


REGULAR = Grid(SHAPE_ZYX, spacing_affine((3.0, 2.0, 1.0)))
# A difference in spacing that is too small to count as one adds up over 100,000 voxels.
LONG = Grid((1, 1, 100_000), spacing_affine((1.0, 1.0, 1.0)))
DIFFERENCES = {
    "shape": (
        Grid((3, 4, 6), REGULAR.affine),
        REGULAR,
        "shape (3, 4, 6) (z, y, x) differs from (3, 4, 5) of its image",
    ),
    "spacing": (
        scaled_by(REGULAR, y=1.25),
        REGULAR,
        "lies 1.5 voxels beside its image (spacing [3.0, 2.5, 1.0] and not [3.0, 2.0, 1.0])",
    ),
    "direction": (
        turned_by(REGULAR, 90.0),
        REGULAR,
        "lies 10.2 voxels beside its image (direction [[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], "
        "[0.0, 0.0, 1.0]] and not [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])",
    ),
    "origin": (
        shifted_by(REGULAR, x=-1.5),
        REGULAR,
        "lies 1.5 voxels beside its image (origin [-1.5, 0.0, 0.0] and not [0.0, 0.0, 0.0])",
    ),
    "position": (scaled_by(LONG, x=1 + 5e-6), LONG, "lies 0.5 voxels beside its image"),
}


@pytest.mark.parametrize("kind", DIFFERENCES)
def test_grid_difference_says_what_differs(kind: str) -> None:
    found, expected, description = DIFFERENCES[kind]
    difference = found.difference(expected)
    assert difference is not None
    assert (difference.kind, difference.found, difference.expected) == (kind, found, expected)
    assert difference.describe("its image") == description


def test_grid_difference_names_everything_that_differs_and_the_spacing_first() -> None:
    difference = shifted_by(scaled_by(REGULAR, x=2.0), y=-7.0).difference(REGULAR)
    assert difference is not None
    assert difference.kind == "spacing"
    assert difference.describe("a.nii").endswith(
        "beside a.nii (spacing [3.0, 2.0, 2.0] and not [3.0, 2.0, 1.0], "
        "origin [0.0, -7.0, 0.0] and not [0.0, 0.0, 0.0])"
    )


def test_grid_difference_finds_the_spacing_of_microscopes() -> None:
    cells = Grid(SHAPE_ZYX, spacing_affine((2e-4, 2e-4, 2e-4)))
    difference = scaled_by(cells, x=1.05).difference(cells)
    assert difference is not None
    assert difference.kind == "spacing"


def test_grid_difference_finds_the_origin_of_microscopes_far_from_the_middle_of_the_stage() -> None:
    cells = shifted_by(Grid(SHAPE_ZYX, spacing_affine((2e-4, 2e-4, 2e-4))), x=30.0)
    difference = shifted_by(cells, x=1e-4).difference(cells)
    assert difference is not None
    assert difference.kind == "origin"


def test_grid_difference_shows_millionths_of_a_millimetre() -> None:
    difference = shifted_by(REGULAR, x=1.23456789).difference(REGULAR)
    assert difference is not None
    assert "origin [1.234568, 0.0, 0.0] and not" in difference.describe("its image")


def test_grid_difference_is_that_of_shapes_alone_where_a_grid_has_no_spacing() -> None:
    counted = Grid(SHAPE_ZYX, np.eye(4), has_spacing=False)
    assert REGULAR.difference(counted) is None
    assert counted.difference(REGULAR) is None
    smaller = Grid((2, 4, 5), np.eye(4), has_spacing=False).difference(REGULAR)
    assert smaller is not None
    assert smaller.kind == "shape"


def test_grid_difference_is_none_within_the_tolerance() -> None:
    assert REGULAR.difference(REGULAR) is None
    nudged = shifted_by(REGULAR, x=0.005, y=0.005)
    assert REGULAR.difference(nudged) is None
    assert REGULAR.difference(shifted_by(REGULAR, x=0.099)) is None
    assert REGULAR.difference(shifted_by(REGULAR, x=0.101)) is not None
    assert REGULAR.difference(nudged, tolerance=1e-3) is not None
    assert REGULAR.difference(shifted_by(REGULAR, x=1.0), tolerance=1.0) is None


def test_grid_difference_is_found_where_the_affine_holds_nan() -> None:
    nowhere = shifted_by(REGULAR, x=np.nan)
    for difference in (REGULAR.difference(nowhere), nowhere.difference(REGULAR)):
        assert difference is not None
        assert difference.kind == "origin"
    assert Grid(SHAPE_ZYX, np.full((4, 4), np.nan)).difference(REGULAR) is not None


def test_bounding_box_is_tight() -> None:
    mask = np.zeros((6, 7, 8), dtype=bool)
    mask[2, 3, 4] = mask[4, 1, 7] = True
    box = bounding_box(mask)
    assert box == Box((2, 1, 4), (5, 4, 8))
    assert box.shape == mask[box.slices].shape == (3, 3, 4)
    assert mask[box.slices].sum() == 2


def test_bounding_box_of_an_empty_mask_is_everything() -> None:
    assert bounding_box(np.zeros((2, 3, 4), dtype=bool)) == Box((0, 0, 0), (2, 3, 4))


def test_nonzero_box_holds_every_channel_and_label() -> None:
    image, labels = np.zeros((2, 5, 5, 5)), np.zeros((5, 5, 5), dtype=np.uint8)
    image[0, 1, 2, 2], image[1, 2, 3, 2], labels[2, 2, 4] = 5, -5, 1
    assert nonzero_box(image) == Box((1, 2, 2), (3, 4, 3))
    assert nonzero_box(image, labels) == Box((1, 2, 2), (3, 4, 5))


@pytest.mark.parametrize("degrees", [0.0, 0.5, 15.0, 60.0])
def test_grid_shear_is_the_deviation_from_a_right_angle(degrees: float) -> None:
    affine = native_affine((2, 0, 1), (1, -1, 1), 17.0)
    assert Grid(SHAPE_ZYX, affine).shear == pytest.approx(0, abs=1e-5)
    x, z = affine[:3, 0], affine[:3, 2]
    affine[:3, 2] = z + np.tan(np.radians(degrees)) * np.linalg.norm(z) * x / np.linalg.norm(x)
    assert Grid(SHAPE_ZYX, affine).shear == pytest.approx(degrees, abs=1e-5)


def test_grid_origin_and_direction_are_those_of_the_affine() -> None:
    grid = Grid(SHAPE_ZYX, native_affine((1, 0, 2), (1, -1, 1)))
    assert grid.origin == (-31.5, 8.25, 120.0)
    assert np.allclose(grid.direction, [[0, -1, 0], [1, 0, 0], [0, 0, 1]])
