"""Synthetic structure sets (RTSTRUCT) and shapes with known contours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from scipy.spatial.transform import Rotation

from builders.dicom import AXIAL, FRAME_UID, SERIES_UID, STUDY_UID, write_object, write_series

STRUCTURE_SET_CLASS = "1.2.840.10008.5.1.4.1.1.481.3"
_TURNED = Rotation.from_euler("xyz", [20, -15, 30], degrees=True).as_matrix()
OBLIQUE = (tuple(_TURNED[0]), tuple(_TURNED[1]))
OBLIQUE_NORMAL = tuple(_TURNED[2])
Contours = Sequence[tuple[np.ndarray, str]]


def write_structure_set(
    file: Path,
    structures: Mapping[str, Contours],
    images: Sequence[str] = (),
    series_uid: str | None = SERIES_UID,
    kinds: Mapping[str, str] | None = None,
    **elements: Any,
) -> None:
    """Write a structure set.

    Args:
        file: The file.
        structures: Name -> contours: points `(N, 3)` in LPS mm, and the geometric type.
        images: SOPInstanceUIDs that the structure set refers to.
        series_uid: The series that it refers to; None for none.
        kinds: Name -> interpreted type.
        **elements: Further elements by keyword.
    """
    image_items = [_item(ReferencedSOPInstanceUID=uid) for uid in images]
    frame = _item(FrameOfReferenceUID=elements.get("FrameOfReferenceUID", FRAME_UID))
    if series_uid is not None:
        series = _item(SeriesInstanceUID=series_uid, ContourImageSequence=image_items)
        study = _item(ReferencedSOPInstanceUID=STUDY_UID, RTReferencedSeriesSequence=[series])
        frame.RTReferencedStudySequence = [study]
    regions, contours, observations = [], [], []
    for number, (name, listed) in enumerate(structures.items(), 1):
        regions.append(_item(ROINumber=number, ROIName=name))
        # Where no series is named, the contours refer to an image.
        image = image_items[:1] if series_uid is None else []
        items = [_contour(points, kind, image) for points, kind in listed]
        contours.append(_item(ReferencedROINumber=number, ContourSequence=items))
        observations.append(
            _item(ReferencedROINumber=number, RTROIInterpretedType=(kinds or {}).get(name, ""))
        )
    usual = {
        "Modality": "RTSTRUCT",
        "SeriesInstanceUID": "1.2.3.99",
        "StructureSetLabel": "drawn",
        "ReferencedFrameOfReferenceSequence": [frame],
        "StructureSetROISequence": regions,
        "ROIContourSequence": contours,
        "RTROIObservationsSequence": observations,
    }
    write_object(file, STRUCTURE_SET_CLASS, **{**usual, **elements})


def _contour(points: np.ndarray, kind: str, images: list) -> pydicom.Dataset:
    return _item(
        ContourImageSequence=images,
        ContourGeometricType=kind,
        NumberOfContourPoints=len(points),
        ContourData=[f"{value:.3f}" for value in np.ravel(points)],
    )


def _item(**elements: Any) -> pydicom.Dataset:
    item = pydicom.Dataset()
    for keyword, value in elements.items():
        setattr(item, keyword, value)
    return item


@dataclass(frozen=True)
class Volume:
    """A series of a known geometry.

    Attributes:
        shape: Number of voxels along `(Z, Y, X)`.
        orientation: Unit vectors along a row and along a column.
        step: From one slice to the next in LPS mm.
        pixels: Distance of rows and of columns in mm.
        first: Position of the first voxel in LPS mm.
    """

    shape: tuple[int, int, int] = (8, 40, 44)
    orientation: tuple = AXIAL
    step: tuple[float, float, float] = (0.0, 0.0, 1.0)
    pixels: tuple[float, float] = (1.0, 1.0)
    first: tuple[float, float, float] = (-20.3, 14.7, -100.2)

    def positions(self) -> list[np.ndarray]:
        """Return the position of the first voxel of each slice."""
        return [
            np.array(self.first) + number * np.array(self.step) for number in range(self.shape[0])
        ]

    def points(self) -> np.ndarray:
        """Return the centre of each voxel `(Z, Y, X, 3)` in LPS mm."""
        z, y, x = np.indices(self.shape)[..., None]
        along_row, along_column = np.array(self.orientation)
        in_plane = x * self.pixels[1] * along_row + y * self.pixels[0] * along_column
        return np.array(self.first) + in_plane + z * np.array(self.step)

    def plane_point(self, z: float, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Return points of a plane in LPS mm; z in slices, x and y in mm from the first voxel."""
        along_row, along_column = np.array(self.orientation)
        start = np.array(self.first) + z * np.array(self.step)
        return start + x[:, None] * along_row + y[:, None] * along_column

    def in_plane(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return z, y, x of each voxel `(Z, Y, X)` as `plane_point` takes them, heights in mm."""
        along_row, along_column = np.array(self.orientation)
        normal = np.cross(along_row, along_column)
        offsets = self.points() - np.array(self.first)
        return offsets @ normal, offsets @ along_column, offsets @ along_row

    def write(self, folder: Path, array: np.ndarray | None = None, **options: Any) -> list[str]:
        """Write the series; return the SOPInstanceUIDs in the order of the slices."""
        if array is None:
            generator = np.random.default_rng(0)
            array = generator.integers(-100, 100, self.shape)
        names = [f"s{number:03d}" for number in range(len(array))]
        options = {"orientation": self.orientation, "pixel_spacing": self.pixels, **options}
        write_series(folder, array, self.positions(), names=names, **options)
        uid = options.get("series_uid", SERIES_UID)
        return [f"{uid}.{number + 1}" for number in range(len(array))]


def circle(radius: float, centre: tuple[float, float], count: int = 60) -> np.ndarray:
    """Return the corners `(N, 2)` of a circle as x and y."""
    angles = np.linspace(0, 2 * np.pi, count, endpoint=False)
    return np.array(centre) + radius * np.stack([np.cos(angles), np.sin(angles)], axis=1)


def keyhole(outer: np.ndarray, hole: np.ndarray) -> np.ndarray:
    """Join a hole to an outline `(N, 2)` by a channel from the first corner of each."""
    return np.concatenate([outer, outer[:1], hole[::-1], hole[-1:]])


def change_headers(folder: Path, **elements: Any) -> None:
    """Set elements of all DICOM files in a folder."""
    for file in folder.iterdir():
        dataset = pydicom.dcmread(file)
        for keyword, value in elements.items():
            setattr(dataset, keyword, value)
        dataset.save_as(file)
