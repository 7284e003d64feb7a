"""The check of a raw data set before anything is computed from it. One report holds all faults."""

from __future__ import annotations

import logging
import os
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from samnet.core.errors import DatasetFaults, UserError
from samnet.core.worker_pool import run_jobs
from samnet.dataset.case_integrity import BACKGROUND_KIND, CaseFindings, check_case
from samnet.dataset.cases import Case, RawDataset
from samnet.dataset.dataset_folder import DatasetFolder
from samnet.dataset.faults import Fault, Report, fault_of_message, short_list
from samnet.dataset.images import ending_of, name_without_ending, variants_of

log = logging.getLogger(__name__)


def verify_dataset(dataset: RawDataset, processes: int) -> None:
    """Check every case, and log what is unusual but no fault.

    Args:
        dataset: The data set to check.
        processes: Number of worker processes; 0 to check all cases in this process.

    Raises:
        DatasetFaults: At least one fault was found. The report names all, each with file, value
            and remedy.
    """
    report = inspect_dataset(dataset, processes)
    report.raise_if_faulty()
    for line in short_list(report.remarks):
        log.warning("%s", line)


def inspect_dataset_by_name(identifier: str | int, processes: int) -> Report:
    """Find a data set and check it, including its `dataset.json` and its folders.

    Args:
        identifier: An id such as `8` or `008`, or a full name.
        processes: Number of worker processes; 0 to check all cases in this process.

    Returns:
        The report of `inspect_dataset`. Where `dataset.json` or a folder is missing or not usable,
        the report holds these faults only.

    Raises:
        UserError: There is no such data set.
    """
    folder = DatasetFolder.find(identifier)
    try:
        dataset = RawDataset.read(folder)
    except UserError as error:
        faults = _unreadable_dataset_faults(folder, error)
        return Report(folder.name, num_cases=0, faults=tuple(faults))
    return inspect_dataset(dataset, processes)


def inspect_dataset(dataset: RawDataset, processes: int) -> Report:
    """Check every case of a data set, and the files that belong to no case.

    Args:
        dataset: The data set to check.
        processes: Number of worker processes; 0 to check all cases in this process.

    Returns:
        All findings.
    """
    arguments = {case.identifier: (case, dataset.description) for case in dataset.cases}
    unlabelled = {_name_without_labels(case): case for case in dataset.unlabelled_cases}
    every = arguments | {name: (case, dataset.description) for name, case in unlabelled.items()}
    outcome = run_jobs(check_case, every, processes, "verifying")
    # In the order of the cases, not in the order in which the worker processes finished.
    findings: dict[str, CaseFindings] = {
        name: outcome.results[name] for name in arguments if name in outcome.results
    }
    faults = [*_description_faults(dataset), *_stray_files(dataset), *_colliding_names(dataset)]
    faults += _unchecked_cases(dataset, outcome.failures)
    remarks: list[Fault] = []
    without_labels = {name: outcome.results[name] for name in unlabelled if name in outcome.results}
    for entry in (*findings.values(), *without_labels.values()):
        faults += entry.faults
        remarks += entry.remarks
    duplicates = _groups({name: entry.image_digest for name, entry in findings.items()})
    faults += [*_duplicate_images(dataset, duplicates), *_no_foreground(dataset, remarks)]
    faults += _unknown_spacings(dataset, findings)
    remarks += _duplicate_labels(dataset, findings, duplicates)
    remarks += _labelled_too(dataset, findings, without_labels)
    return Report(
        dataset.name, len(dataset.cases), tuple(faults), tuple(remarks), tuple(duplicates)
    )


def _name_without_labels(case: Case) -> str:
    """Return a name for a case of `imagesUn` that no training case has."""
    return f"imagesUn/{case.identifier}"


def _unreadable_dataset_faults(folder: DatasetFolder, error: UserError) -> list[Fault]:
    messages = error.faults if isinstance(error, DatasetFaults) else [str(error)]
    remedy = "fix it; the cases are checked after that"
    file = folder.description_file
    return [fault_of_message("description", message, file, remedy) for message in messages]


def _unchecked_cases(dataset: RawDataset, failures: dict[str, str]) -> Iterator[Fault]:
    """Yield the cases whose check failed, for example because its worker process was killed."""
    names = {case.identifier: case for case in dataset.cases}
    names |= {_name_without_labels(case): case for case in dataset.unlabelled_cases}
    for name, case in names.items():
        reason = failures.get(name)
        if reason:
            file = str(case.image_files[0])
            remedy = "check again, with -np 0"
            yield Fault("not checked", file, reason, remedy, case.identifier)


def _description_faults(dataset: RawDataset) -> Iterator[Fault]:
    file = str(dataset.folder.description_file)
    declared = dataset.description.num_training
    if declared is not None and declared != len(dataset.cases):
        value = f"numTraining is {declared}, imagesTr holds {len(dataset.cases)} cases"
        yield Fault("numTraining", file, value, "correct the number, or remove the key")
    key = dataset.description.patient_key
    if key is None:
        return
    names = [case.identifier for case in dataset.cases]
    unmatched = [name for name in names if not re.search(key, name)]
    if unmatched:
        value = (
            f'"patient_key" {key!r} finds nothing in {len(unmatched)} case names, '
            f"such as {unmatched[0]}"
        )
        remedy = "write an expression that finds the patient in every name"
        yield Fault("patient_key", file, value, remedy)


