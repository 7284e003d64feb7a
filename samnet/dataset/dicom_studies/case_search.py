"""The cases of DICOM studies: a labelled series, its label files, the series of its channels."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from samnet.core.errors import UserError
from samnet.dataset.dicom_studies.label_files import LabelFile, find_series, read_label_file
from samnet.dataset.dicom_studies.objects import Series, Studies
from samnet.dataset.dicom_studies.patients import patient_of, short_hash
from samnet.dataset.dicom_studies.rules import Channel, StudyRules, matches_any


@dataclass(frozen=True)
class StudyCase:
    """A case.

    Attributes:
        reference: The series whose grid the case has: the labelled one.
        channels: The series of the channels.
        labels: The label files.
        doubts: Sentences on what is odd.
    """

    reference: Series
    channels: tuple[Series, ...]
    labels: tuple[LabelFile, ...]
    doubts: tuple[str, ...] = ()

    @property
    def patient(self) -> str:
        """What tells its patient apart."""
        return patient_of(self.reference.first)

    def identifier(self, patient_names: dict[str, str]) -> str:
        """Return its name in the data set.

        Args:
            patient_names: Patient -> name.
        """
        series_hash = short_hash(self.patient, self.reference.first.series_uid)
        return f"{patient_names[self.patient]}_{series_hash}"

    @property
    def structures(self) -> list[tuple[str, str]]:
        """Name and kind of each structure."""
        return [(entry.name, entry.kind) for file in self.labels for entry in file.structures]


@dataclass
class FoundCases:
    """The cases of a folder, and what is no case.

    Attributes:
        cases: The cases.
        faults: Texts on what cannot be converted.
        notes: Texts on what is left out.
    """

    cases: list[StudyCase] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def find_cases(studies: Studies, rules: StudyRules) -> FoundCases:
    """Find the series that label files refer to, and the series of the channels.

    Args:
        studies: What lies in the folder.
        rules: The user's decisions.

    Returns:
        The cases in the order of their files, and what is no case.
    """
    found = FoundCases(faults=list(studies.faults))
    groups: dict[str, list[tuple[str, LabelFile, tuple[str, ...]]]] = {}
    for source in studies.labels:
        try:
            labels = read_label_file(source)
            reference = find_series(labels, studies)
        except UserError as error:
            found.faults.append(str(error))
            continue
        found.notes += [f"{source.file}: {note}" for note in labels.notes]
        if not labels.structures:
            found.notes.append(f"{source.file}: has no structure with an area")
            continue
        doubts = tuple(f"{source.file}: {doubt}" for doubt in reference.doubts)
        uid = reference.series_uid
        key = studies.series[uid].first.study_uid if rules.channels else uid
        groups.setdefault(key, []).append((uid, labels, doubts))
    for members in groups.values():
        try:
            found.cases.append(_make_case(members, studies, rules.channels))
        except UserError as error:
            found.faults.append(str(error))
    return found


def _make_case(
    members: Sequence[tuple[str, LabelFile, tuple[str, ...]]],
    studies: Studies,
    channels: Sequence[Channel],
) -> StudyCase:
    uids = list(dict.fromkeys(uid for uid, _, _ in members))
    labels = tuple(file for _, file, _ in members)
    doubts = [doubt for _, _, listed in members for doubt in listed]
    _check_names(labels)
    referenced = [studies.series[uid] for uid in uids]
    reference = referenced[0]
    chosen: list[Series] = [reference]
    if channels:
        chosen = [_series_of_channel(channel, referenced, studies) for channel in channels]
        reference = next((series for series in chosen if series in referenced), reference)
    for series in dict.fromkeys([reference, *chosen]):
        if series.first.has_burned_in_text:
            doubts.append(f"{series.name}: states that text is burned into its pixels; look at it")
        if not series.first.patient:
            doubts.append(f"{series.name}: has no PatientID; its study is taken as a patient")
        if series.first.frame_uid != reference.first.frame_uid:
            doubts.append(
                f"{series.name}: is not stated to be registered with {reference.name} (another "
                "frame of reference); its positions are used"
            )
    return StudyCase(reference, tuple(chosen), labels, tuple(doubts))


def _check_names(labels: Iterable[LabelFile]) -> None:
    """Refuse a structure that several files have: they may be versions, or of several readers."""
    files: dict[str, LabelFile] = {}
    for file in labels:
        for name in dict.fromkeys(entry.name for entry in file.structures):
            other = files.setdefault(name, file)
            if other is not file:
                raise UserError(
                    f"{other.source.file} and {file.source.file}: both have {name!r} for one "
                    "series; choose between them with --segmentations PATTERN (of their "
                    f"descriptions, {other.source.description!r} and {file.source.description!r}, "
                    "or file names), or remove one"
                )


def _series_of_channel(channel: Channel, referenced: Sequence[Series], studies: Studies) -> Series:
    """Return the series of a study that a channel describes; of several, the labelled one."""
    study = referenced[0].first.study_uid
    of_study = [series for series in studies.series.values() if series.first.study_uid == study]
    found = [
        series
        for series in of_study
        if matches_any([series.first.description], [channel.pattern])
        or series.first.modality.casefold() == channel.pattern.casefold()
    ]
    labelled = [series for series in found if series in referenced]
    if len(labelled) == 1:
        return labelled[0]
    if len(found) == 1:
        return found[0]
    where = referenced[0].name
    if not found:
        descriptions = sorted(series.first.description for series in of_study)
        names = ", ".join(map(repr, descriptions))
        raise UserError(
            f"{where}: its study has no series for the channel {channel.name} ({channel.pattern}); "
            f"it has {names}; correct --channels, or add the series"
        )
    names = "; ".join(series.name for series in found)
    raise UserError(
        f"{where}: {len(found)} series of its study fit the channel {channel.name} "
        f"({channel.pattern}): {names}; write a narrower pattern in --channels"
    )
