"""Synthetic DICOM: series written slice by slice, files of many frames, and other objects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import SimpleITK
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

SERIES_UID = "1.2.826.0.1.3680043.2.1125.1"
STUDY_UID = "1.2.826.0.1.3680043.2.1125.2"
FRAME_UID = "1.2.3.4.5"
AXIAL = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0))
CORONAL = ((1.0, 0.0, 0.0), (0.0, 0.0, -1.0))
ENHANCED = {"CT": pydicom.uid.EnhancedCTImageStorage, "MR": pydicom.uid.EnhancedMRImageStorage}
# The functional group that a value of a frame belongs to.
_GROUPS = {
    "ImagePositionPatient": "PlanePositionSequence",
    "ImageOrientationPatient": "PlaneOrientationSequence",
    "PixelSpacing": "PixelMeasuresSequence",
    "SliceThickness": "PixelMeasuresSequence",
    "RescaleSlope": "PixelValueTransformationSequence",
    "RescaleIntercept": "PixelValueTransformationSequence",
    "TemporalPositionIndex": "FrameContentSequence",
    "StackID": "FrameContentSequence",
    "EffectiveEchoTime": "MREchoSequence",
    "DiffusionBValue": "MRDiffusionSequence",
    "NominalCardiacTriggerDelayTime": "CardiacSynchronizationSequence",
    "FrameType": "MRImageFrameTypeSequence",
}


def write_series(
    folder: Path,
    array: np.ndarray,
    positions: Sequence[Sequence[float]],
    orientation: Sequence[Sequence[float]] = AXIAL,
    pixel_spacing: tuple[float, float] = (0.7, 0.5),
    series_uid: str = SERIES_UID,
    names: Sequence[str] | None = None,
) -> None:
    """Write the slices of a CT, one per file.

    Args:
        folder: The folder to write to; it is created where it is missing.
        array: Values `(Z, Y, X)` of 16-bit integers.
        positions: Position of the first voxel of each slice in LPS mm.
        orientation: Unit vectors along a row and along a column.
        pixel_spacing: Distance between rows and between columns in mm.
        series_uid: SeriesInstanceUID of all slices.
        names: File names of the slices; by default names whose order is not that of the slices.
    """
    folder.mkdir(parents=True, exist_ok=True)
    direction = [value for vector in orientation for value in vector]
    for index, (plane, position) in enumerate(zip(array, positions, strict=True)):
        image = SimpleITK.GetImageFromArray(plane[None].astype(np.int16))
        image.SetSpacing((pixel_spacing[1], pixel_spacing[0], 1.0))
        tags = {
            "0008|0016": "1.2.840.10008.5.1.4.1.1.2",
            "0008|0018": f"{series_uid}.{index + 1}",
            "0008|0060": "CT",
            "0008|103e": f"series {series_uid[-1]}",
            "0010|0010": "Synthetic^Patient",
            "0010|0020": "synthetic",
            "0018|0050": "2.0",
            "0020|000d": STUDY_UID,
            "0020|000e": series_uid,
            "0020|0013": str(len(array) - index),
            "0020|0032": "\\".join(f"{value:.6f}" for value in position),
            "0020|0037": "\\".join(f"{value:.9f}" for value in direction),
            "0020|0052": FRAME_UID,
        }
        for key, value in tags.items():
            image.SetMetaData(key, value)
        writer = SimpleITK.ImageFileWriter()
        writer.KeepOriginalImageUIDOn()
        writer.SetImageIO("GDCMImageIO")
        name = names[index] if names else f"IM{7 * index % 11:04d}.dcm"
        writer.SetFileName(str(folder / name))
        writer.Execute(image)


def write_object(
    file: Path, sop_class: str, array: np.ndarray | None = None, **elements: Any
) -> pydicom.FileDataset:
    """Write any DICOM object with the usual identifiers.

    Args:
        file: The file; its folder is created where it is missing.
        sop_class: UID of its class.
        array: Its pixels `(Y, X)`, or `(N, Y, X)` for N frames; unsigned, signed or 32-bit whole
            numbers. None for an object without pixels.
        **elements: Further elements by keyword; they replace the usual ones.

    Returns:
        What was written.
    """
    meta = pydicom.dataset.FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = sop_class, generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = pydicom.FileDataset(None, {}, file_meta=meta, preamble=bytes(128))
    usual = {
        "SOPClassUID": sop_class,
        "SOPInstanceUID": meta.MediaStorageSOPInstanceUID,
        "StudyInstanceUID": STUDY_UID,
        "SeriesInstanceUID": SERIES_UID,
        "FrameOfReferenceUID": FRAME_UID,
        "Modality": "OT",
        "PatientName": "Synthetic^Patient",
        "PatientID": "synthetic",
        "InstanceNumber": 1,
    }
    for keyword in ("PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "StudyID"):
        usual[keyword] = ""
    for keyword in ("AccessionNumber", "ReferringPhysicianName", "Manufacturer"):
        usual[keyword] = ""
    pixels = {} if array is None else _pixel_elements(array)
    for keyword, value in {**usual, **pixels, **elements}.items():
        setattr(dataset, keyword, value)
    file.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(file, enforce_file_format=True)
    return dataset


def _pixel_elements(array: np.ndarray) -> dict[str, Any]:
    num_bits = 8 * array.dtype.itemsize
    elements: dict[str, Any] = {
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "Rows": array.shape[-2],
        "Columns": array.shape[-1],
        "BitsAllocated": num_bits,
        "BitsStored": num_bits,
        "HighBit": num_bits - 1,
        "PixelRepresentation": int(array.dtype.kind == "i"),
        "PixelData": array.tobytes(),
    }
    if array.ndim == 3:
        elements["NumberOfFrames"] = len(array)
    return elements


def write_enhanced(
    file: Path,
    array: np.ndarray,
    per_frame: Mapping[str, Sequence[Any]],
    shared: Mapping[str, Any] | None = None,
    modality: str = "MR",
    **elements: Any,
) -> pydicom.FileDataset:
    """Write an enhanced file of many frames, which are described by functional groups.

    Args:
        file: The file.
        array: Values `(N, Y, X)` of N frames.
        per_frame: Values that each frame states: keyword -> one value a frame.
        shared: Values that all frames share, in addition to or in place of an axial orientation
            and pixels of 0.7 mm x 0.5 mm.
        modality: CT or MR.
        **elements: Further elements at the top of the header.

    Returns:
        What was written.
    """
    usual = {
        "ImageOrientationPatient": [value for vector in AXIAL for value in vector],
        "PixelSpacing": [0.7, 0.5],
        "SliceThickness": 2.0,
    }
    kept = {keyword: value for keyword, value in usual.items() if keyword not in per_frame}
    frames = []
    for number in range(len(array)):
        values = {keyword: listed[number] for keyword, listed in per_frame.items()}
        frames.append(_functional_groups(values))
    return write_object(
        file,
        ENHANCED[modality],
        array,
        Modality=modality,
        SharedFunctionalGroupsSequence=[_functional_groups({**kept, **(shared or {})})],
        PerFrameFunctionalGroupsSequence=frames,
        **elements,
    )


def _functional_groups(values: Mapping[str, Any]) -> pydicom.Dataset:
    groups: dict[str, pydicom.Dataset] = {}
    for keyword, value in values.items():
        setattr(groups.setdefault(_GROUPS[keyword], pydicom.Dataset()), keyword, value)
    item = pydicom.Dataset()
    for name, group in groups.items():
        setattr(item, name, [group])
    return item


def remove_preamble(file: Path, with_meta_information: bool) -> None:
    """Remove the first 132 bytes of a DICOM file, as some archives do.

    Args:
        file: The file.
        with_meta_information: Whether the file meta information is removed as well.
    """
    dataset = pydicom.dcmread(file)
    if with_meta_information:
        del dataset.file_meta
        dataset.preamble = None
        dataset.save_as(file, implicit_vr=True, little_endian=True)
    else:
        file.write_bytes(file.read_bytes()[132:])
