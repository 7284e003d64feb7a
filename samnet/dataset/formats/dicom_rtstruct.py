"""DICOM structure sets of radiotherapy, which hold contours (RTSTRUCT, DICOM PS3.3 A.19).

Structures may overlap. Texts are in UTF-8. The contours lie on the planes that the slices state.
"""

from __future__ import annotations

import colorsys
import datetime
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from samnet import __version__
from samnet.core.errors import UserError
from samnet.core.files import atomic_path
from samnet.dataset.formats.dicom import Series
from samnet.dataset.formats.dicom_files import read_header
from samnet.dataset.formats.dicom_frames import Frame, frames_of, has_many_frames
from samnet.dataset.formats.dicom_texts import UTF_8, plain_text, short_names
from samnet.dataset.formats.image import Image
from samnet.dataset.formats.outlines import find_outlines
from samnet.dataset.label_scheme import LabelScheme, mask_of

_SERIES_NUMBER = 1001  # higher than the numbers of a usual study
_STUDY_CLASS = "1.2.840.10008.3.1.2.3.1"  # what structure sets state as the class of their study
# What is repeated of the headers of the slices.
_REPEATED = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyInstanceUID",
    "StudyDate",
    "StudyTime",
    "StudyID",
    "StudyDescription",
    "AccessionNumber",
    "ReferringPhysicianName",
)
_LARGEST_NUMBER = 16  # characters of a number in DICOM (DS)
_HUE_STEP = 0.618  # neighbouring structures get unlike colours


def write_structure_set(labels: np.ndarray, image: Image, scheme: LabelScheme, file: Path) -> None:
    """Write labels as contours, in the study and frame of reference of the series.

    Args:
        labels: Labels `(Z, Y, X)` on the grid of the image.
        image: The image as read from a DICOM series.
        scheme: The classes, or regions, which may overlap. Each becomes a structure, also where it
            is empty.
        file: The file to write.

    Raises:
        UserError: The series lacks positions or a frame of reference.
    """
    series: Series = image.header
    headers = {source: read_header(source) for source in dict.fromkeys(series.files)}
    first = headers[series.files[0]]
    if not first.get("FrameOfReferenceUID"):
        raise UserError(
            f"{series.files[0].parent}: states no frame of reference, which contours refer to; "
            "leave out --dicom-rtstruct"
        )
    frames = {source: frames_of(source, header) for source, header in headers.items()}
    slices = [
        _Slice(frames[source][number], headers[source])
        for source, number in zip(series.files, series.frame_numbers, strict=True)
    ]
    dataset = _structure_set(first)
    dataset.ReferencedFrameOfReferenceSequence = [_references(first, slices)]
    names = short_names(scheme.class_names)
    dataset.StructureSetROISequence = [
        _region(number, name, first.FrameOfReferenceUID) for number, name in enumerate(names, 1)
    ]
    dataset.RTROIObservationsSequence = [
        _observation(number) for number in range(1, 1 + len(names))
    ]
    dataset.ROIContourSequence = [
        _contours(number, mask_of(labels, values), slices)
        for number, values in enumerate(scheme.label_sets, 1)
    ]
    with atomic_path(file) as temporary:
        dataset.save_as(temporary, enforce_file_format=True)


class _Slice:
    """A slice as contours refer to it: where it lies, and the image."""

    def __init__(self, frame: Frame, header: Any) -> None:
        self.frame = frame
        self.image = _item(
            ReferencedSOPClassUID=header.SOPClassUID, ReferencedSOPInstanceUID=header.SOPInstanceUID
        )
        if has_many_frames(header):
            self.image.ReferencedFrameNumber = frame.number + 1

    def to_patient(self, corners: np.ndarray) -> np.ndarray:
        """Return corners `(N, 2)` in pixels as points `(N, 3)` in LPS mm."""
        rows, columns = self.frame.spacing
        along_row, along_column = self.frame.orientation
        x, y = corners[:, :1] * columns, corners[:, 1:] * rows
        return self.frame.position + x * along_row + y * along_column


def _item(**elements: Any) -> Any:
    import pydicom

    item = pydicom.Dataset()
    for keyword, value in elements.items():
        setattr(item, keyword, value)
    return item


