"""The check of a raw data set before anything is computed from it: all faults in one report."""

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
from samnet.dataset.cases import RawDataset
from samnet.dataset.dataset_folder import DatasetFolder
from samnet.dataset.faults import Fault, Report, fault_of_message, short_list
from samnet.dataset.images import ending_of, name_without_ending, variants_of

log = logging.getLogger(__name__)


def verify_dataset(dataset: RawDataset, processes: int) -> None:
    """Check every case, and log what is odd.

    Raises:
        DatasetFaults: at least one fault was found; the report names all, each with file, value and remedy.
    """
    report = inspect_dataset(dataset, processes)
    report.raise_if_faulty()
    for line in short_list(report.remarks):
        log.warning("%s", line)


def inspect_dataset_by_name(identifier: str | int, processes: int) -> Report:
    """As `inspect_dataset`, with the faults of `dataset.json` and of missing folders in the report as well.

    Raises:
        UserError: there is no such data set.
    """
    folder = DatasetFolder.find(identifier)
    try:
        dataset = RawDataset.read(folder)
    except UserError as error:
        file = folder.description_file
        messages = error.faults if isinstance(error, DatasetFaults) else [str(error)]
        remedy = "fix it; the cases are checked after that"
        return Report(
            folder.name,
            0,
            tuple(fault_of_message("description", message, file, remedy) for message in messages),
        )
    return inspect_dataset(dataset, processes)


def inspect_dataset(dataset: RawDataset, processes: int) -> Report:
    """Check every case, and what there is besides them."""
    arguments = {case.identifier: (case, dataset.description) for case in dataset.cases}
    outcome = run_jobs(check_case, arguments, processes, "verifying")
    findings: dict[str, CaseFindings] = {
        name: outcome.results[name] for name in arguments if name in outcome.results
    }
    faults = [*_description_faults(dataset), *_stray_files(dataset), *_names_that_collide(dataset)]
    faults += [
        Fault(
            "not checked",
            str(case.image_files[0]),
            reason,
            "check again, with -np 0",
            case.identifier,
        )
        for case in dataset.cases
        if (reason := outcome.failures.get(case.identifier))
    ]
    faults += [fault for entry in findings.values() for fault in entry.faults]
    remarks = [remark for entry in findings.values() for remark in entry.remarks]
    duplicates = _groups({name: entry.image_digest for name, entry in findings.items()})
    faults += [*_duplicate_images(dataset, duplicates), *_nothing_labelled(dataset, remarks)]
    remarks += _duplicate_labels(dataset, findings, duplicates)
    return Report(
        dataset.name, len(dataset.cases), tuple(faults), tuple(remarks), tuple(duplicates)
    )


def _description_faults(dataset: RawDataset) -> list[Fault]:
    faults = []
    file = str(dataset.folder.description_file)
    declared = dataset.description.num_training
    if declared is not None and declared != len(dataset.cases):
        value = f"numTraining is {declared}, imagesTr holds {len(dataset.cases)} cases"
        faults.append(Fault("numTraining", file, value, "correct the number, or remove the key"))
    key = dataset.description.patient_key
    unmatched = [
        case.identifier
        for case in dataset.cases
        if key is not None and not re.search(key, case.identifier)
    ]
    if unmatched:
        value = f'"patient_key" {key!r} finds nothing in {len(unmatched)} case names, such as {unmatched[0]}'
        faults.append(
            Fault(
                "patient_key",
                file,
                value,
                "write an expression that finds the patient in every name",
            )
        )
    return faults


def _stray_files(dataset: RawDataset) -> Iterator[Fault]:
    """Image files that belong to no case: misnamed, of another format, or left over.

    Where `dataset.json` lists the files of each case, others may lie beside them.
    """
    if dataset.listed:
        return
    known = {os.path.abspath(file) for case in dataset.cases for file in case.raw_files()}
    known |= {
        os.path.abspath(case.label_file) for case in dataset.cases if case.label_file is not None
    }
    identifiers = {case.identifier for case in dataset.cases}
    endings = {
        dataset.folder.training_images: dataset.description.file_ending,
        dataset.folder.training_labels: dataset.description.label_file_ending,
    }
    for folder, expected in endings.items():
        for file in sorted(folder.iterdir()) if folder.is_dir() else ():
            ending = None if file.name.startswith(".") or file.is_dir() else ending_of(file)
            if ending is not None and os.path.abspath(file) not in known:
                yield _stray_file(file, ending, expected, identifiers)


def _stray_file(file: Path, ending: str, expected: str, identifiers: set[str]) -> Fault:
    stem = name_without_ending(file)
    if file.parent.name == "labelsTr" and stem not in identifiers:
        value = "a label map without an image in imagesTr"
        return Fault("no image of a label map", str(file), value, "add the image or remove it")
    if ending not in variants_of(expected):
        value = (
            f"ends in {ending} and is not used, as dataset.json names {expected} for this folder"
        )
        return Fault("another file ending", str(file), value, "convert or remove it")
    value, remedy = (
        "an image without a channel number",
        f"call the first channel {stem}_0000{ending}",
    )
    return Fault("no channel number", str(file), value, remedy)


def _names_that_collide(dataset: RawDataset) -> Iterator[Fault]:
    """Two names that are one on many computers, where files of one case would replace those of the other."""
    folded = Counter(case.identifier.casefold() for case in dataset.cases)
    for name, count in folded.items():
        if count > 1:
            value = f"case names that differ in upper and lower case only: {name}"
            yield Fault("names alike", str(dataset.folder.training_images), value, "rename one")


def _nothing_labelled(dataset: RawDataset, remarks: list[Fault]) -> Iterator[Fault]:
    """A case may well be healthy, a whole data set is not."""
    if dataset.cases and sum(remark.kind == BACKGROUND_KIND for remark in remarks) == len(
        dataset.cases
    ):
        value = "not one of the label maps holds anything but background"
        yield Fault(
            "nothing labelled",
            str(dataset.folder.training_labels),
            value,
            "export the label maps again",
        )


def _groups(digests: dict[str, str | None]) -> list[tuple[str, ...]]:
    """The names that share a digest, in order, where there are several."""
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


def _duplicate_labels(
    dataset: RawDataset, findings: dict[str, CaseFindings], duplicates: list[tuple[str, ...]]
) -> Iterator[Fault]:
    """Label maps that are alike to the voxel though their images are not."""
    files = {case.identifier: case.label_file for case in dataset.cases}
    known = {name for group in duplicates for name in group}
    for first, *others in _groups({name: entry.label_digest for name, entry in findings.items()}):
        for name in others:
            if name not in known:
                value = f"the same label map as that of case {first}, for another image"
                remedy = "exchange it if it was saved under a wrong name"
                yield Fault("label map twice", str(files[name]), value, remedy, name)
