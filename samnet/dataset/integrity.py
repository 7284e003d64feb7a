"""The check of a raw data set before anything is computed from it: all faults in one report."""

from __future__ import annotations

import re
from collections import Counter

import numpy as np

from samnet.core.errors import DatasetFaults, UserError
from samnet.core.jobs import run_jobs
from samnet.dataset.cases import Case, RawDataset, find_label_files, group_files
from samnet.dataset.description import DatasetDescription
from samnet.dataset.images import (
    GRID_TOLERANCE_VOXELS,
    ending_of,
    read_image,
    read_labels,
    stem_of,
    variants_of,
)


def verify_dataset(dataset: RawDataset, processes: int) -> None:
    """Check every case.

    Raises:
        DatasetFaults: at least one fault was found; the report names all, each with file, value and remedy.
    """
    faults = _folder_faults(dataset)
    arguments = {case.identifier: (case, dataset.description) for case in dataset.cases}
    outcome = run_jobs(find_case_faults, arguments, processes, "verifying")
    for identifier in sorted(arguments):
        faults += outcome.results.get(identifier, [])
        if identifier in outcome.failures:
            faults.append(f"{identifier}: {outcome.failures[identifier]}")
    if faults:
        raise DatasetFaults(dataset.name, faults)


def _folder_faults(dataset: RawDataset) -> list[str]:
    faults = []
    declared = dataset.description.num_training
    if declared is not None and declared != len(dataset.cases):
        faults.append(
            f"{dataset.folder / 'dataset.json'}: numTraining is {declared}, imagesTr holds {len(dataset.cases)} cases; "
            "correct the number, or remove the key"
        )
    faults += _patient_key_faults(dataset)
    known = {case.identifier for case in dataset.cases}
    if not dataset.listed:
        faults += _name_faults(dataset, known)
    folded = Counter(identifier.casefold() for identifier in known)
    faults += [
        f"{dataset.folder / 'imagesTr'}: case names that differ in upper and lower case only: {name}; rename one"
        for name, count in folded.items()
        if count > 1
    ]
    return faults


def _name_faults(dataset: RawDataset, known: set[str]) -> list[str]:
    """The files of imagesTr and labelsTr that are no case's by their names."""
    unnumbered = group_files(dataset.folder / "imagesTr", dataset.description.file_ending)[1]
    faults = [
        f"{file}: an image without a channel number; call the first channel {stem_of(file)}_0000{ending_of(file)}"
        for file in unnumbered
    ]
    labels = dataset.folder / "labelsTr"
    if labels.is_dir():
        endings = variants_of(dataset.description.label_file_ending)
        orphans = [file for name, file in find_label_files(labels, endings).items() if name not in known]
        faults += [f"{file}: a label map without an image in imagesTr; add the image or remove it" for file in orphans]
    return faults


def _patient_key_faults(dataset: RawDataset) -> list[str]:
    key = dataset.description.patient_key
    unmatched = [case.identifier for case in dataset.cases if key is not None and not re.search(key, case.identifier)]
    if not unmatched:
        return []
    file = dataset.folder / "dataset.json"
    example = f'"patient_key" {key!r} finds nothing in {len(unmatched)} case names, such as {unmatched[0]}'
    return [f"{file}: {example}; write an expression that finds the patient in every name"]


def find_case_faults(case: Case, description: DatasetDescription) -> list[str]:
    """The faults of one case, as sentences; empty when there are none."""
    image, faults = None, []
    try:
        image = read_image(case.image_files)
    except UserError as error:
        faults.append(str(error))
    else:
        faults += _image_faults(case, image.array, description)
    if case.label_file is None or not case.label_file.is_file():
        return [*faults, f"{case.label_file}: missing; every case of imagesTr needs a label map in labelsTr"]
    try:
        labels = read_labels(case.label_file)
    except UserError as error:
        return [*faults, str(error)]
    faults += _label_value_faults(case, labels.array, description)
    if image is not None and labels.grid.shape != image.grid.shape:
        faults.append(
            f"{case.label_file}: shape {labels.grid.shape} (z, y, x) differs from {image.grid.shape} of its image"
        )
    elif image is not None and not labels.grid.is_close_to(image.grid, GRID_TOLERANCE_VOXELS):
        faults.append(
            f"{case.label_file}: lies {labels.grid.distance_in_voxels(image.grid):.1f} voxels beside its image "
            f"(affine {labels.grid.affine.round(3).tolist()}, the image's {image.grid.affine.round(3).tolist()}); "
            "if the voxels do correspond, copy the image's header to the label map"
        )
    return faults


def _image_faults(case: Case, array: np.ndarray, description: DatasetDescription) -> list[str]:
    faults = []
    expected = len(description.channel_names)
    if array.shape[0] != expected:
        faults.append(
            f"{case.image_files[0]}: the case has {array.shape[0]} channel(s) in {len(case.image_files)} file(s), "
            f"dataset.json names {expected}: {list(description.channel_names)}"
        )
    for index, channel in enumerate(array):
        count = int((~np.isfinite(channel)).sum())
        if count > 0:
            file = case.image_files[min(index, len(case.image_files) - 1)]
            faults.append(f"{file}: {count} voxels are NaN or infinite; replace them, for example by 0")
    return faults


def _label_value_faults(case: Case, labels: np.ndarray, description: DatasetDescription) -> list[str]:
    allowed = set(description.labels.values()) | {description.ignore_label}
    values, counts = np.unique(labels, return_counts=True)
    undeclared = {int(value): int(count) for value, count in zip(values, counts, strict=True) if value not in allowed}
    if not undeclared:
        return []
    shown = ", ".join(f"{value} ({count} voxels)" for value, count in list(undeclared.items())[:8])
    remedy = "map 255 to 1" if list(undeclared) == [255] else "correct the voxels, or declare the labels"
    return [f"{case.label_file}: values that dataset.json does not declare: {shown}; {remedy}"]