def _structure_set(source: Any) -> Any:
    """Return a structure set without structures, for the study of a slice."""
    import pydicom
    from pydicom.uid import ImplicitVRLittleEndian, RTStructureSetStorage, generate_uid

    meta = pydicom.dataset.FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = (
        RTStructureSetStorage,
        generate_uid(),
    )
    # With explicit types a contour could not have more than 64 KiB.
    meta.TransferSyntaxUID = ImplicitVRLittleEndian
    dataset = pydicom.Dataset()
    dataset.file_meta = meta
    dataset.SpecificCharacterSet = UTF_8
    for keyword in _REPEATED:
        value = source.get(keyword)
        setattr(dataset, keyword, "" if value is None else str(value))
    now = datetime.datetime.now()
    elements = {
        "SOPClassUID": RTStructureSetStorage,
        "SOPInstanceUID": meta.MediaStorageSOPInstanceUID,
        "Modality": "RTSTRUCT",
        "SeriesInstanceUID": generate_uid(),
        "SeriesNumber": _SERIES_NUMBER,
        "SeriesDescription": "samnet segmentation",
        "InstanceNumber": 1,
        "FrameOfReferenceUID": source.FrameOfReferenceUID,
        "PositionReferenceIndicator": source.get("PositionReferenceIndicator") or "",
        "Manufacturer": "samnet",
        "ManufacturerModelName": "samnet",
        "SoftwareVersions": __version__,
        "OperatorsName": "",
        "StructureSetLabel": "samnet",
        "StructureSetDate": now.strftime("%Y%m%d"),
        "StructureSetTime": now.strftime("%H%M%S"),
        "InstanceCreationDate": now.strftime("%Y%m%d"),
        "InstanceCreationTime": now.strftime("%H%M%S"),
        "ApprovalStatus": "UNAPPROVED",
    }
    for keyword, value in elements.items():
        setattr(dataset, keyword, value)
    return dataset


def _references(source: Any, slices: Sequence[_Slice]) -> Any:
    series = _item(
        SeriesInstanceUID=source.SeriesInstanceUID,
        ContourImageSequence=[entry.image for entry in slices],
    )
    study = _item(
        ReferencedSOPClassUID=_STUDY_CLASS,
        ReferencedSOPInstanceUID=source.StudyInstanceUID,
        RTReferencedSeriesSequence=[series],
    )
    return _item(FrameOfReferenceUID=source.FrameOfReferenceUID, RTReferencedStudySequence=[study])


def _region(number: int, name: str, frame_of_reference: str) -> Any:
    return _item(
        ROINumber=number,
        ReferencedFrameOfReferenceUID=frame_of_reference,
        ROIName=plain_text(name),
        ROIGenerationAlgorithm="AUTOMATIC",
    )


def _observation(number: int) -> Any:
    return _item(
        ObservationNumber=number,
        ReferencedROINumber=number,
        RTROIInterpretedType="",
        ROIInterpreter="",
    )


def _contours(number: int, mask: np.ndarray, slices: Sequence[_Slice]) -> Any:
    """Return the contours of a structure, from its mask `(Z, Y, X)`."""
    contours = []
    for plane, entry in zip(mask, slices, strict=True):
        if not plane.any():
            continue
        for outline in find_outlines(plane):
            contours.append(
                _item(
                    ContourImageSequence=[entry.image],
                    ContourGeometricType="CLOSED_PLANAR",
                    NumberOfContourPoints=len(outline),
                    ContourData=[_number(value) for value in entry.to_patient(outline).ravel()],
                )
            )
    colour = colorsys.hsv_to_rgb(number * _HUE_STEP % 1, 0.8, 1)
    item = _item(ReferencedROINumber=number, ROIDisplayColor=[round(255 * part) for part in colour])
    if contours:
        item.ContourSequence = contours
    return item


def _number(value: float) -> str:
    """Return a coordinate to a ten-thousandth of a mm, which is short enough for DICOM."""
    return f"{value:.4f}".rstrip("0").rstrip(".")[:_LARGEST_NUMBER]
