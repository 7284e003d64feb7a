"""DICOM segmentations (DICOM PS3.3 A.51).

They are written with highdicom, which is installed with the extra `dicom`. Texts are in UTF-8.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from samnet import __version__
from samnet.core.errors import UserError
from samnet.core.files import atomic_path
from samnet.dataset.formats.dicom import Series
from samnet.dataset.formats.dicom_files import read_header
from samnet.dataset.formats.dicom_frames import has_many_frames
from samnet.dataset.formats.dicom_texts import (
    LONGEST_DESCRIPTION,
    UTF_8,
    plain_text,
    short_names,
)
from samnet.dataset.formats.image import Image

_SERIES_NUMBER = 1000  # higher than the numbers of a usual study


def require_library() -> None:
    """Check that segmentations can be written.

    Raises:
        UserError: highdicom is not installed; the message says how to install it.
    """
    if importlib.util.find_spec("highdicom") is None:
        raise UserError(
            "DICOM segmentations need the package highdicom; "
            "install it with: pip install 'samnet[dicom]'"
        )


def write_segmentation(
    labels: np.ndarray, image: Image, class_names: Sequence[str], file: Path
) -> None:
    """Write labels with one segment per class, in the study and frame of reference of the series.

    Args:
        labels: Labels `(Z, Y, X)` on the grid of the image.
        image: The image as read from a DICOM series.
        class_names: Names of the labels 1, 2, ...
        file: The file to write.

    Raises:
        UserError: highdicom is not installed, the series consists of several files with many
            frames, or it lacks a value that a segmentation has to repeat, such as its frame of
            reference.
    """
    require_library()
    series: Series = image.header
    sources = [read_header(source) for source in dict.fromkeys(series.files)]
    if len(sources) > 1 and any(map(has_many_frames, sources)):
        raise UserError(
            f"{series.files[0].parent}: consists of {len(sources)} multi-frame files, and a DICOM "
            "segmentation refers to one; leave out --dicom-seg"
        )
    if len(sources) == 1:
        labels = _in_stored_order(labels, series.frame_numbers)
    try:
        segmentation = _segmentation(labels, sources, class_names)
    except (ValueError, AttributeError, KeyError, TypeError) as error:
        raise UserError(
            f"{series.files[0].parent}: cannot be given a DICOM segmentation ({error}); "
            "leave out --dicom-seg"
        ) from error
    with atomic_path(file) as temporary:
        segmentation.save_as(temporary)


def _in_stored_order(labels: np.ndarray, frame_numbers: Sequence[int]) -> np.ndarray:
    """Return labels `(Z, Y, X)` in the order in which the frames of a file are stored."""
    stored = np.empty_like(labels)
    stored[list(frame_numbers)] = labels
    return stored


def _segmentation(labels: np.ndarray, sources: list[Any], class_names: Sequence[str]) -> Any:
    """Return the segmentation of labels `(Z, Y, X)`, with the headers of the slices as sources."""
    import highdicom

    descriptions = [
        _segment_description(label, name, short_name)
        for label, (name, short_name) in enumerate(
            zip(class_names, short_names(class_names), strict=True), 1
        )
    ]
    segmentation = highdicom.seg.Segmentation(
        source_images=sources,
        pixel_array=labels.astype(np.uint8 if labels.max() < 256 else np.uint16),
        segmentation_type=highdicom.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=descriptions,
        series_instance_uid=highdicom.UID(),
        series_number=_SERIES_NUMBER,
        sop_instance_uid=highdicom.UID(),
        instance_number=1,
        manufacturer="samnet",
        manufacturer_model_name="samnet",
        software_versions=__version__,
        device_serial_number="none",
        series_description="samnet segmentation",
    )
    # The sources may be in another character set. Their texts are encoded again as they are saved.
    segmentation.SpecificCharacterSet = UTF_8
    return segmentation


def _segment_description(label: int, name: str, short_name: str) -> Any:
    """Describe one class by its name; its SNOMED code is not known."""
    import highdicom
    from pydicom.sr.codedict import codes

    algorithm = highdicom.AlgorithmIdentificationSequence(
        name="samnet", version=__version__, family=codes.DCM.ArtificialIntelligence
    )
    description = highdicom.seg.SegmentDescription(
        segment_number=label,
        segment_label=short_name,
        segmented_property_category=codes.SCT.AnatomicalStructure,
        segmented_property_type=codes.SCT.AnatomicalStructure,
        algorithm_type=highdicom.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=algorithm,
    )
    if short_name != name:
        description.SegmentDescription = plain_text(name)[:LONGEST_DESCRIPTION]
    return description
