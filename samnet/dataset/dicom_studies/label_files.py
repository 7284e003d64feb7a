"""The names and references of a label file, a DICOM segmentation or a structure set."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from samnet.core.errors import UserError
from samnet.dataset.dicom_studies.contours import FILLED_TYPES
from samnet.dataset.dicom_studies.objects import STRUCTURE_SET, DicomObject, Series, Studies
from samnet.dataset.formats.dicom_files import read_header

# Which sequences name the images and series that labels belong to; others name studies and plans.
_IMAGE_SEQUENCES = ("ContourImageSequence", "SourceImageSequence", "ReferencedInstanceSequence")
_CONTOUR_DATA = 0x30060050
_SERIES_SEQUENCES = ("RTReferencedSeriesSequence", "ReferencedSeriesSequence")


@dataclass(frozen=True)
class Structure:
    """A structure of a label file.

    Attributes:
        number: ROINumber or SegmentNumber.
        name: ROIName or SegmentLabel.
        kind: What it is stated to be, such as `ORGAN`, `EXTERNAL` or `Liver`; empty where unknown.
    """

    number: int
    name: str
    kind: str


@dataclass(frozen=True)
class LabelFile:
    """A label file whose header is read.

    Attributes:
        source: The object.
        structures: Its structures, in the order of the file.
        series_uids: The series that it states to refer to.
        image_uids: The images that it, or any of its contours and frames, refers to.
        frame_uids: The frames of reference that it states.
        notes: Sentences on structures that have no area.
    """

    source: DicomObject
    structures: tuple[Structure, ...]
    series_uids: frozenset[str]
    image_uids: frozenset[str]
    frame_uids: frozenset[str]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Reference:
    """The series that a label file belongs to.

    Attributes:
        series_uid: SeriesInstanceUID.
        doubts: Sentences on what is odd about the references.
    """

    series_uid: str
    doubts: tuple[str, ...] = ()


def read_label_file(source: DicomObject) -> LabelFile:
    """Read the names and references of a label file.

    Args:
        source: A SEG or RTSTRUCT.

    Returns:
        What it holds.

    Raises:
        UserError: It is damaged.
    """
    header = read_header(source.file)
    try:
        is_structure_set = source.modality == STRUCTURE_SET
        structures, notes = _regions(header) if is_structure_set else (_segments(header), ())
        series, images, frames = _references(header)
    except (AttributeError, ValueError, TypeError) as error:
        raise UserError(
            f"{source.file}: is no complete {source.modality} ({error}); export it again"
        ) from error
    return LabelFile(source, structures, series, images, frames, notes)


def _regions(header: Any) -> tuple[tuple[Structure, ...], tuple[str, ...]]:
    """Return the structures that have an area, and sentences on the others."""
    kinds = {}
    for item in header.get("RTROIObservationsSequence") or []:
        kinds[int(item.ReferencedROINumber)] = str(item.get("RTROIInterpretedType") or "")
    types: dict[int, set[str]] = {}
    for item in header.get("ROIContourSequence") or []:
        found = types.setdefault(int(item.ReferencedROINumber), set())
        for contour in item.get("ContourSequence") or []:
            found.add(str(contour.get("ContourGeometricType") or "unknown type"))
    structures, notes = [], []
    for item in header.get("StructureSetROISequence") or []:
        number = int(item.ROINumber)
        name = str(item.get("ROIName") or "").strip() or f"ROI {number}"
        if types.get(number, set()) & set(FILLED_TYPES):
            structures.append(Structure(number, name, kinds.get(number, "")))
        else:
            what = ", ".join(sorted(types.get(number, ()))) or "no contour"
            notes.append(f"{name}: has no area ({what}) and is left out")
    return tuple(structures), tuple(notes)


def _segments(header: Any) -> tuple[Structure, ...]:
    structures = []
    is_label_map = header.get("SegmentationType") == "LABELMAP"
    for item in header.get("SegmentSequence") or []:
        number = int(item.SegmentNumber)
        if is_label_map and number == 0:
            continue  # the background
        name = str(item.get("SegmentLabel") or "").strip() or f"segment {number}"
        codes = item.get("SegmentedPropertyTypeCodeSequence") or []
        kind = str(codes[0].get("CodeMeaning") or "") if codes else ""
        structures.append(Structure(number, name, kind))
    return tuple(structures)


def _references(header: Any) -> tuple[frozenset[str], frozenset[str], frozenset[str]]:
    """Return the identifiers of series, images and frames of reference in a header."""
    series: set[str] = set()
    images: set[str] = set()
    frames: set[str] = set()
    if header.get("FrameOfReferenceUID"):
        frames.add(str(header.FrameOfReferenceUID))
    for name, item in _items(header):
        if name in _IMAGE_SEQUENCES and item.get("ReferencedSOPInstanceUID"):
            images.add(str(item.ReferencedSOPInstanceUID))
        if name in _SERIES_SEQUENCES and item.get("SeriesInstanceUID"):
            series.add(str(item.SeriesInstanceUID))
        for keyword in ("FrameOfReferenceUID", "ReferencedFrameOfReferenceUID"):
            if item.get(keyword):
                frames.add(str(item[keyword].value))
    return frozenset(series), frozenset(images), frozenset(frames)


def _items(dataset: Any) -> Iterator[tuple[str, Any]]:
    """Yield the items of all sequences, at any depth, each with the keyword of its sequence."""
    for tag in tuple(dataset.keys()):
        if tag == _CONTOUR_DATA:
            continue  # reading all coordinates takes long
        element = dataset[tag]
        if element.VR != "SQ" or not element.value:
            continue
        for item in element.value:
            yield element.keyword, item
            yield from _items(item)


def find_series(labels: LabelFile, studies: Studies) -> Reference:
    """Find the series that a label file belongs to: by its images, its series, its frame.

    Args:
        labels: The label file.
        studies: What lies in the folder.

    Returns:
        The series, and what is odd about the references.

    Raises:
        UserError: None of the series is there, or several are and it is not clear which one is
            meant.
    """
    found = _referenced_series(labels, studies)
    doubts = []
    if not found:
        found = _series_of_frame(labels, studies)
        if len(found) == 1:
            doubts.append(
                "refers to no image that is here; taken to belong to the only series with its "
                "frame of reference"
            )
    if not found:
        named = ", ".join(sorted(labels.series_uids)[:3]) or "none"
        raise UserError(
            f"{labels.source.file}: refers to no series in the folder (series: {named}); add its "
            "images"
        )
    if len(found) > 1:
        names = "; ".join(studies.series[uid].name for uid in sorted(found))
        raise UserError(
            f"{labels.source.file}: belongs to {len(found)} series ({names}); leave the one that "
            "it was drawn on in the folder"
        )
    (series_uid,) = found
    return Reference(series_uid, (*doubts, *_reference_doubts(labels, studies.series[series_uid])))


def _referenced_series(labels: LabelFile, studies: Studies) -> set[str]:
    by_image = studies.series_of_image
    of_images = {by_image[uid] for uid in labels.image_uids if uid in by_image}
    named = {uid for uid in labels.series_uids if uid in studies.series}
    return (of_images & named) or of_images or named


def _series_of_frame(labels: LabelFile, studies: Studies) -> set[str]:
    found = set()
    for uid, series in studies.series.items():
        is_of_patient = series.first.patient == labels.source.patient
        if series.first.frame_uid in labels.frame_uids and is_of_patient:
            found.add(uid)
    return found


def _reference_doubts(labels: LabelFile, series: Series) -> list[str]:
    doubts = []
    own = {image.uid for image in series.images}
    missing = [uid for uid in labels.image_uids if uid not in own]
    if len(missing) and own & labels.image_uids:
        doubts.append(
            f"refers to {len(missing)} images that are not in the folder; labels there are cut off"
        )
    frame = series.first.frame_uid
    if frame and labels.frame_uids and frame not in labels.frame_uids:
        doubts.append("states another frame of reference than its images; its positions are used")
    if series.first.patient != labels.source.patient:
        doubts.append("states another PatientID than its images; that of the images is used")
    return doubts
