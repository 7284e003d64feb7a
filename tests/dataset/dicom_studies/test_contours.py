"""Contours become the voxels whose centres lie within them, on any series."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from builders.structure_sets import (
    OBLIQUE,
    OBLIQUE_NORMAL,
    Volume,
    circle,
    keyhole,
    write_structure_set,
)

from samnet.core.geometry import Grid
from samnet.dataset.dicom_studies.contours import Contour, fill_contours
from samnet.dataset.dicom_studies.geometry import SeriesGeometry
from samnet.dataset.dicom_studies.objects import find_studies
from samnet.dataset.dicom_studies.series_reading import read_geometry
from samnet.dataset.dicom_studies.structure_sets import read_contours
from samnet.dataset.formats.itk import LPS_TO_RAS

CLOSED, XOR = "CLOSED_PLANAR", "CLOSEDPLANAR_XOR"
AXIAL_SERIES = Volume(shape=(16, 40, 40))
SHAPE = (30, 44, 48)
SERIES = {
    "axial": Volume(SHAPE),
    "oblique": Volume(SHAPE, orientation=OBLIQUE, step=OBLIQUE_NORMAL),
    "tilted": Volume(SHAPE, step=(0.0, 0.35, 1.0)),
}
CENTRE = (23.4, 21.7)  # x and y in mm, in the middle of the slices
Rings = Callable[[float], list[np.ndarray]]


def draw(volume: Volume, rings_at: Rings, kind: str = CLOSED, step: float = 1.0) -> list:
    """Return the contours of a shape on the planes of a series, whose heights are in mm."""
    height_of_step = float(np.cross(*np.array(volume.orientation)) @ np.array(volume.step))
    contours = []
    for z in np.arange(0, volume.shape[0], step):
        # On a tilted series the planes are shifted; the shape is not.
        along_row, along_column = np.array(volume.orientation)
        shift = z * np.array(volume.step)
        offset = np.array([shift @ along_row, shift @ along_column])
        for ring in rings_at(z * height_of_step):
            x, y = (ring - offset).T
            contours.append((volume.plane_point(z, x, y), kind))
    return contours


def sphere(radius: float) -> tuple[Rings, Callable]:
    def rings(height: float) -> list[np.ndarray]:
        squared = radius**2 - (height - 14.3) ** 2
        return [circle(np.sqrt(squared), CENTRE)] if squared > 0 else []

    def contains(h: np.ndarray, y: np.ndarray, x: np.ndarray) -> np.ndarray:
        return (x - CENTRE[0]) ** 2 + (y - CENTRE[1]) ** 2 + (h - 14.3) ** 2 <= radius**2

    return rings, contains


def torus(joined: bool) -> tuple[Rings, Callable]:
    def rings(height: float) -> list[np.ndarray]:
        squared = 6.0**2 - (height - 14.3) ** 2
        if squared <= 0:
            return []
        outer, hole = (circle(11 + sign * np.sqrt(squared), CENTRE, 120) for sign in (1, -1))
        return [keyhole(outer, hole)] if joined else [hole, outer]

    def contains(h: np.ndarray, y: np.ndarray, x: np.ndarray) -> np.ndarray:
        distance = np.hypot(x - CENTRE[0], y - CENTRE[1])
        return (distance - 11) ** 2 + (h - 14.3) ** 2 <= 6.0**2

    return rings, contains


def tube() -> tuple[Rings, Callable]:
    def centre(height: float | np.ndarray) -> tuple:
        return 14 + 0.6 * height, 20 + 0.1 * height

    def rings(height: float) -> list[np.ndarray]:
        return [circle(7.0, centre(height))] if 3.5 <= height <= 25.5 else []

    def contains(h: np.ndarray, y: np.ndarray, x: np.ndarray) -> np.ndarray:
        u, v = centre(h)
        return (np.hypot(x - u, y - v) <= 7) & (h >= 3.5) & (h <= 25.5)

    return rings, contains


@dataclass(frozen=True)
class Drawn:
    volume: Volume
    geometry: SeriesGeometry
    contours: dict[int, list[Contour]]


def dice(one: np.ndarray, other: np.ndarray) -> float:
    return 2 * float((one & other).sum()) / float(one.sum() + other.sum())


def write(studies: Path, volume: Volume, contours: list, **others: list) -> None:
    images = volume.write(studies / "scan" / "ct")
    write_structure_set(studies / "rs", {"organ": contours, **others}, images)


SHAPES = {
    "sphere": (sphere(11), CLOSED),
    "torus": (torus(False), CLOSED),
    "torus by exclusive or": (torus(False), XOR),
    "torus by a keyhole": (torus(True), CLOSED),
    "tube": (tube(), CLOSED),
}


@pytest.fixture(scope="module", params=SERIES)
def drawn(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Drawn:
    """Write a series with all shapes; read its geometry and the contours."""
    volume = SERIES[request.param]
    folder = tmp_path_factory.mktemp("studies")
    images = volume.write(folder / "ct")
    structures = {name: draw(volume, rings, kind) for name, ((rings, _), kind) in SHAPES.items()}
    write_structure_set(folder / "rs", structures, images)
    (series,) = find_studies(folder).series.values()
    return Drawn(volume, read_geometry(series), read_contours(folder / "rs"))


@pytest.mark.parametrize("shape", SHAPES)
def test_contours_of_shapes_on_any_series(drawn: Drawn, shape: str) -> None:
    (_, contains), _ = SHAPES[shape]
    contours = drawn.contours[1 + list(SHAPES).index(shape)]
    filled = fill_contours(contours, drawn.geometry)
    exact = contains(*drawn.volume.in_plane())
    assert filled.doubts == []
    assert exact.sum() > 3000
    assert dice(filled.mask, exact) > 0.995


def square(low: float, high: float, z: int) -> np.ndarray:
    corners = np.array([[low, low], [high, low], [high, high], [low, high]])
    return AXIAL_SERIES.plane_point(z, *corners.T)


def test_pixels_on_a_contour_belong_to_it_and_not_to_its_hole(
    studies: Path, converted: Callable
) -> None:
    write(studies, AXIAL_SERIES, [(square(5, 20, 4), CLOSED), (square(9, 14, 4), CLOSED)])
    expected = np.zeros(AXIAL_SERIES.shape, bool)
    expected[4, 5:21, 5:21] = True
    expected[4, 10:14, 10:14] = False
    assert np.array_equal(converted().mask("organ"), expected)


def test_islands_in_holes_copies_and_neighbours(
    studies: Path, converted: Callable, capsys: pytest.CaptureFixture
) -> None:
    contours = [square(4.5, 20.5, 4), square(7.5, 17.5, 4), square(10.5, 14.5, 4)]
    contours += [square(4.5, 20.5, 4)]  # a copy
    contours += [square(24.5, 30.5, 4), square(28.5, 36.5, 4)]  # overlap in part
    write(studies, AXIAL_SERIES, [(points, CLOSED) for points in contours])
    expected = np.zeros(AXIAL_SERIES.shape, bool)
    for low, high, value in ((5, 21, 1), (8, 18, 0), (11, 15, 1), (25, 31, 1), (29, 37, 1)):
        expected[4, low:high, low:high] = value
    assert np.array_equal(converted().mask("organ"), expected)
    assert "on 1 planes contours overlap in part; they are united" in capsys.readouterr().out


def geometry_of(volume: Volume) -> SeriesGeometry:
    affine = np.eye(4)
    affine[:3, 3] = volume.first
    grid = Grid(volume.shape, LPS_TO_RAS @ affine)
    return SeriesGeometry(grid, np.array(volume.positions()), ("",) * volume.shape[0])


def test_contours_on_every_second_slice_are_interpolated() -> None:
    rings, contains = sphere(11)
    volume = SERIES["axial"]
    contours = [Contour(points, kind) for points, kind in draw(volume, rings, step=2)]
    filled = fill_contours(contours, geometry_of(volume))
    assert dice(filled.mask, contains(*volume.in_plane())) > 0.97
    sentence = "slices have no contour and are interpolated between their neighbours"
    assert filled.doubts == [f"10 {sentence}"]


@pytest.mark.parametrize("shift", [0.3, 0.5])
def test_contours_between_slices_are_interpolated(shift: float) -> None:
    rings, contains = sphere(11)
    volume = SERIES["axial"]
    between = Volume(SHAPE, first=(-20.3, 14.7, -100.2 + shift))
    drawn = draw(between, lambda height: rings(height + shift))
    filled = fill_contours([Contour(*entry) for entry in drawn], geometry_of(volume))
    assert dice(filled.mask, contains(*volume.in_plane())) > 0.97


def test_a_gap_between_parts_stays_empty(
    studies: Path, converted: Callable, capsys: pytest.CaptureFixture
) -> None:
    heights = (3, 4, 5, 6, 12, 13)
    write(studies, AXIAL_SERIES, [(square(5.5, 20.5, z), CLOSED) for z in heights])
    filled = converted().mask("organ").any(axis=(1, 2))
    assert np.flatnonzero(filled).tolist() == list(heights)
    assert "5 slices between contours have none and stay empty" in capsys.readouterr().out


def test_lines_and_other_planes_are_left_out_with_a_word(
    studies: Path, converted: Callable, capsys: pytest.CaptureFixture
) -> None:
    upright = np.array([[0.0, 0.0, -95], [9.0, 0.0, -95], [9.0, 0.0, -85]])
    line = square(3, 9, 8)
    contours = [(square(5.5, 20.5, 4), CLOSED), (upright, CLOSED), (line, "OPEN_PLANAR")]
    contours += [(square(5.5, 20.5, 90), CLOSED)]
    isocentre = [(np.zeros((1, 3)), "POINT")]
    write(studies, AXIAL_SERIES, contours, isocentre=isocentre)
    result = converted()
    assert result.description["labels"] == {"background": 0, "organ": 1}
    assert result.labels().sum() == 15**2
    said = capsys.readouterr().out
    assert "isocentre: has no area (POINT) and is left out" in said
    assert "organ: 1 of 4 contours enclose no area (points or open lines)" in said
    assert "organ: 1 of 4 contours are not parallel to the slices and are left out" in said
    assert "organ: 1 contours lie outside the slices of the series" in said


def test_a_structure_without_voxels_is_refused_with_the_reason(
    studies: Path, convert: Callable, capsys: pytest.CaptureFixture
) -> None:
    write(studies, AXIAL_SERIES, [(square(5.5, 20.5, 90), CLOSED)])
    assert convert() == 2
    said = capsys.readouterr().err
    assert "none of its structures has a voxel" in said
    assert "1 contours lie outside the slices" in said
