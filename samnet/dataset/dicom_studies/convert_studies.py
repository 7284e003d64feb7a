"""The plan for converting a folder of DICOM studies into a raw data set."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from samnet.core.errors import DatasetFaults, UserError
from samnet.core.progress import ProgressBar
from samnet.dataset.cases.folder_walk import LeftOut
from samnet.dataset.dicom_studies.case_labels import read_case_labels
from samnet.dataset.dicom_studies.case_search import FoundCases, StudyCase, find_cases
from samnet.dataset.dicom_studies.channels import check_channels
from samnet.dataset.dicom_studies.combinations import Combination
from samnet.dataset.dicom_studies.objects import Studies, find_studies
from samnet.dataset.dicom_studies.overlaps import Labelling, label_structures
from samnet.dataset.dicom_studies.patients import name_patients
from samnet.dataset.dicom_studies.rules import StudyRules
from samnet.dataset.dicom_studies.series_reading import read_geometry
from samnet.dataset.dicom_studies.structure_names import (
    FoundName,
    NameTable,
    count_names,
    find_doubts,
    propose_table,
    read_table,
)

_SHOWN_OVERLAPS = 10


@dataclass(frozen=True)
class StudyContents:
    """What lies in a folder of studies.

    Attributes:
        folder: The folder.
        studies: Its DICOM objects.
        found: Its cases.
        names: The names of the structures.
        rules: The user's decisions.
    """

    folder: Path
    studies: Studies
    found: FoundCases
    names: list[FoundName]
    rules: StudyRules

    @property
    def unlabelled(self) -> list[str]:
        """The series that are of no case."""
        used = {
            id(series) for case in self.found.cases for series in (case.reference, *case.channels)
        }
        return [series.name for series in self.studies.series.values() if id(series) not in used]

    @property
    def left_out(self) -> list[LeftOut]:
        """The files that are of no series and hold no labels."""
        return self.studies.left_out


@dataclass
class MeasuredCase:
    """A case whose labels are read.

    Attributes:
        case: The case.
        counts: Number of voxels of each combination of structures.
        doubts: Sentences on what is odd.
    """

    case: StudyCase
    counts: dict[Combination, int]
    doubts: list[str]


@dataclass(frozen=True)
class StudyConversion:
    """The plan for a conversion.

    Attributes:
        contents: What lies in the folder.
        cases: Name of each case -> the case with its labels measured.
        table: What the structures become.
        labelling: The labels.
        channel_names: Names of the channels.
        patient_names: Patient -> name.
        faults: Texts on cases that are left out.
        doubts: Texts on what holds for the whole data set.
    """

    contents: StudyContents
    cases: dict[str, MeasuredCase]
    table: NameTable
    labelling: Labelling
    channel_names: tuple[str, ...]
    patient_names: dict[str, str]
    faults: list[str] = field(default_factory=list)
    doubts: list[str] = field(default_factory=list)


def find_contents(folder: Path, rules: StudyRules) -> StudyContents:
    """Find the cases of a folder of studies, and the names of their structures.

    Args:
        folder: The folder.
        rules: The user's decisions.

    Returns:
        What lies in it.

    Raises:
        UserError: There is no such folder, or no label file in it.
        DatasetFaults: No label file belongs to a series.
    """
    studies = find_studies(folder, rules.label_patterns)
    if not studies.labels:
        raise UserError(
            f"{folder}: holds no DICOM segmentation (SEG) or structure set (RTSTRUCT), but "
            f"{len(studies.series)} series of images; labels of other formats are converted by "
            "samnet_convert_folder"
        )
    found = find_cases(studies, rules)
    if not found.cases:
        raise DatasetFaults(f"{folder} has no case", found.faults or found.notes)
    names = count_names(case.structures for case in found.cases)
    return StudyContents(folder, studies, found, names, rules)


def plan_studies(
    contents: StudyContents, structures: Path | None, patients: Path | None
) -> StudyConversion:
    """Read all labels, and decide what becomes of them, without writing anything.

    Args:
        contents: What lies in the folder.
        structures: The table of names; None to take the names as they are.
        patients: The table of patients of an earlier conversion, if there is one.

    Returns:
        The plan.

    Raises:
        DatasetFaults: Cases cannot be converted (unless they are left out), or structures overlap.
            All faults are reported.
        UserError: The names need a decision, a table does not fit, or no case is left.
    """
    rules, folder = contents.rules, contents.folder
    table = _table(contents, structures)
    images = [image for case in contents.found.cases for image in case.reference.images]
    patient_names = name_patients(images, patients)
    faults = list(contents.found.faults)
    cases: dict[str, MeasuredCase] = {}
    for case in ProgressBar(contents.found.cases, desc="reading labels", unit="case"):
        try:
            cases[case.identifier(patient_names)] = _measure(case, table, rules)
        except UserError as error:
            faults.append(str(error))
    counts: Counter[Combination] = Counter()
    for measured in cases.values():
        counts.update(measured.counts)
    overlaps = [] if rules.overlap else _overlap_faults(cases)
    if overlaps or (faults and not rules.skip_faulty):
        raise DatasetFaults(f"{folder} cannot be converted{_remedy(faults)}", [*faults, *overlaps])
    if not cases:
        raise DatasetFaults(f"{folder} has no case that can be converted", faults)
    return StudyConversion(
        contents=contents,
        cases=cases,
        table=table,
        labelling=label_structures(table.class_names, counts, rules.overlap),
        channel_names=_channel_names(contents),
        patient_names=patient_names,
        faults=faults,
        doubts=_general_doubts(contents, table, cases, counts),
    )


def _remedy(faults: Sequence[str]) -> str:
    return " (--skip-faulty leaves out such cases)" if faults else ""


def _table(contents: StudyContents, structures: Path | None) -> NameTable:
    if structures is not None:
        return read_table(structures, contents.names)
    doubts = find_doubts(contents.names, len(contents.found.cases))
    if doubts:
        raise DatasetFaults(
            f"{contents.folder}: the names of structures need a decision; --structures names.csv "
            "writes a table to edit",
            [*doubts, *contents.found.faults],
        )
    return propose_table(contents.names)


def _measure(case: StudyCase, table: NameTable, rules: StudyRules) -> MeasuredCase:
    geometry = read_geometry(case.reference)
    doubts = [*case.doubts, *check_channels(case, geometry, rules.resample)]
    labels = read_case_labels(case, geometry, table, rules.threshold)
    doubts += labels.doubts
    counts = labels.structures.counts()
    if not counts:
        reasons = "; ".join(labels.doubts) or "the table drops all of them"
        raise UserError(
            f"{case.reference.name}: none of its structures has a voxel ({reasons}); correct the "
            "label file, or remove it"
        )
    return MeasuredCase(case, counts, doubts)


def _overlap_faults(cases: dict[str, MeasuredCase]) -> list[str]:
    """Name the structures that overlap, with the number of voxels and of cases."""
    voxels: Counter[Combination] = Counter()
    examples: dict[Combination, StudyCase] = {}
    num_cases: Counter[Combination] = Counter()
    for measured in cases.values():
        for combination, count in measured.counts.items():
            if len(combination) > 1:
                voxels[combination] += count
                num_cases[combination] += 1
                examples.setdefault(combination, measured.case)
    faults = []
    for combination, count in voxels.most_common(_SHOWN_OVERLAPS):
        file = examples[combination].labels[0].source.file
        faults.append(
            f"{' and '.join(sorted(combination))} overlap in {count} voxels of "
            f"{num_cases[combination]} cases ({file}); make them regions with --overlap "
            "regions, or take the first or last one in the table with --overlap first or last"
        )
    return faults


def _channel_names(contents: StudyContents) -> tuple[str, ...]:
    """Return the names of the channels; a data set of CT only is called so, for its units."""
    if contents.rules.channels:
        return tuple(channel.name for channel in contents.rules.channels)
    modalities = {case.reference.first.modality for case in contents.found.cases}
    return (modalities.pop() or "image",) if len(modalities) == 1 else ("image",)


def _has(case: MeasuredCase, name: str) -> bool:
    return any(name in combination for combination in case.counts)


def _general_doubts(
    contents: StudyContents,
    table: NameTable,
    cases: dict[str, MeasuredCase],
    counts: Counter[Combination],
) -> list[str]:
    doubts = []
    modalities = Counter(measured.case.reference.first.modality for measured in cases.values())
    if len(modalities) > 1:
        listing = ", ".join(f"{count} {name}" for name, count in modalities.items())
        doubts.append(f"the labelled series are of several modalities: {listing}")
    for name in table.class_names:
        having = sum(_has(case, name) for case in cases.values())
        if having < len(cases):
            doubts.append(
                f"{name}: is in {having} of {len(cases)} cases; the others are trained on as cases "
                "without it"
            )
    patients: dict[str, set[str]] = {}
    for measured in cases.values():
        studies = patients.setdefault(measured.case.patient, set())
        studies.add(measured.case.reference.first.study_uid)
    if len(patients) == 1 and len(cases) > 1:
        doubts.append(
            f"all {len(cases)} cases have one PatientID; if they are of several patients, their "
            'folds need another "patient_key" in dataset.json'
        )
    return doubts
