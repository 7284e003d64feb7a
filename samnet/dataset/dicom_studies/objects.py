"""The DICOM objects in a folder tree: images by their series, and label files."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from samnet.core.errors import UserError
from samnet.core.progress import ProgressBar
from samnet.dataset.cases.folder_walk import LeftOut, walk
from samnet.dataset.dicom_studies.rules import matches_any
from samnet.dataset.formats.dicom_files import (
    holds_image,
    is_dicom,
    is_index,
    looks_like_slice,
    object_kind,
    read_header,
)

SEGMENTATION, STRUCTURE_SET = "SEG", "RTSTRUCT"
LABEL_MODALITIES = (SEGMENTATION, STRUCTURE_SET)
# What makes two files copies of each other: pixels, place and labels.
_CONTENT = (
    "Rows",
    "Columns",
    "PixelData",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PixelSpacing",
    "RescaleSlope",
    "RescaleIntercept",
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
    "ReferencedFrameOfReferenceSequence",
    "ROIContourSequence",
    "StructureSetROISequence",
)


@dataclass(frozen=True)
class DicomObject:
    """What is kept of the header of a DICOM file.

    Attributes:
        file: The file.
        uid: SOPInstanceUID.
        series_uid: SeriesInstanceUID.
        study_uid: StudyInstanceUID.
        frame_uid: FrameOfReferenceUID; empty where none is stated.
        patient: PatientID together with its issuer; empty where none is stated.
        modality: Such as `CT` or `SEG`.
        description: SeriesDescription, or what a structure set is called.
        is_localiser: Whether it is an image that others are planned on.
        has_burned_in_text: Whether its pixels are stated to hold text that may name the patient.
    """

    file: Path
    uid: str
    series_uid: str
    study_uid: str
    frame_uid: str
    patient: str
    modality: str
    description: str
    is_localiser: bool
    has_burned_in_text: bool


@dataclass(frozen=True)
class Series:
    """The images of one SeriesInstanceUID.

    Attributes:
        images: Its images, at least one, without localisers where there are others.
    """

    images: tuple[DicomObject, ...]

    @property
    def first(self) -> DicomObject:
        """The image from which what all share is taken."""
        return self.images[0]

    @property
    def files(self) -> tuple[Path, ...]:
        """The files of its images."""
        return tuple(image.file for image in self.images)

    @property
    def name(self) -> str:
        """What messages call it: folder, description and number of files."""
        folder = self.first.file.parent
        description = self.first.description or self.first.modality
        return f"{folder} (series {description!r}, {len(self.images)} files)"


@dataclass(frozen=True)
class Studies:
    """What lies in a folder tree.

    Attributes:
        series: SeriesInstanceUID -> series of images.
        labels: The SEG and RTSTRUCT files.
        left_out: Files that are neither, and copies, with the reasons.
        faults: Texts on files of one SOPInstanceUID that differ.
    """

    series: dict[str, Series]
    labels: list[DicomObject]
    left_out: list[LeftOut] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    @property
    def series_of_image(self) -> dict[str, str]:
        """SOPInstanceUID of each image -> SeriesInstanceUID."""
        found = {}
        for series_uid, series in self.series.items():
            for image in series.images:
                found[image.uid] = series_uid
        return found


def find_studies(folder: Path, label_patterns: Sequence[str] = ()) -> Studies:
    """Read the headers of all DICOM files in a folder and those below it.

    Files are recognised by their content. Links are followed, hidden files are left out.

    Args:
        folder: The folder.
        label_patterns: Patterns of the descriptions, file names or modalities of the label files
            that count; empty for all.

    Returns:
        What lies in it.

    Raises:
        UserError: There is no such folder.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder")
    left_out: list[LeftOut] = []
    files: list[Path] = []
    for contents in walk(folder):
        files += contents.files
        left_out += contents.left_out
    objects = list(_read_objects(ProgressBar(files, desc="reading headers", unit="file"), left_out))
    chosen = [entry for entry in objects if _is_chosen(entry, label_patterns, left_out)]
    kept, faults = _without_copies(chosen, left_out)
    labels = [entry for entry in kept if entry.modality in LABEL_MODALITIES]
    images = [entry for entry in kept if entry.modality not in LABEL_MODALITIES]
    return Studies(_group(images, left_out), labels, left_out, faults)


