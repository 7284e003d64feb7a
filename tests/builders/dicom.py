"""Synthetic DICOM series, written slice by slice."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import SimpleITK

SERIES_UID = "1.2.826.0.1.3680043.2.1125.1"
STUDY_UID = "1.2.826.0.1.3680043.2.1125.2"
FRAME_UID = "1.2.3.4.5"
AXIAL = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0))


def write_series(
    folder: Path,
    array: np.ndarray,
    positions: Sequence[Sequence[float]],
    orientation: Sequence[Sequence[float]] = AXIAL,
    pixel_spacing: tuple[float, float] = (0.7, 0.5),
    series_uid: str = SERIES_UID,
    names: Sequence[str] | None = None,
) -> None:
    """Write the slices of a CT, one per file.

    Args:
        folder: The folder to write to; it is created where it is missing.
        array: Values `(Z, Y, X)` of 16-bit integers.
        positions: Position of the first voxel of each slice in LPS mm.
        orientation: Unit vectors along a row and along a column.
        pixel_spacing: Distance between rows and between columns in mm.
        series_uid: SeriesInstanceUID of all slices.
        names: File names of the slices; by default names whose order is not that of the slices.
    """
    folder.mkdir(parents=True, exist_ok=True)
    direction = [value for vector in orientation for value in vector]
    for index, (plane, position) in enumerate(zip(array, positions, strict=True)):
        image = SimpleITK.GetImageFromArray(plane[None].astype(np.int16))
        image.SetSpacing((pixel_spacing[1], pixel_spacing[0], 1.0))
        tags = {
            "0008|0016": "1.2.840.10008.5.1.4.1.1.2",
            "0008|0018": f"{series_uid}.{index + 1}",
            "0008|0060": "CT",
            "0008|103e": f"series {series_uid[-1]}",
            "0010|0010": "Synthetic^Patient",
            "0010|0020": "synthetic",
            "0018|0050": "2.0",
            "0020|000d": STUDY_UID,
            "0020|000e": series_uid,
            "0020|0013": str(len(array) - index),
            "0020|0032": "\\".join(f"{value:.6f}" for value in position),
            "0020|0037": "\\".join(f"{value:.9f}" for value in direction),
            "0020|0052": FRAME_UID,
        }
        for key, value in tags.items():
            image.SetMetaData(key, value)
        writer = SimpleITK.ImageFileWriter()
        writer.KeepOriginalImageUIDOn()
        writer.SetImageIO("GDCMImageIO")
        name = names[index] if names else f"IM{7 * index % 11:04d}.dcm"
        writer.SetFileName(str(folder / name))
        writer.Execute(image)
