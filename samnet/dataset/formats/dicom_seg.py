"""DICOM segmentations (DICOM PS3.3 A.51).

They are written with highdicom, which is installed with the extra `dicom`.
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
from samnet.dataset.formats.image import Image

ENDING = ".dcm"
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
        UserError: highdicom is not installed, or the series lacks a value that a segmentation has
            to repeat, such as its frame of reference.
    """
    require_library()
    import pydicom

    series: Series = image.header
    sources = [pydicom.dcmread(source, stop_before_pixels=True) for source in series.files]
    try:
        segmentation = _segmentation(labels, sources, class_names)
    except (ValueError, AttributeError) as error:
        raise UserError(
            f"{series.files[0].parent}: cannot be given a DICOM segmentation ({error}); "
            "leave out --dicom-seg"
        ) from error
    with atomic_path(file) as temporary:
        segmentation.save_as(temporary)


def _segmentation(labels: np.ndarray, sources: list[Any], class_names: Sequence[str]) -> Any:
    """Return the segmentation of labels `(Z, Y, X)`, with the headers of the slices as sources."""
    import highdicom

    return highdicom.seg.Segmentation(
        source_images=sources,
        pixel_array=labels.astype(np.uint8 if labels.max() < 256 else np.uint16),
        segmentation_type=highdicom.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=[
            _segment_description(label, name) for label, name in enumerate(class_names, 1)
        ],
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


def _segment_description(label: int, name: str) -> Any:
    """Describe one class by its name; its SNOMED code is not known."""
    import highdicom
    from pydicom.sr.codedict import codes

    algorithm = highdicom.AlgorithmIdentificationSequence(
        name="samnet", version=__version__, family=codes.DCM.ArtificialIntelligence
    )
    return highdicom.seg.SegmentDescription(
        segment_number=label,
        segment_label=name,
        segmented_property_category=codes.SCT.AnatomicalStructure,
        segmented_property_type=codes.SCT.AnatomicalStructure,
        algorithm_type=highdicom.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=algorithm,
    )
