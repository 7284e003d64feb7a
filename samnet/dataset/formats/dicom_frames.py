"""The frames of DICOM files: where each lies, and how its stored values become intensities.

A classic file is one frame, described at the top of its header. An enhanced file holds many, and
describes each by functional groups (DICOM PS3.3 C.7.6.16): what a frame does not say itself, it
shares with the others. Tomograms of nuclear medicine and dose grids have forms of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from samnet.core.errors import UserError
from samnet.dataset.formats.dicom_files import object_kind

# What tells frames at one position apart: keyword, and what to call it in messages.
_DIMENSIONS = {
    "TemporalPositionIndex": "time point",
    "TemporalPositionTimeOffset": "time point",
    "TemporalPositionIdentifier": "time point",
    "EffectiveEchoTime": "echo time",
    "EchoTime": "echo time",
    "EchoNumbers": "echo",
    "InversionTime": "inversion time",
    "InversionTimes": "inversion time",
    "FlipAngle": "flip angle",
    "NominalPercentageOfCardiacPhase": "cardiac phase",
    "NominalCardiacTriggerDelayTime": "cardiac phase",
    "TriggerTime": "cardiac phase",
    "DiffusionBValue": "b-value",
    "DiffusionGradientOrientation": "diffusion direction",
    "ComplexImageComponent": "component",
    "KVP": "tube voltage",
    "FrameType": "frame type",
    "ImageType": "image type",
    "StackID": "stack",
    "ConvolutionKernel": "kernel",
    "FrameAcquisitionNumber": "acquisition",
    "AcquisitionNumber": "acquisition",
    "ConcatenationUID": "concatenation",
    "FrameReferenceDateTime": "time",
    "AcquisitionTime": "acquisition time",
}
_MOST_VALUES = 4  # of one dimension in a message


@dataclass(frozen=True)
class Frame:
    """One frame of a DICOM file.

    Attributes:
        file: The file.
        number: Its number in the file, from 0 on.
        num_frames: Number of frames in the file.
        position: Position of the first voxel in LPS mm.
        orientation: Unit vectors along a row and along a column, as the rows of a 2 x 3 matrix.
        spacing: Distance of the rows and of the columns in mm.
        thickness: Distance to the next slice in mm as stated, or the thickness of the slice; None
            where neither is stated.
        size: Number of rows, of columns, and of channels.
        slope: Factor from stored values to intensities.
        intercept: What is added to them.
        dimensions: What can tell it apart from other frames at its position: name -> value.
    """

    file: Path
    number: int
    num_frames: int
    position: np.ndarray
    orientation: np.ndarray
    spacing: tuple[float, float]
    thickness: float | None
    size: tuple[int, int, int]
    slope: float
    intercept: float
    dimensions: dict[str, str]

    @property
    def name(self) -> str:
        """What to call it in messages."""
        if self.num_frames == 1:
            return self.file.name
        return f"frame {self.number + 1} of {self.file.name}"


def count_frames(header: Any) -> int:
    """Return the number of frames that a header states.

    Args:
        header: A dataset of pydicom.
    """
    return int(header.get("NumberOfFrames") or 1)


def has_many_frames(header: Any) -> bool:
    """Tell whether a file is of a kind that can hold many frames, even if it holds one.

    Args:
        header: A dataset of pydicom.
    """
    return count_frames(header) > 1 or "PerFrameFunctionalGroupsSequence" in header


def has_position(header: Any) -> bool:
    """Tell whether the first frame of a file says where it lies in the patient.

    Args:
        header: A dataset of pydicom.
    """
    items = _items_of_frame(header, 0)
    return all(
        _find(items, keyword) is not None
        for keyword in ("ImagePositionPatient", "ImageOrientationPatient")
    )


def frames_of(file: Path, header: Any) -> list[Frame]:
    """Return the frames of a file.

    Args:
        file: The file.
        header: Its header, a dataset of pydicom.

    Returns:
        The frames in the order in which they are stored.

    Raises:
        UserError: The frames have no positions, or a value is missing or has another form.
    """
    count = count_frames(header)
    groups = header.get("PerFrameFunctionalGroupsSequence")
    if groups and len(groups) != count:
        raise UserError(
            f"{file}: states {count} frames and describes {len(groups)}; export it again"
        )
    if groups or count == 1:
        return [
            _frame(file, _items_of_frame(header, number), number, count) for number in range(count)
        ]
    return _classic_frames(file, header, count)


def describe_differences(frames: Sequence[Frame]) -> str:
    """Say what tells frames apart.

    Args:
        frames: At least two frames.

    Returns:
        Such as `time point 1, 2`; empty where nothing known does.
    """
    parts = []
    for name in dict.fromkeys(_DIMENSIONS.values()):
        values = list(dict.fromkeys(frame.dimensions.get(name, "none") for frame in frames))
        if len(values) > _MOST_VALUES:
            values = [*values[:_MOST_VALUES], "..."]
        if len(values) > 1:
            parts.append(f"{name} {', '.join(values)}")
    return "; ".join(parts)


def _items_of_frame(header: Any, number: int) -> list[Any]:
    """Return where a frame's values are looked up: its own groups, the shared ones, the header.

    Private groups are left out: they may repeat values of another meaning.
    """
    own = header.get("PerFrameFunctionalGroupsSequence") or []
    shared = header.get("SharedFunctionalGroupsSequence") or []
    items: list[Any] = []
    for groups in (*own[number : number + 1], *shared[:1]):
        for element in groups:
            if element.VR == "SQ" and not element.tag.is_private and element.value:
                items.append(element.value[0])
    return [*items, header]


def _frame(file: Path, items: Sequence[Any], number: int, num_frames: int) -> Frame:
    where = str(file) if num_frames == 1 else f"{file}: frame {number + 1} of {num_frames}"
    position = _numbers(where, items, "ImagePositionPatient", 3)
    rows, columns = _numbers(where, items, "PixelSpacing", 2)
    if min(rows, columns) <= 0:
        raise UserError(f"{where}: PixelSpacing is {rows:g} and {columns:g} mm; export it again")
    header = items[-1]
    size = tuple(int(header.get(word) or 1) for word in ("Rows", "Columns", "SamplesPerPixel"))
    # Dose grids have a factor of their own (DICOM PS3.3 C.8.8.3).
    slope = _number(items, "DoseGridScaling") or _number(items, "RescaleSlope")
    if slope == 0:
        raise UserError(
            f"{where}: RescaleSlope is 0, so all its intensities would be equal; export it again"
        )
    return Frame(
        file=file,
        number=number,
        num_frames=num_frames,
        position=position,
        orientation=_orientation(where, items),
        spacing=(float(rows), float(columns)),
        thickness=_number(items, "SpacingBetweenSlices") or _number(items, "SliceThickness"),
        size=(size[0], size[1], size[2]),
        slope=1.0 if slope is None else slope,
        intercept=_number(items, "RescaleIntercept") or 0.0,
        dimensions=_dimensions(items),
    )


def _orientation(where: str, items: Sequence[Any]) -> np.ndarray:
    vectors = _numbers(where, items, "ImageOrientationPatient", 6).reshape(2, 3)
    lengths = np.linalg.norm(vectors, axis=1)
    if np.abs(lengths - 1).max() > 1e-2 or abs(float(vectors[0] @ vectors[1])) > 1e-2:
        raise UserError(
            f"{where}: ImageOrientationPatient is {vectors.ravel().tolist()}; expected two "
            "perpendicular vectors of length 1; export it again"
        )
    return vectors


def _classic_frames(file: Path, header: Any, count: int) -> list[Frame]:
    """Read the frames of a file without functional groups: those at stated distances."""
    # In nuclear medicine the position stands with the detector (DICOM PS3.3 C.8.4.11).
    detectors = header.get("DetectorInformationSequence") or []
    items = [*detectors[:1], header]
    offsets = _offsets(header, count)
    is_placed = _find(items, "ImagePositionPatient") is not None
    if offsets is None or not is_placed:
        kind = object_kind(header) or "unknown class"
        raise UserError(
            f"{file}: holds {count} frames without a position each ({kind}), as films and "
            "screenshots do; give a volume, or save the frame that is meant as an image file"
        )
    first = _frame(file, items, 0, count)
    normal = np.cross(*first.orientation)
    vectors = _index_vectors(header, count)
    frames = []
    for number, offset in enumerate(offsets):
        dimensions = {name: values[number] for name, values in vectors.items()}
        frames.append(
            replace(
                first,
                number=number,
                position=first.position + offset * normal,
                dimensions={**first.dimensions, **dimensions},
            )
        )
    return frames


def _offsets(header: Any, count: int) -> np.ndarray | None:
    """Return the distances in mm of classic frames from the first, along their normal."""
    offsets = _list(header, "GridFrameOffsetVector", count)
    if offsets is not None:
        return offsets - offsets[0]
    slices = _list(header, "SliceVector", count)
    step = _number([header], "SpacingBetweenSlices")
    if slices is None or step is None:
        return None
    return (slices - slices[0]) * step


def _index_vectors(header: Any, count: int) -> dict[str, list[str]]:
    """Return what else the frames are counted by: time slots, phases, energy windows."""
    names = {
        "TimeSlotVector": "time point",
        "TimeSliceVector": "time point",
        "PhaseVector": "phase",
        "RRIntervalVector": "R-R interval",
        "EnergyWindowVector": "energy window",
        "DetectorVector": "detector",
    }
    vectors = {}
    for keyword, name in names.items():
        values = _list(header, keyword, count)
        if values is not None:
            vectors[name] = [f"{value:g}" for value in values]
    return vectors


def _list(header: Any, keyword: str, count: int) -> np.ndarray | None:
    """Return a value of one number a frame, or None where there is none of this length."""
    value = header.get(keyword)
    if value is None:
        return None
    numbers = np.atleast_1d(np.array(value, np.float64))
    return numbers if len(numbers) == count else None


def _find(items: Sequence[Any], keyword: str) -> Any:
    for item in items:
        value = item.get(keyword)
        if value is not None and value != "":
            return value
    return None


def _number(items: Sequence[Any], keyword: str) -> float | None:
    value = _find(items, keyword)
    try:
        return None if value is None else float(value)
    except (TypeError, ValueError):
        return None


def _numbers(where: str, items: Sequence[Any], keyword: str, count: int) -> np.ndarray:
    value = _find(items, keyword)
    if value is None:
        raise UserError(
            f"{where}: has no {keyword}, which a slice of a volume needs; remove it, or export it "
            "again"
        )
    try:
        numbers = np.array([float(part) for part in value])
    except (TypeError, ValueError):
        numbers = np.empty(0)
    if numbers.shape != (count,) or not np.isfinite(numbers).all():
        raise UserError(
            f"{where}: the DICOM value {keyword} is {str(value)[:60]!r}; expected {count} numbers"
        )
    return numbers


def _dimensions(items: Sequence[Any]) -> dict[str, str]:
    found: dict[str, str] = {}
    for keyword, name in _DIMENSIONS.items():
        value = _find(items, keyword)
        if value is None or name in found:
            continue
        is_list = not isinstance(value, str) and hasattr(value, "__iter__")
        found[name] = "\\".join(str(part) for part in value) if is_list else str(value)
    return found
