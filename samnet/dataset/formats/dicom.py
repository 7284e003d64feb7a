"""DICOM image series: a folder of slices, or of files with many frames, read as a volume.

The grid follows from the positions and orientations that the frames state (ImagePositionPatient
and ImageOrientationPatient, DICOM PS3.3 C.7.6.2), not from file names or numbers, nor from the
order in which frames are stored. It may be sheared, as with a tilted gantry. ITK's series reader
would make the axes orthogonal.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from samnet.core.errors import UserError
from samnet.core.geometry import Grid
from samnet.dataset.formats import dicom_pixels, itk
from samnet.dataset.formats.dicom_files import (
    holds_image,
    is_dicom,
    kind_is_image,
    looks_like_slice,
    object_kind,
    read_header,
)
from samnet.dataset.formats.dicom_frames import (
    Frame,
    count_frames,
    describe_differences,
    frames_of,
    has_position,
)
from samnet.dataset.formats.image import Image

log = logging.getLogger(__name__)

# Largest deviation of one step between slices, as a fraction of the usual distance. Scanners round
# positions to 0.01 or 0.1 mm; a missing slice causes a much larger deviation.
_MAX_DEVIATION = 0.2
# Largest deviation of a component of the orientation's unit vectors: scanners compute them anew for
# each slice, and round. A localiser is turned by much more.
_MAX_TURN = 1e-2
# Largest relative deviation of the pixel spacing: one pixel of shift over 1000 pixels.
_MAX_SPACING_DEVIATION = 1e-3
_SAME_POSITION = 1e-3  # in mm


@dataclass(frozen=True)
class Series:
    """The header of a DICOM image.

    Attributes:
        files: The file of each slice, in the order of the slices.
        frame_numbers: The number of each slice among the frames of its file, from 0 on.
    """

    files: tuple[Path, ...]
    frame_numbers: tuple[int, ...]


def is_series(image: Image) -> bool:
    """Say whether an image was read from a DICOM series.

    Args:
        image: An image of any format.

    Returns:
        Whether its header is a `Series`.
    """
    return isinstance(image.header, Series)


def read_series(folder: Path) -> Image:
    """Read the one series that a folder holds.

    Files of other kinds in the folder are ignored, except those that are named as slices. DICOM
    objects that are no images, such as segmentations and reports, are named in a warning.

    Args:
        folder: A folder of DICOM files.

    Returns:
        The image with the array `(C, Z, Y, X)`, whose header is a `Series`.

    Raises:
        UserError: The folder holds no DICOM image or several series, a file is damaged or has
            frames without positions, or the frames form no volume: they differ in size, spacing
            or orientation, are unevenly spaced, or share a position.
    """
    headers = _image_headers(folder)
    _check_one_series(folder, headers)
    return read_slices(folder, headers)


def read_slices(where: Path | str, headers: Mapping[Path, Any]) -> Image:
    """Read the files of one series as a volume.

    Args:
        where: What messages call the series, such as its folder.
        headers: The header of each file of the series.

    Returns:
        The image with the array `(C, Z, Y, X)`, whose header is a `Series`.

    Raises:
        UserError: A file is damaged or has frames without positions, or the frames form no volume.
    """
    if len(headers) == 1:
        ((file, header),) = headers.items()
        if count_frames(header) == 1 and not has_position(header):
            return _read_2d_image(file, header)
    slices, grid = arrange_slices(where, headers)
    frames_by_file: dict[Path, list[Frame]] = {file: [] for file in headers}
    for entry in sorted(slices, key=lambda entry: entry.number):
        frames_by_file[entry.file].append(entry)
    pixels = {
        file: dicom_pixels.read_intensities(file, headers[file], members)
        for file, members in frames_by_file.items()
    }
    array = np.stack([pixels[entry.file][:, entry.number] for entry in slices], axis=1)
    series = Series(tuple(entry.file for entry in slices), tuple(entry.number for entry in slices))
    return Image(array, grid, series)


def arrange_slices(where: Path | str, headers: Mapping[Path, Any]) -> tuple[list[Frame], Grid]:
    """Find how the slices of one series lie, from their headers alone.

    Args:
        where: What messages call the series, such as its folder.
        headers: The header of each file of the series.

    Returns:
        The slices in the order of the volume, and its grid.

    Raises:
        UserError: A file is missing, frames have no positions, or they form no volume.
    """
    _check_concatenation(where, headers)
    frames: list[Frame] = []
    for file, header in headers.items():
        frames += frames_of(file, header)
    _check_alike(where, frames)
    return _arrange(where, frames)


def _image_headers(folder: Path) -> dict[Path, Any]:
    """Read the headers of all images in a folder, and name the other objects."""
    headers, others = {}, []
    for file in sorted(folder.iterdir()):
        if file.name.startswith("."):
            continue
        if not is_dicom(file):
            if looks_like_slice(file):
                raise UserError(
                    f"{file}: is named as a slice, but is no DICOM file; copy it again, or remove "
                    "it"
                )
            continue
        header = read_header(file)
        if holds_image(header):
            headers[file] = header
        else:
            others.append(f"{file.name} ({object_kind(header)})")
    if not headers:
        if others:
            raise UserError(f"{folder}: no DICOM image in it, but {', '.join(others)}")
        raise UserError(f"{folder}: no DICOM file in it")
    if others:
        log.warning("%s: left out what is no image: %s", folder, ", ".join(others))
    return headers


def _check_one_series(folder: Path, headers: Mapping[Path, Any]) -> None:
    series: dict[str, list[Any]] = {}
    for header in headers.values():
        series.setdefault(str(header.get("SeriesInstanceUID", "")), []).append(header)
    if len(series) > 1:
        listing = ", ".join(
            f"{members[0].get('SeriesDescription') or identifier} ({len(members)} files)"
            for identifier, members in sorted(series.items())
        )
        raise UserError(
            f"{folder}: holds {len(series)} series: {listing}; put each into a folder of its own"
        )


def _check_concatenation(where: Path | str, headers: Mapping[Path, Any]) -> None:
    """Refuse an image that was divided into several files if one is missing (PS3.3 C.7.6.16)."""
    totals: dict[str, int] = {}
    counts: Counter[str] = Counter()
    for header in headers.values():
        identifier = str(header.get("ConcatenationUID", ""))
        total = header.get("InConcatenationTotalNumber")
        if identifier and total:
            totals[identifier] = int(total)
            counts[identifier] += 1
    for identifier, total in totals.items():
        if counts[identifier] != total:
            raise UserError(
                f"{where}: holds {counts[identifier]} of the {total} files that one image was "
                "divided into; add the others"
            )


def _read_2d_image(file: Path, header: Any) -> Image:
    """Read a radiograph, a photograph or the like: one frame without a position."""
    if "Secondary Capture" in object_kind(header):
        raise UserError(
            f"{file}: is a screenshot ({object_kind(header)}) without a position; give the "
            "original image, or save it as PNG if it is the image that is meant"
        )
    if not kind_is_image(header):
        raise UserError(
            f"{file}: has no position, and its kind is unknown ({object_kind(header) or 'none'}); "
            "export it again as an image"
        )
    grid = itk.as_image(dicom_pixels.read_file(file)).grid
    array = dicom_pixels.read_intensities(file, header, [])
    return Image(array, grid, Series((file,), (0,)))


def _check_alike(where: Path | str, frames: Sequence[Frame]) -> None:
    """Refuse frames of several sizes, orientations or spacings."""
    first = frames[0]
    for entry in frames[1:]:
        if entry.size != first.size:
            raise UserError(
                f"{where}: its slices differ in size: {first.name} has {_describe_size(first)}, "
                f"{entry.name} {_describe_size(entry)}; keep one acquisition in the folder"
            )
        if np.abs(entry.orientation - first.orientation).max() > _MAX_TURN:
            differences = describe_differences([first, entry])
            raise UserError(
                f"{where}: {entry.name} is turned against {first.name}"
                f"{f' ({differences})' if differences else ''}; remove localisers, or export one "
                "orientation"
            )
        if not np.allclose(entry.spacing, first.spacing, rtol=_MAX_SPACING_DEVIATION, atol=0):
            raise UserError(
                f"{where}: the pixels of {first.name} are {_describe_spacing(first)} mm, those "
                f"of {entry.name} {_describe_spacing(entry)} mm; keep one acquisition in the folder"
            )


def _describe_size(frame: Frame) -> str:
    rows, columns, channels = frame.size
    return f"{rows} x {columns} pixels" + (f" of {channels} values" if channels > 1 else "")


def _describe_spacing(frame: Frame) -> str:
    return " x ".join(f"{length:g}" for length in frame.spacing)


def _arrange(where: Path | str, frames: Sequence[Frame]) -> tuple[list[Frame], Grid]:
    """Return the frames in ascending order along their common normal, and the grid they form."""
    orientation = np.mean([entry.orientation for entry in frames], axis=0)
    orientation /= np.linalg.norm(orientation, axis=1, keepdims=True)
    normal = np.cross(*orientation)
    slices = sorted(frames, key=lambda entry: float(entry.position @ normal))
    affine = np.eye(4)
    rows, columns = slices[0].spacing
    affine[:3, 0] = orientation[0] * columns
    affine[:3, 1] = orientation[1] * rows
    if len(slices) == 1:
        affine[:3, 2] = normal * abs(slices[0].thickness or 1.0)
    else:
        affine[:3, 2] = _step(where, slices, normal)
    affine[:3, 3] = slices[0].position
    return slices, Grid((len(slices), *slices[0].size[:2]), itk.LPS_TO_RAS @ affine)


def _step(where: Path | str, slices: Sequence[Frame], normal: np.ndarray) -> np.ndarray:
    """Return the vector from one slice to the next in LPS mm; the steps have to be equal."""
    positions = np.array([entry.position for entry in slices])
    _check_positions_differ(where, slices, positions @ normal)
    steps = np.diff(positions, axis=0)
    usual_step = np.median(steps, axis=0)
    usual_distance = float(np.linalg.norm(usual_step))
    deviations = np.linalg.norm(steps - usual_step, axis=1)
    if deviations.max() > _MAX_DEVIATION * usual_distance:
        odd = int(deviations.argmax())
        before, after = slices[odd], slices[odd + 1]
        differences = describe_differences([before, after])
        raise UserError(
            f"{where}: slices lie {usual_distance:.2f} mm apart, but {before.name} and "
            f"{after.name} {np.linalg.norm(steps[odd]):.2f} mm"
            f"{f' ({differences})' if differences else ''}; "
            "add the missing slices, or remove strange ones"
        )
    return (positions[-1] - positions[0]) / (len(slices) - 1)


def _check_positions_differ(
    where: Path | str, slices: Sequence[Frame], heights: np.ndarray
) -> None:
    """Refuse several frames at one position along the normal, and say what tells them apart."""
    distances = np.diff(heights)
    if distances.min() >= _SAME_POSITION:
        return
    shared = int(distances.argmin())
    together = [
        entry
        for entry, height in zip(slices, heights, strict=True)
        if abs(height - heights[shared]) < _SAME_POSITION
    ]
    num_positions = 1 + int((distances >= _SAME_POSITION).sum())
    differences = describe_differences(together)
    raise UserError(
        f"{where}: {slices[shared].name} and {slices[shared + 1].name} lie at one position; keep "
        f"one time point, echo or reconstruction in the folder ({len(slices)} slices lie at "
        f"{num_positions} positions"
        f"{f', and differ in {differences}' if differences else '; they may be copies'})"
    )