def _read_objects(files: Iterable[Path], left_out: list[LeftOut]) -> Iterable[DicomObject]:
    for file in files:
        if is_index(file):
            continue
        try:
            if not is_dicom(file):
                left_out.append(LeftOut(file, _explain(file)))
                continue
            header = read_header(file)
        except (UserError, OSError) as error:
            left_out.append(LeftOut(file, f"cannot be read ({error})"))
            continue
        if holds_image(header) or header.get("Modality") in LABEL_MODALITIES:
            yield _object(file, header)
        else:
            left_out.append(
                LeftOut(file, f"holds neither image nor labels ({object_kind(header)})")
            )


def _is_chosen(entry: DicomObject, label_patterns: Sequence[str], left_out: list[LeftOut]) -> bool:
    if entry.modality not in LABEL_MODALITIES or not label_patterns:
        return True
    if matches_any((entry.description, entry.file.name, entry.modality), label_patterns):
        return True
    left_out.append(LeftOut(entry.file, "is not chosen by --segmentations"))
    return False


def _explain(file: Path) -> str:
    if looks_like_slice(file):
        return "is named as DICOM, but is no DICOM file; copy it again if it should be one"
    return "is no DICOM file"


def _object(file: Path, header: Any) -> DicomObject:
    def text(keyword: str) -> str:
        value = header.get(keyword)
        return "" if value is None else str(value).strip()

    patient = "\n".join(part for part in (text("PatientID"), text("IssuerOfPatientID")) if part)
    image_type = header.get("ImageType") or ()
    names = (text("SeriesDescription"), text("StructureSetLabel"), text("ContentLabel"))
    return DicomObject(
        file=file,
        uid=text("SOPInstanceUID"),
        series_uid=text("SeriesInstanceUID"),
        study_uid=text("StudyInstanceUID"),
        frame_uid=text("FrameOfReferenceUID"),
        patient=patient,
        modality=text("Modality"),
        description=" ".join(dict.fromkeys(name for name in names if name)),
        is_localiser=not isinstance(image_type, str) and "LOCALIZER" in image_type,
        has_burned_in_text=text("BurnedInAnnotation") == "YES",
    )


def _without_copies(
    objects: list[DicomObject], left_out: list[LeftOut]
) -> tuple[list[DicomObject], list[str]]:
    """Keep one of several equal files; files of one identifier that differ are a fault."""
    kept: dict[str, DicomObject] = {}
    faults = []
    for entry in objects:
        first = kept.setdefault(entry.uid or str(entry.file), entry)
        if first is entry:
            continue
        if _have_same_content(first.file, entry.file):
            left_out.append(LeftOut(entry.file, f"is a copy of {first.file}"))
        else:
            faults.append(
                f"{first.file} and {entry.file}: have one SOPInstanceUID and differ; keep the right"
                " one"
            )
    return list(kept.values()), faults


def _have_same_content(one: Path, other: Path) -> bool:
    """Tell whether two files have the same pixels, place and labels, whatever else they state."""
    import pydicom

    first, second = (pydicom.dcmread(file, force=True) for file in (one, other))
    return all(first.get(keyword) == second.get(keyword) for keyword in _CONTENT)


def _group(images: list[DicomObject], left_out: list[LeftOut]) -> dict[str, Series]:
    members: dict[str, list[DicomObject]] = {}
    for image in images:
        members.setdefault(image.series_uid, []).append(image)
    series = {}
    for uid, group in members.items():
        kept = [image for image in group if not image.is_localiser] or group
        for image in group:
            if image not in kept:
                left_out.append(LeftOut(image.file, "is a localiser among the slices"))
        series[uid] = Series(tuple(kept))
    return series
