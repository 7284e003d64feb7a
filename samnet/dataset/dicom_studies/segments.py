"""The segments of a DICOM segmentation as voxels of the series that it refers to."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from samnet.core.errors import UserError
from samnet.dataset.dicom_studies.geometry import SeriesGeometry
from samnet.dataset.formats.dicom_files import read_header
from samnet.dataset.formats.dicom_frames import Frame, frames_of

_ON_VOXEL = 0.1  # largest distance of a frame's pixels from those of the series, in voxels
_ON_SLICE = 0.2  # of its plane from that of the slice, in distances of slices


@dataclass(frozen=True)
class Segmentation:
    """The frames of a DICOM segmentation.

    Attributes:
        file: The file.
        header: Its header, a dataset of pydicom with its pixels.
        frames: Where its frames lie.
        values: Stored values `(N, Y, X)`.
    """

    file: Path
    header: Any
    frames: list[Frame]
    values: np.ndarray


def read_segmentation(file: Path) -> Segmentation:
    """Read a DICOM segmentation.

    Args:
        file: The file.

    Returns:
        Its frames.

    Raises:
        UserError: It is damaged, compressed in a way that cannot be read, or has no positions.
    """
    import pydicom

    frames = frames_of(file, read_header(file))
    source = pydicom.dcmread(file, force=True)
    try:
        values = np.asarray(source.pixel_array)
        values = values.reshape(len(frames), *values.shape[-2:])
    except (OSError, MemoryError):
        raise
    except Exception as error:  # whatever a decoder makes of a damaged or unknown stream
        raise UserError(
            f"{file}: its pixels cannot be read ({error}); copy it again, or decompress it first"
        ) from error
    if source.get("SegmentationType") == "FRACTIONAL" and not source.get("MaximumFractionalValue"):
        raise UserError(f"{file}: does not say which value stands for 1; export it again")
    return Segmentation(file, source, frames, values)


def read_segment(
    segmentation: Segmentation, number: int, geometry: SeriesGeometry, threshold: float
) -> tuple[np.ndarray, list[str]]:
    """Return a segment as a mask on the grid of the series.

    Args:
        segmentation: The segmentation.
        number: SegmentNumber.
        geometry: How the slices of the series lie.
        threshold: The lowest share or probability of a fractional segmentation that counts.

    Returns:
        Booleans `(Z, Y, X)`, and sentences on what is cut off.

    Raises:
        UserError: The pixels of a frame do not lie on those of the series.
    """
    mask = np.zeros(geometry.grid.shape, bool)
    num_outside = 0
    for position, frame in enumerate(segmentation.frames):
        drawn = _pixels_of(segmentation, position, number, threshold)
        if drawn is None or not drawn.any():
            continue
        place = _place(segmentation.file, frame, geometry)
        if place is None:
            num_outside += 1
        else:
            place.write(drawn, mask)
    if not num_outside:
        return mask, []
    return mask, [f"{num_outside} frames lie outside the slices of the series"]


def _pixels_of(
    segmentation: Segmentation, position: int, number: int, threshold: float
) -> np.ndarray | None:
    """Return where a frame has a segment, as booleans `(Y, X)`; None for a frame of another one."""
    header, values = segmentation.header, segmentation.values[position]
    kind = header.get("SegmentationType")
    if kind == "LABELMAP":
        return values == number
    if _segment_of_frame(segmentation.file, header, position) != number:
        return None
    if kind == "FRACTIONAL":
        return values >= threshold * float(header.MaximumFractionalValue)
    return values > 0


def _segment_of_frame(file: Path, header: Any, position: int) -> int:
    groups = list(header.get("PerFrameFunctionalGroupsSequence") or [])[position : position + 1]
    groups += list(header.get("SharedFunctionalGroupsSequence") or [])
    for group in groups:
        for item in group.get("SegmentIdentificationSequence") or []:
            if str(item.get("ReferencedSegmentNumber") or "").isdigit():
                return int(item.ReferencedSegmentNumber)
    raise UserError(
        f"{file}: frame {position + 1} does not say which segment it is of; export it again"
    )


@dataclass(frozen=True)
class _Place:
    """Where the pixels of a frame lie in the series: a slice, and rows and columns `(Y, X)`."""

    number: int
    rows: np.ndarray
    columns: np.ndarray

    def write(self, drawn: np.ndarray, mask: np.ndarray) -> None:
        _, num_rows, num_columns = mask.shape
        is_inside = (self.rows >= 0) & (self.rows < num_rows)
        is_inside &= (self.columns >= 0) & (self.columns < num_columns)
        found = drawn & is_inside
        mask[self.number][self.rows[found], self.columns[found]] = True


def _place(file: Path, frame: Frame, geometry: SeriesGeometry) -> _Place | None:
    """Find the pixels of the series on which those of a frame lie; None for a frame beyond it."""
    num_rows, num_columns = frame.size[:2]
    steps = np.stack(
        [frame.orientation[0] * frame.spacing[1], frame.orientation[1] * frame.spacing[0]]
    )
    corners = frame.position + np.array([[0, 0], [num_columns - 1, 0], [0, num_rows - 1]]) @ steps
    x, y, z = geometry.to_voxels(corners).T
    number = round(float(z[0]))
    if np.abs(z - number).max() > _ON_SLICE:
        raise UserError(
            f"{file}: {frame.name} does not lie on a slice of its series; export the segmentation "
            "on the slices of the images"
        )
    if not 0 <= number < geometry.grid.shape[0]:
        return None
    row_indices, column_indices = np.mgrid[:num_rows, :num_columns]
    positions = []
    for coordinate in (y, x):
        along_row = (coordinate[1] - coordinate[0]) / max(num_columns - 1, 1)
        along_column = (coordinate[2] - coordinate[0]) / max(num_rows - 1, 1)
        exact = coordinate[0] + column_indices * along_row + row_indices * along_column
        nearest = np.rint(exact).astype(int)
        if np.abs(exact - nearest).max() > _ON_VOXEL:
            raise UserError(
                f"{file}: the pixels of {frame.name} do not lie on those of its series; export the "
                "segmentation with the pixels of the images"
            )
        positions.append(nearest)
    return _Place(number, *positions)
