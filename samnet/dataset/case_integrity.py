"""The check of one case: its images, its label map, and whether they belong together."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from samnet.core.errors import UserError
from samnet.core.geometry import Grid
from samnet.dataset.cases import Case
from samnet.dataset.description import DatasetDescription
from samnet.dataset.faults import Fault, fault_of_message
from samnet.dataset.images import Image, read_image, read_labels

MASK_KIND = "mask of 0 and 255"
BACKGROUND_KIND = "background only"
TILT_KIND = "not perpendicular"
MASK_VALUE = 255
# Distances are reckoned along the axes: at one degree they are wrong by up to 2 %.
MAX_SHEAR_DEGREES = 1.0
_SHOWN_VALUES = 8
_REPLACE_IMAGE = (
    "put a whole file of the format that its ending names in its place, or remove the case"
)
_REPLACE_LABELS = "put a whole label map in its place, or remove the case"


@dataclass(frozen=True)
class CaseFindings:
    """What the check of one case came to.

    image_digest, label_digest: hashes of the voxels; None where they tell nothing apart (unreadable, constant, empty).
    """

    faults: tuple[Fault, ...]
    remarks: tuple[Fault, ...]
    image_digest: str | None
    label_digest: str | None


def check_case(case: Case, description: DatasetDescription) -> CaseFindings:
    """Find everything that is wrong with a training case."""
    channels, faults = _read_channels(case)
    remarks: list[Fault] = []
    grid = next(iter(channels.values())).grid if channels else None
    labels = _read_label_map(case, faults)
    if len(channels) == len(case.image_files):
        faults += _channel_count_faults(case, channels, description)
        remarks += _repeated_channels(case, channels)
    if labels is not None:
        assert case.label_file is not None
        value_faults, value_remarks = _label_values(
            case, case.label_file, labels.array, description
        )
        faults += value_faults
        remarks += value_remarks
        if grid is not None:
            faults += grid_faults(case, case.label_file, labels.grid, grid, "its image")
    scheme = description.label_scheme
    is_labelled = labels is not None and bool(scheme.is_labelled(labels.array).any())
    is_constant = bool(channels) and all(
        image.array.min() == image.array.max() for image in channels.values()
    )
    if is_constant:
        (faults if is_labelled else remarks).append(_constant_image(case, channels, is_labelled))
    whole = len(channels) == len(case.image_files) and not is_constant
    return CaseFindings(
        tuple(faults),
        tuple(remarks),
        _digest(*(image.array for image in channels.values())) if whole else None,
        _digest(labels.array) if labels is not None and is_labelled else None,
    )


def read_channel(file: Path, case: Case) -> tuple[Image | None, list[Fault]]:
    """Read one image file of a case; None where it cannot be read. The faults hold for training and prediction."""
    if not file.exists():
        return None, [
            Fault(
                "no image", str(file), "no such file", "add it, or remove the case", case.identifier
            )
        ]
    try:
        image = read_image([file])
    except UserError as error:
        return None, [
            fault_of_message("unreadable image", str(error), file, _REPLACE_IMAGE, case.identifier)
        ]
    return image, _image_faults(file, image, case)


def _image_faults(file: Path, image: Image, case: Case) -> list[Fault]:
    faults = []
    if image.array.dtype.kind == "f":
        count = int((~np.isfinite(image.array)).sum())
        if count > 0:
            value = f"{count} voxels are NaN or infinite"
            faults.append(
                Fault(
                    "not finite",
                    str(file),
                    value,
                    "replace them, for example by 0",
                    case.identifier,
                )
            )
    if image.grid.shear > MAX_SHEAR_DEGREES:
        value = (
            f"its axes are not perpendicular, by {image.grid.shear:.1f} degrees (a tilted gantry?)"
        )
        remedy = "resample the image, and its label map, to perpendicular axes"
        faults.append(Fault(TILT_KIND, str(file), value, remedy, case.identifier))
    return faults


def grid_faults(
    case: Case, file: Path, grid: Grid, expected: Grid, expected_name: str
) -> list[Fault]:
    """Check whether a file lies on the grid that it should lie on.

    Args:
        case: The case of the file.
        file: The file.
        grid: Its grid.
        expected: The grid that it should lie on.
        expected_name: What to call that grid, such as `its image`.

    Returns:
        Nothing, or one finding that names what differs.
    """
    difference = grid.difference(expected)
    if difference is None:
        return []
    if difference.kind == "shape":
        remedy = "resample it to that grid, or exchange it if it belongs to another image"
    else:
        remedy = (
            f"if the voxels do correspond, copy the header of {expected_name}, else resample it to "
            "that grid"
        )
    value = difference.describe(expected_name)
    return [Fault(difference.kind, str(file), value, remedy, case.identifier)]


def _read_channels(case: Case) -> tuple[dict[Path, Image], list[Fault]]:
    """The readable files of a case, and what is wrong with them and the others."""
    channels: dict[Path, Image] = {}
    faults: list[Fault] = []
    for file in case.image_files:
        image, found = read_channel(file, case)
        faults += found
        if image is None:
            continue
        if channels:
            first_file, first = next(iter(channels.items()))
            faults += grid_faults(case, file, image.grid, first.grid, first_file.name)
        channels[file] = image
    return channels, faults


def _channel_count_faults(
    case: Case, channels: dict[Path, Image], description: DatasetDescription
) -> list[Fault]:
    count, expected = (
        sum(len(image.array) for image in channels.values()),
        len(description.channel_names),
    )
    if count == expected:
        return []
    value = (
        f"the case has {count} channel(s) in {len(case.image_files)} file(s), dataset.json names {expected}: "
        f"{list(description.channel_names)}"
    )
    remedy = (
        "add what is missing"
        if count < expected
        else "remove what is too much, or name it in channel_names"
    )
    return [Fault("number of channels", str(case.image_files[0]), value, remedy, case.identifier)]


def _repeated_channels(case: Case, channels: dict[Path, Image]) -> list[Fault]:
    remarks = []
    known: dict[str, Path] = {}
    for file, image in channels.items():
        first = known.setdefault(_digest(image.array), file)
        if first != file:
            value = f"has the same voxels as {first.name}"
            remedy = "exchange it if it should be another channel"
            remarks.append(Fault("channel twice", str(file), value, remedy, case.identifier))
    return remarks


def _constant_image(case: Case, channels: dict[Path, Image], is_labelled: bool) -> Fault:
    file, image = next(iter(channels.items()))
    value = f"every voxel is {image.array.flat[0]}" + (
        ", but its label map is not empty" if is_labelled else ""
    )
    return Fault(
        "constant image",
        str(file),
        value,
        "export the image again, or remove the case",
        case.identifier,
    )


def _read_label_map(case: Case, faults: list[Fault]) -> Image | None:
    """The label map, or None, and why in `faults`."""
    file = case.label_file
    if file is None or not file.is_file():
        remedy = "every case of imagesTr needs a label map in labelsTr"
        faults.append(Fault("no label map", str(file), "missing", remedy, case.identifier))
        return None
    try:
        return read_labels(file)
    except UserError as error:
        faults.append(
            fault_of_message(
                "unreadable label map", str(error), file, _REPLACE_LABELS, case.identifier
            )
        )
        return None


def _label_values(
    case: Case, file: Path, labels: np.ndarray, description: DatasetDescription
) -> tuple[list[Fault], list[Fault]]:
    """Faults and remarks about the values of a label map."""
    scheme = description.label_scheme
    allowed = {*scheme.values, scheme.ignore_label}
    values, counts = np.unique(labels, return_counts=True)
    undeclared = {
        int(value): int(count)
        for value, count in zip(values, counts, strict=True)
        if value not in allowed
    }
    if undeclared:
        return [_undeclared_values(case, file, undeclared, set(map(int, values)), description)], []
    found = set(map(int, values))
    if found == {scheme.ignore_label}:
        value, remedy = (
            "every voxel has the ignore label",
            "label a part of it, or leave the case out",
        )
        return [], [Fault("nothing labelled", str(file), value, remedy, case.identifier)]
    if found <= {0, scheme.ignore_label}:
        value, remedy = (
            "holds background only",
            "label it, unless the case does show nothing of any class",
        )
        return [], [Fault(BACKGROUND_KIND, str(file), value, remedy, case.identifier)]
    return [], []


def _undeclared_values(
    case: Case,
    file: Path,
    undeclared: dict[int, int],
    found: set[int],
    description: DatasetDescription,
) -> Fault:
    listing = ", ".join(
        f"{value} ({count} voxels)" for value, count in list(undeclared.items())[:_SHOWN_VALUES]
    )
    more = f" and {len(undeclared) - _SHOWN_VALUES} more" if len(undeclared) > _SHOWN_VALUES else ""
    value = f"values that dataset.json does not declare: {listing}{more}"
    if found <= {0, MASK_VALUE} and description.label_scheme.values == [0, 1]:
        remedy = "map 255 to 1, which samnet_verify_dataset --fix does"
        return Fault(MASK_KIND, str(file), value, remedy, case.identifier)
    return Fault(
        "undeclared labels",
        str(file),
        value,
        "correct the voxels, or declare the labels",
        case.identifier,
    )


def _digest(*arrays: np.ndarray) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for array in arrays:
        digest.update(f"{array.shape} {array.dtype}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
