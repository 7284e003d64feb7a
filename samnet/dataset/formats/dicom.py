"""DICOM image series: a folder of slices, or of one file with many frames, read as a volume.

The grid follows from the positions and orientations that the slices state (ImagePositionPatient
and ImageOrientationPatient, DICOM PS3.3 C.7.6.2), not from file names or numbers. It may be
sheared, as with a tilted gantry. ITK's series reader would make the axes orthogonal.
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
# Largest deviation of one step between slices, as a fraction of the usual distance. Scanners round
# positions to 0.01 or 0.1 mm; a missing slice causes a much larger deviation.
_MAX_DEVIATION = 0.2


@dataclass(frozen=True)
class Series:
    """The header of a DICOM image.

    Attributes:
        files: The files of the series, in the order of the slices.
    """

    files: tuple[Path, ...]


@dataclass(frozen=True)
class _Slice:
    """One file of a series.

    Attributes:
        file: The DICOM file.
        image: Its pixels.
        position: Position of the first voxel in LPS mm.
        orientation: Unit vectors along a row and along a column, as the rows of a 2 x 3 matrix.
    """

    file: Path
    image: SimpleITK.Image
    position: np.ndarray
    orientation: np.ndarray


def is_series(image: Image) -> bool:
    """Say whether an image was read from a DICOM series.

    Args:
        image: An image of any format.

    Returns:
        Whether its header is a `Series`.
    """
    return isinstance(image.header, Series)


def is_dicom(file: Path) -> bool:
    """Say whether a file is a DICOM file, judged by its content and not by its name.

    Args:
        file: Any path.

    Returns:
        Whether it has DICOM's magic bytes; False for the index of a medium (DICOMDIR).
    """
    if not file.is_file() or file.name.upper() == "DICOMDIR":
        return False
    with file.open("rb") as handle:
        handle.seek(_PREAMBLE_BYTES)
        return handle.read(len(_MAGIC)) == _MAGIC


def find_series_folders(folder: Path) -> list[Path]:
    """Find the folders that directly contain DICOM files.

    Args:
        folder: The folder to search, with everything below it.

    Returns:
        The folder itself, if it contains DICOM files, and those below it, sorted by path.
    """
    folders = [folder, *sorted(entry for entry in folder.rglob("*") if entry.is_dir())]
    return [entry for entry in folders if _contains_dicom(entry)]


def _contains_dicom(folder: Path) -> bool:
    return any(is_dicom(file) for file in sorted(folder.iterdir()))


def read_series(folder: Path) -> Image:
    """Read the one series that a folder holds.

    Args:
        folder: A folder of DICOM files; files of other kinds in it are ignored.

    Returns:
        The image with the array `(C, Z, Y, X)`, whose header is a `Series`.

    Raises:
        UserError: The folder holds no DICOM image or several series, a file is no image, or the
            slices form no volume: they differ in size or orientation, are unevenly spaced, or
            share a position.
    """
    files = sorted(file for file in folder.iterdir() if is_dicom(file))
    if not files:
        raise UserError(f"{folder}: no DICOM file in it")
    images = {file: _read_file(file) for file in files}
    _check_one_series(folder, images)
    if len(files) == 1 and not _is_positioned_slice(images[files[0]]):
        volume = itk.as_image(images[files[0]])
        return Image(volume.array, volume.grid, Series((files[0],)))
    slices = _sorted_slices(folder, images)
    grid = _grid(folder, slices)
    arrays = [itk.channels_first(entry.image) for entry in slices]
    if len({array.shape for array in arrays}) > 1:
        raise UserError(f"{folder}: its slices differ in size; keep one acquisition in the folder")
    series = Series(tuple(entry.file for entry in slices))
    return Image(np.concatenate(arrays, axis=1), grid, series)


def _is_positioned_slice(image: SimpleITK.Image) -> bool:
    """Say whether an image is a single 3D slice with a position, not many frames or a 2D image."""
    if image.GetDimension() == 2 or image.GetSize()[2] > 1:
        return False
    return image.HasMetaDataKey(_POSITION)


def _read_file(file: Path) -> SimpleITK.Image:
    import SimpleITK

    try:
        return SimpleITK.ReadImage(str(file), imageIO="GDCMImageIO")
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1]
        raise UserError(
            f"{file}: cannot be read as an image ({reason}); remove it if it is a report, "
            "copy it again if it is a slice"
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
    """Return a DICOM value without its padding, or an empty text where it is missing."""
    return image.GetMetaData(key).strip(" \0") if image.HasMetaDataKey(key) else ""


def _numbers(file: Path, image: SimpleITK.Image, key: str, count: int) -> np.ndarray:
    """Return the numbers of a DICOM value of several parts."""
    text = _value(image, key)
    try:
        values = np.array([float(part) for part in text.split("\\")])
    except ValueError:
        values = np.empty(0)
    if values.shape != (count,) or not np.isfinite(values).all():
        raise UserError(
            f"{file}: the DICOM value ({key.replace('|', ',')}) is {text!r}; "
            f"expected {count} numbers"
        )
    return values


def _sorted_slices(folder: Path, images: dict[Path, SimpleITK.Image]) -> list[_Slice]:
    """Return the slices of a series in ascending order along their common normal."""
    slices = []
    for file, image in images.items():
        position = _numbers(file, image, _POSITION, 3)
        orientation = _numbers(file, image, _ORIENTATION, 6).reshape(2, 3)
        slices.append(_Slice(file, image, position, orientation))
    first = slices[0]
    for entry in slices[1:]:
        if np.abs(entry.orientation - first.orientation).max() > 1e-3:
            raise UserError(
                f"{entry.file}: is turned against {first.file.name}; "
                f"remove localisers from {folder}"
            )
    normal = np.cross(*first.orientation)
    return sorted(slices, key=lambda entry: float(entry.position @ normal))


def _grid(folder: Path, slices: list[_Slice]) -> Grid:
    image, orientation = slices[0].image, slices[0].orientation
    spacing = image.GetSpacing()
    affine = np.eye(4)
    affine[:3, 0] = orientation[0] * spacing[0]
    affine[:3, 1] = orientation[1] * spacing[1]
    if len(slices) == 1:
        affine[:3, 2] = np.cross(*orientation) * spacing[2]
    else:
        affine[:3, 2] = _step(folder, slices)
    affine[:3, 3] = slices[0].position
    return Grid((len(slices), image.GetSize()[1], image.GetSize()[0]), itk.LPS_TO_RAS @ affine)


def _step(folder: Path, slices: list[_Slice]) -> np.ndarray:
    """Return the vector from one slice to the next in LPS mm; the steps have to be equal."""
    positions = np.array([entry.position for entry in slices])
    steps = np.diff(positions, axis=0)
    usual_step = np.median(steps, axis=0)
    usual_distance = float(np.linalg.norm(usual_step))
    distances = np.linalg.norm(steps, axis=1)
    if distances.min() < 1e-3:
        shared = int(distances.argmin())
        raise UserError(
            f"{folder}: {slices[shared].file.name} and {slices[shared + 1].file.name} lie at one "
            "position; keep one time point, echo or reconstruction in the folder"
        )
    deviations = np.linalg.norm(steps - usual_step, axis=1)
    if deviations.max() > _MAX_DEVIATION * usual_distance:
        odd = int(deviations.argmax())
        raise UserError(
            f"{folder}: slices lie {usual_distance:.2f} mm apart, but {slices[odd].file.name} and "
            f"{slices[odd + 1].file.name} {distances[odd]:.2f} mm; "
            "add the missing slices, or remove strange ones"
        )
    return (positions[-1] - positions[0]) / (len(slices) - 1)
