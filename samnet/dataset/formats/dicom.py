"""Series of DICOM images: a folder of slices, or of one file with many frames, as a volume.

The grid follows from the positions and orientations that the slices state (ImagePositionPatient and
ImageOrientationPatient, DICOM PS3.3 C.7.6.2), not from file names or numbers. It may be sheared, as with a tilted
gantry, where ITK's series reader makes the axes orthogonal.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from samnet.core.errors import UserError
from samnet.core.geometry import Grid
from samnet.dataset.formats import itk
from samnet.dataset.formats.image import Image

if TYPE_CHECKING:
    import SimpleITK

_SERIES, _DESCRIPTION, _POSITION, _ORIENTATION = "0020|000e", "0008|103e", "0020|0032", "0020|0037"
_PREAMBLE_BYTES, _MAGIC = 128, b"DICM"
# Of the distance between slices: scanners round positions to 0.01 or 0.1 mm; a missing slice shifts by much more.
_UNEVEN = 0.2


@dataclass(frozen=True)
class Series:
    """The files of a series, in the order of the slices."""

    files: tuple[Path, ...]


@dataclass(frozen=True)
class _Slice:
    """position: of the first voxel in LPS mm. orientation: rows, whose vectors run along a row and along a column."""

    file: Path
    image: SimpleITK.Image
    position: np.ndarray
    orientation: np.ndarray


def is_series(image: Image) -> bool:
    return isinstance(image.header, Series)


def is_dicom(file: Path) -> bool:
    """Whether a file is one of DICOM's, whatever its name; the index of a medium (DICOMDIR) is none."""
    if not file.is_file() or file.name.upper() == "DICOMDIR":
        return False
    with file.open("rb") as handle:
        handle.seek(_PREAMBLE_BYTES)
        return handle.read(len(_MAGIC)) == _MAGIC


def find_series_folders(folder: Path) -> list[Path]:
    """The folder and those below it that hold DICOM files directly."""
    folders = [folder, *sorted(entry for entry in folder.rglob("*") if entry.is_dir())]
    return [entry for entry in folders if any(is_dicom(file) for file in sorted(entry.iterdir()))]


def read_series(folder: Path) -> Image:
    """Read the one series that a folder holds.

    Raises:
        UserError: the folder holds no DICOM image or several series, a file is no image, or the slices do not make a
            volume: they differ in size or orientation, are unevenly spaced, or share a position.
    """
    files = sorted(file for file in folder.iterdir() if is_dicom(file))
    if not files:
        raise UserError(f"{folder}: no DICOM file in it")
    images = {file: _read_file(file) for file in files}
    _check_one_series(folder, images)
    first = images[files[0]]
    if len(files) == 1 and (
        first.GetDimension() == 2 or first.GetSize()[2] > 1 or not first.HasMetaDataKey(_POSITION)
    ):
        lone = itk.as_image(first)
        return Image(lone.array, lone.grid, Series((files[0],)))
    slices = _sorted_slices(folder, images)
    grid = _grid(folder, slices)
    arrays = [itk.channels_first(entry.image) for entry in slices]
    if len({array.shape for array in arrays}) > 1:
        raise UserError(f"{folder}: its slices differ in size; keep one acquisition in the folder")
    return Image(
        np.concatenate(arrays, axis=1), grid, Series(tuple(entry.file for entry in slices))
    )


def _read_file(file: Path) -> SimpleITK.Image:
    import SimpleITK

    try:
        return SimpleITK.ReadImage(str(file), imageIO="GDCMImageIO")
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1]
        raise UserError(
            f"{file}: cannot be read as an image ({reason}); remove it if it is a report, copy it anew if it is a slice"
        ) from error


def _check_one_series(folder: Path, images: dict[Path, SimpleITK.Image]) -> None:
    series: dict[str, list[SimpleITK.Image]] = {}
    for image in images.values():
        series.setdefault(_value(image, _SERIES), []).append(image)
    if len(series) > 1:
        listing = ", ".join(
            f"{_value(members[0], _DESCRIPTION) or identifier} ({len(members)} files)"
            for identifier, members in sorted(series.items())
        )
        raise UserError(
            f"{folder}: holds {len(series)} series: {listing}; put each into a folder of its own"
        )


def _value(image: SimpleITK.Image, key: str) -> str:
    return image.GetMetaData(key).strip(" \0") if image.HasMetaDataKey(key) else ""


def _numbers(file: Path, image: SimpleITK.Image, key: str, count: int) -> np.ndarray:
    text = _value(image, key)
    try:
        values = np.array([float(part) for part in text.split("\\")])
    except ValueError:
        values = np.empty(0)
    if values.shape != (count,) or not np.isfinite(values).all():
        raise UserError(
            f"{file}: the DICOM value ({key.replace('|', ',')}) is {text!r}; expected {count} numbers"
        )
    return values


def _sorted_slices(folder: Path, images: dict[Path, SimpleITK.Image]) -> list[_Slice]:
    slices = [
        _Slice(
            file,
            image,
            _numbers(file, image, _POSITION, 3),
            _numbers(file, image, _ORIENTATION, 6).reshape(2, 3),
        )
        for file, image in images.items()
    ]
    first = slices[0]
    for entry in slices[1:]:
        if np.abs(entry.orientation - first.orientation).max() > 1e-3:
            raise UserError(
                f"{entry.file}: is turned against {first.file.name}; remove localisers from {folder}"
            )
    normal = np.cross(*first.orientation)
    return sorted(slices, key=lambda entry: float(entry.position @ normal))


def _grid(folder: Path, slices: list[_Slice]) -> Grid:
    image, orientation = slices[0].image, slices[0].orientation
    spacing = image.GetSpacing()
    affine = np.eye(4)
    affine[:3, 0] = orientation[0] * spacing[0]
    affine[:3, 1] = orientation[1] * spacing[1]
    affine[:3, 2] = (
        np.cross(*orientation) * spacing[2] if len(slices) == 1 else _step(folder, slices)
    )
    affine[:3, 3] = slices[0].position
    return Grid((len(slices), image.GetSize()[1], image.GetSize()[0]), itk.LPS_TO_RAS @ affine)


def _step(folder: Path, slices: list[_Slice]) -> np.ndarray:
    """From one slice to the next, in LPS mm.

    Raises:
        UserError: the slices are not evenly spaced along a line.
    """
    positions = np.array([entry.position for entry in slices])
    steps = np.diff(positions, axis=0)
    usual = np.median(steps, axis=0)
    distance = float(np.linalg.norm(usual))
    lengths = np.linalg.norm(steps, axis=1)
    if lengths.min() < 1e-3:
        shared = int(lengths.argmin())
        raise UserError(
            f"{folder}: {slices[shared].file.name} and {slices[shared + 1].file.name} lie at one position; keep one "
            "time point, echo or reconstruction in the folder"
        )
    deviations = np.linalg.norm(steps - usual, axis=1)
    if deviations.max() > _UNEVEN * distance:
        odd = int(deviations.argmax())
        raise UserError(
            f"{folder}: slices lie {distance:.2f} mm apart, but {slices[odd].file.name} and "
            f"{slices[odd + 1].file.name} {lengths[odd]:.2f} mm; add the missing slices, or remove strange ones"
        )
    return (positions[-1] - positions[0]) / (len(slices) - 1)