def _stray_files(dataset: RawDataset) -> Iterator[Fault]:
    """Yield image files that belong to no case: misnamed, of another format, or left over.

    Where `dataset.json` lists the files of each case, other files may lie next to them.
    """
    if dataset.listed:
        return
    known: set[str] = set()
    for case in dataset.cases:
        known.update(os.path.abspath(file) for file in case.raw_files())
        if case.label_file is not None:
            known.add(os.path.abspath(case.label_file))
    for case in dataset.unlabelled_cases:
        known.update(os.path.abspath(file) for file in case.raw_files())
    identifiers = {case.identifier for case in dataset.cases}
    endings = {
        dataset.folder.unlabelled_images: dataset.description.file_ending,
        dataset.folder.training_images: dataset.description.file_ending,
        dataset.folder.training_labels: dataset.description.label_file_ending,
    }
    for folder, expected in endings.items():
        if not folder.is_dir():
            continue
        for file in sorted(folder.iterdir()):
            if os.path.abspath(file) not in known:
                yield from _stray_file_faults(file, expected, identifiers)


def _stray_file_faults(file: Path, expected_ending: str, identifiers: set[str]) -> Iterator[Fault]:
    """Yield what is wrong with a file of no case; nothing where it is no image."""
    ending = ending_of(file)
    if ending is None or file.name.startswith(".") or file.is_dir():
        return
    stem = name_without_ending(file)
    if file.parent.name == "labelsTr" and stem not in identifiers:
        value = "a label map without an image in imagesTr"
        yield Fault("no image of a label map", str(file), value, "add the image or remove it")
    elif ending not in variants_of(expected_ending):
        value = (
            f"ends in {ending} and is not used, as dataset.json names {expected_ending} "
            "for this folder"
        )
        yield Fault("another file ending", str(file), value, "convert or remove it")
    else:
        value = "an image without a channel number"
        remedy = f"call the first channel {stem}_0000{ending}"
        yield Fault("no channel number", str(file), value, remedy)


def _colliding_names(dataset: RawDataset) -> Iterator[Fault]:
    """Yield names that are the same on file systems that ignore case.

    There the files of one case would replace those of the other.
    """
    folded = Counter(case.identifier.casefold() for case in dataset.cases)
    for name, count in folded.items():
        if count > 1:
            value = f"case names that differ in upper and lower case only: {name}"
            yield Fault("names alike", str(dataset.folder.training_images), value, "rename one")


def _no_foreground(dataset: RawDataset, remarks: list[Fault]) -> Iterator[Fault]:
    """Yield a fault where all label maps are empty. A single empty one may be a healthy case."""
    num_empty = sum(remark.kind == BACKGROUND_KIND for remark in remarks)
    if dataset.cases and num_empty == len(dataset.cases):
        folder = str(dataset.folder.training_labels)
        value = "no label map contains any foreground"
        yield Fault("nothing labelled", folder, value, "export the label maps again")


def _groups(digests: dict[str, str | None]) -> list[tuple[str, ...]]:
    """Return the groups of several names that share a digest, in order."""
    groups: dict[str, list[str]] = {}
    for name, digest in digests.items():
        if digest is not None:
            groups.setdefault(digest, []).append(name)
    return [tuple(names) for names in groups.values() if len(names) > 1]


def _duplicate_images(dataset: RawDataset, duplicates: list[tuple[str, ...]]) -> Iterator[Fault]:
    files = {case.identifier: case.image_files[0] for case in dataset.cases}
    for first, *others in duplicates:
        for name in others:
            value = f"the same image as {files[first].name} of case {first}"
            remedy = "keep one of the cases: a fold must not be tested on what it was trained on"
            yield Fault("case twice", str(files[name]), value, remedy, name)


def _labelled_too(
    dataset: RawDataset,
    findings: dict[str, CaseFindings],
    without_labels: dict[str, CaseFindings],
) -> Iterator[Fault]:
    """Yield the images of `imagesUn` that are those of a training case, which has labels."""
    labelled = {entry.image_digest: name for name, entry in findings.items() if entry.image_digest}
    for case in dataset.unlabelled_cases:
        entry = without_labels.get(_name_without_labels(case))
        name = labelled.get(entry.image_digest) if entry and entry.image_digest else None
        if name is not None:
            value = f"the same image as that of the training case {name}"
            remedy = "remove it there: a fold that is tested on the case would learn from its image"
            yield Fault("labelled too", str(case.image_files[0]), value, remedy, case.identifier)


def _unknown_spacings(dataset: RawDataset, findings: dict[str, CaseFindings]) -> Iterator[Fault]:
    """Yield the volumes without a spacing in a data set where others have one."""
    if not any(entry.has_spacing for entry in findings.values()):
        return
    files = {case.identifier: case.image_files[0] for case in dataset.cases}
    for name, entry in findings.items():
        if entry.has_spacing is False:
            value = "does not state the spacing of its voxels, as other cases do"
            remedy = f'write {name}.json next to it with {{"spacing": [z, y, x]}} in mm'
            yield Fault("no spacing", str(files[name]), value, remedy, name)


def _duplicate_labels(
    dataset: RawDataset, findings: dict[str, CaseFindings], duplicates: list[tuple[str, ...]]
) -> Iterator[Fault]:
    """Yield label maps that are equal in every voxel although their images are not."""
    files = {case.identifier: case.label_file for case in dataset.cases}
    with_equal_images: set[str] = set()
    for group in duplicates:
        with_equal_images.update(group)
    for first, *others in _groups({name: entry.label_digest for name, entry in findings.items()}):
        for name in others:
            if name not in with_equal_images:
                value = f"the same label map as that of case {first}, for another image"
                remedy = "exchange it if it was saved under a wrong name"
                yield Fault("label map twice", str(files[name]), value, remedy, name)
