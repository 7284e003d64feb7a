"""The check of one case: its images, its label map, and whether they belong together."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from samnet.core.errors import UserError
from samnet.core.geometry import Grid
from samnet.dataset.border_labels import find_border_label
from samnet.dataset.cases import Case
from samnet.dataset.description import DatasetDescription
from samnet.dataset.faults import Fault, fault_of_message
from samnet.dataset.images import Image, read_image, read_labels

MASK_KIND = "mask of 0 and 255"
BACKGROUND_KIND = "background only"
TILT_KIND = "not perpendicular"
MASK_VALUE = 255
# Distances are measured along the axes. At a shear of one degree they are wrong by up to 2 %.
MAX_SHEAR_DEGREES = 1.0
_SHOWN_VALUES = 8
_REPLACE_IMAGE = (
    "put a whole file of the format that its ending names in its place, or remove the case"
)
_REPLACE_LABELS = "put a whole label map in its place, or remove the case"


@dataclass(frozen=True)
class CaseFindings:
    """The result of the check of one case.

    Attributes:
        faults: What has to be fixed.
        remarks: What is unusual but may be intended.
        image_digest: Hash of the voxels of all channels; None where it would identify nothing
            (files unreadable, image constant).
        label_digest: Hash of the voxels of the label map; None where it would identify nothing
            (file unreadable, nothing labelled).
        has_spacing: Whether the volume states its spacing; None for 2D images, which are taken by
            pixels, and where no file can be read.
    """

    faults: tuple[Fault, ...]
    remarks: tuple[Fault, ...]
    image_digest: str | None
    label_digest: str | None
    has_spacing: bool | None = None


def check_case(case: Case, description: DatasetDescription) -> CaseFindings:
    """Find everything that is wrong with a training case, or with a case without labels.

    Args:
        case: The case, with its label map unless it is to have none.
        description: What `dataset.json` says about channels and labels.

    Returns:
        The faults and remarks, and the hashes by which cases are compared.
    """
    faults: list[Fault] = []
    remarks: list[Fault] = []
    channels = _read_channels(case, faults, len(description.channel_names))
    labels = None if case.label_file is None else _read_label_map(case, case.label_file, faults)
    is_complete = len(channels) == len(case.image_files)
    if is_complete:
        faults += _channel_count_faults(case, channels, description)
        remarks += _repeated_channels(case, channels)
    if labels is not None:
        value_faults, value_remarks = _check_label_values(case, labels.array, description)
        faults += value_faults
        remarks += value_remarks
        faults += _label_grid_faults(case, labels.grid, channels)
    is_labelled = labels is not None and _holds_foreground(labels, description)
    is_constant = bool(channels) and all(map(_is_constant, channels.values()))
    if is_constant:
        findings = faults if is_labelled else remarks
        findings.append(_constant_image(case, channels, is_labelled))
    image_digest, label_digest = None, None
    if is_complete and not is_constant:
        image_digest = _digest(*(image.array for image in channels.values()))
    if labels is not None and is_labelled:
        label_digest = _digest(labels.array)
    grids = [image.grid for image in channels.values() if not image.grid.is_2d]
    has_spacing = all(grid.has_spacing for grid in grids) if grids else None
    return CaseFindings(tuple(faults), tuple(remarks), image_digest, label_digest, has_spacing)


def read_channel(
    file: Path, case: Case, num_channels: int | None = None
) -> tuple[Image | None, list[Fault]]:
    """Read and check one image file of a case, for training or prediction.

    Args:
        file: The image file.
        case: The case that it belongs to.
        num_channels: Number of channels that the case should have. Where each file should hold
            one, a grey image that is stored in colour counts as one channel.

    Returns:
        The image, or None where it cannot be read, and what is wrong with it.
    """
    name = case.identifier
    if not file.exists():
        remedy = "add it, or remove the case"
        return None, [Fault("no image", str(file), "no such file", remedy, name)]
    try:
        holds_one = num_channels == len(case.image_files)
        image = read_image([file], 1 if holds_one else None)
    except UserError as error:
        fault = fault_of_message("unreadable image", str(error), file, _REPLACE_IMAGE, name)
        return None, [fault]
    return image, list(_image_faults(file, image, case))


def _image_faults(file: Path, image: Image, case: Case) -> Iterator[Fault]:
    if image.array.dtype.kind == "f":
        count = int((~np.isfinite(image.array)).sum())
        if count > 0:
            value = f"{count} voxels are NaN or infinite"
            remedy = "replace them, for example by 0"
            yield Fault("not finite", str(file), value, remedy, case.identifier)
    shear = image.grid.shear
    if shear > MAX_SHEAR_DEGREES:
        value = f"its axes are not perpendicular, by {shear:.1f} degrees (a tilted gantry?)"
        remedy = "resample the image, and its label map, to perpendicular axes"
        yield Fault(TILT_KIND, str(file), value, remedy, case.identifier)


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


def _read_channels(case: Case, faults: list[Fault], num_channels: int) -> dict[Path, Image]:
    """Return the readable image files of a case; add what is wrong with any of them to `faults`."""
    channels: dict[Path, Image] = {}
    for file in case.image_files:
        image, found = read_channel(file, case, num_channels)
        faults += found
        if image is None:
            continue
        if channels:
            first_file, first = next(iter(channels.items()))
            faults += grid_faults(case, file, image.grid, first.grid, first_file.name)
        channels[file] = image
    return channels


def _channel_count_faults(
    case: Case, channels: dict[Path, Image], description: DatasetDescription
) -> list[Fault]:
    count = sum(len(image.array) for image in channels.values())
    expected = len(description.channel_names)
    if count == expected:
        return []
    value = (
        f"the case has {count} channel(s) in {len(case.image_files)} file(s), "
        f"dataset.json names {expected}: {list(description.channel_names)}"
    )
    if count < expected:
        remedy = "add what is missing"
    else:
        remedy = "remove what is too much, or name it in channel_names"
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


def _is_constant(image: Image) -> bool:
    return bool(image.array.min() == image.array.max())


def _constant_image(case: Case, channels: dict[Path, Image], is_labelled: bool) -> Fault:
    file, image = next(iter(channels.items()))
    value = f"every voxel is {image.array.flat[0]}"
    if is_labelled:
        value += ", but its label map is not empty"
    remedy = "export the image again, or remove the case"
    return Fault("constant image", str(file), value, remedy, case.identifier)


def _read_label_map(case: Case, file: Path, faults: list[Fault]) -> Image | None:
    """Return the label map; add the reason to `faults` where there is none."""
    if not file.is_file():
        remedy = "every case of imagesTr needs a label map in labelsTr"
        faults.append(Fault("no label map", str(file), "missing", remedy, case.identifier))
        return None
    try:
        return read_labels(file)
    except UserError as error:
        kind = "unreadable label map"
        faults.append(fault_of_message(kind, str(error), file, _REPLACE_LABELS, case.identifier))
        return None


def _holds_foreground(labels: Image, description: DatasetDescription) -> bool:
    return bool(description.label_scheme.is_labelled(labels.array).any())


def _label_grid_faults(case: Case, grid: Grid, channels: dict[Path, Image]) -> list[Fault]:
    """Compare the grid of the label map with that of the first readable channel."""
    if not channels:
        return []
    assert case.label_file is not None
    first = next(iter(channels.values()))
    return grid_faults(case, case.label_file, grid, first.grid, "its image")


def _check_label_values(
    case: Case, labels: np.ndarray, description: DatasetDescription
) -> tuple[list[Fault], list[Fault]]:
    """Return faults and remarks about the values of a label map."""
    scheme = description.label_scheme
    allowed = {*scheme.values, scheme.ignore_label}
    values, counts = np.unique(labels, return_counts=True)
    voxels_by_value = dict(zip(values.tolist(), counts.tolist(), strict=True))
    undeclared = {value: count for value, count in voxels_by_value.items() if value not in allowed}
    found = set(voxels_by_value)
    file = str(case.label_file)
    if undeclared:
        return [_undeclared_values(case, undeclared, found, description)], []
    if found == {scheme.ignore_label}:
        value = "every voxel has the ignore label"
        remedy = "label a part of it, or leave the case out"
        return [], [Fault("nothing labelled", file, value, remedy, case.identifier)]
    if found <= {0, scheme.ignore_label}:
        value = "holds background only"
        remedy = "label it, unless the case really shows nothing of any class"
        return [], [Fault(BACKGROUND_KIND, file, value, remedy, case.identifier)]
    on_border = find_border_label(labels[0], voxels_by_value)
    if on_border not in (None, scheme.ignore_label):
        share = voxels_by_value[on_border] / labels.size
        value = (
            f"label {on_border} covers {share:.0%} of the image and nearly all of its border, as "
            "background does"
        )
        remedy = "if the mask was saved inverted, exchange the two values"
        return [], [Fault("inverted mask", file, value, remedy, case.identifier)]
    return [], []


def _undeclared_values(
    case: Case, undeclared: dict[int, int], found: set[int], description: DatasetDescription
) -> Fault:
    """Return the fault of values that `dataset.json` does not name (value -> number of voxels)."""
    file = str(case.label_file)
    entries = [f"{value} ({count} voxels)" for value, count in undeclared.items()]
    value = f"values that dataset.json does not declare: {', '.join(entries[:_SHOWN_VALUES])}"
    if len(entries) > _SHOWN_VALUES:
        value += f" and {len(entries) - _SHOWN_VALUES} more"
    if found <= {0, MASK_VALUE} and description.label_scheme.values == [0, 1]:
        remedy = "map 255 to 1, which samnet_verify_dataset --fix does"
        return Fault(MASK_KIND, file, value, remedy, case.identifier)
    remedy = "correct the voxels, or declare the labels"
    return Fault("undeclared labels", file, value, remedy, case.identifier)


def _digest(*arrays: np.ndarray) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for array in arrays:
        digest.update(f"{array.shape} {array.dtype}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
