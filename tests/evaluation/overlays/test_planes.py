"""Planes through a volume: the right voxels, the right way up, with the right letters."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from nibabel.orientations import axcodes2ornt, inv_ornt_aff, io_orientation, ornt_transform

from samnet.core.geometry import Grid
from samnet.evaluation.overlays.planes import Edges, ShownVolume, direction_letters

CODES = ["RAS", "LPS", "LAS", "PSR", "IRA", "SAL"]


def grid_of(code: str, shape: tuple[int, int, int] = (4, 5, 6)) -> Grid:
    """Return a grid whose axes x, y, z run as three letters say, `(Z, Y, X)` voxels."""
    transform = ornt_transform(axcodes2ornt("RAS"), axcodes2ornt(tuple(code)))
    affine = np.diag([1.0, 2.0, 3.0, 1.0]) @ inv_ornt_aff(transform, (10, 10, 10))
    assert np.array_equal(io_orientation(affine), axcodes2ornt(tuple(code)))
    return Grid(shape, affine)


@pytest.mark.parametrize(
    ("direction", "letters"),
    [
        ((1, 0, 0), "R"),
        ((-3, 0, 0), "L"),
        ((0, 1, 0), "A"),
        ((0, -1, 0), "P"),
        ((0, 0, 2), "H"),
        ((0, 0, -1), "F"),
        ((0.98, 0.17, 0), "R"),
        ((0.8, -0.6, 0), "RP"),
        ((0, 0.5, -0.86), "FA"),
    ],
)
def test_direction_letters(direction: tuple[float, ...], letters: str) -> None:
    assert direction_letters(np.array(direction)) == letters


@pytest.mark.parametrize("code", CODES)
def test_edges_are_those_of_the_patient_however_the_file_is_stored(code: str) -> None:
    planes = ShownVolume(grid_of(code), is_oriented=True).planes((0, 0, 0))
    assert [plane.name for plane in planes] == ["axial", "coronal", "sagittal"]
    assert [plane.edges for plane in planes] == [
        Edges(left="R", right="L", top="A", bottom="P"),
        Edges(left="R", right="L", top="H", bottom="F"),
        Edges(left="A", right="P", top="H", bottom="F"),
    ]


@pytest.mark.parametrize("code", CODES)
def test_pixels_lie_where_the_letters_say(code: str) -> None:
    """The pixel at the left of a plane is nearer to the patient's side at the left."""
    grid = grid_of(code)
    volume = ShownVolume(grid, is_oriented=True)
    indices = np.stack(np.meshgrid(*map(np.arange, grid.shape), indexing="ij"))
    x, y, z = np.einsum("ij,jzyx->izyx", grid.affine[:3, :3], indices[::-1])
    directions = {"R": x, "L": -x, "A": y, "P": -y, "H": z, "F": -z}
    for plane in volume.planes((1, 1, 1)):
        shown = {name: plane.cut(volume.turn(values)) for name, values in directions.items()}
        for letter in (plane.edges.left, plane.edges.right):
            is_left = letter == plane.edges.left
            row = shown[letter][0]
            assert (np.diff(row) < 0).all() if is_left else (np.diff(row) > 0).all()
        assert (np.diff(shown[plane.edges.top][:, 0]) < 0).all()


@pytest.mark.parametrize("code", CODES)
def test_caption_counts_slices_as_the_file_stores_them(code: str) -> None:
    grid = grid_of(code)
    volume = ShownVolume(grid, is_oriented=True)
    marked = np.zeros(grid.shape, bool)
    marked[3, 1, 4] = True  # z, y, x of the file
    [place] = np.argwhere(volume.turn(marked))
    numbers = {size: index + 1 for index, size in zip((3, 1, 4), grid.shape, strict=True)}
    x, y, z = (grid.affine @ [4, 1, 3, 1])[:3]
    coordinates = {"axial": ("HF", z), "coronal": ("AP", y), "sagittal": ("RL", x)}
    for plane in volume.planes(tuple(place.tolist())):
        letters, coordinate = coordinates[plane.name]
        [size] = [size for size in numbers if f" of {size}," in plane.position]
        letter = letters[int(coordinate < 0)]
        expected = f"{numbers[size]} of {size}, {letter} {abs(coordinate):.1f} mm"
        assert plane.position == expected
        # The triangles point to the voxel, also in a part of the plane.
        assert plane.cut(volume.turn(marked))[plane.marked]


def test_edges_of_an_oblique_volume_have_two_letters() -> None:
    angle = np.radians(30)
    affine = np.eye(4)
    affine[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    axial = ShownVolume(Grid((4, 5, 6), affine), is_oriented=True).planes((0, 0, 0))[0]
    assert axial.edges == Edges(left="RA", right="LP", top="AL", bottom="PR")


def test_volume_without_a_position_in_space_is_shown_as_stored() -> None:
    grid = Grid((3, 4, 5), np.diag([-1.0, -1, 1, 1]), has_spacing=False)
    volume = ShownVolume(grid, is_oriented=False)
    values = np.arange(60).reshape(3, 4, 5)
    plane = volume.planes((1, 2, 3))[0]
    np.testing.assert_array_equal(plane.cut(volume.turn(values)), values[1])
    assert plane.edges == Edges()
    assert plane.position == "2 of 3"


def test_plane_has_the_true_proportions() -> None:
    grid = Grid((7, 20, 30), np.diag([2.0, 6.0, 3.0, 1.0]))
    sizes = [plane.size for plane in ShownVolume(grid, is_oriented=True).planes((0, 0, 0))]
    assert sizes == [(120, 60), (21, 60), (21, 120)]


@pytest.mark.parametrize("is_oriented", [True, False])
def test_frame_marks_the_enlarged_part(is_oriented: bool) -> None:
    volume = ShownVolume(Grid((6, 7, 8), np.eye(4)), is_oriented=is_oriented)
    inner = np.zeros((6, 7, 8), bool)
    inner[1:4, 2:6, 5:7] = True
    part = volume.plane(0, (2, 3, 5)).box.__class__((1, 2, 5), (4, 6, 7))
    for axis in range(3):
        plane = volume.plane(axis, (2, 3, 5))
        row, column, num_rows, num_columns = plane.outline(part)
        framed = np.zeros(plane.shape, bool)
        framed[row : row + num_rows, column : column + num_columns] = True
        np.testing.assert_array_equal(framed, plane.cut(inner))


def test_single_slice_has_one_plane() -> None:
    for shape in itertools.permutations((1, 8, 9)):
        assert len(ShownVolume(Grid(shape, np.eye(4)), is_oriented=True).planes((0, 0, 0))) == 1
