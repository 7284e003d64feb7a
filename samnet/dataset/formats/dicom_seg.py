"""DICOM segmentations (DICOM PS3.3 A.51), written with highdicom, which the extra `dicom` installs."""

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
_SERIES_NUMBER = 1000  # beyond those of a usual study


def require_library() -> None:
    """Make sure that segmentations can be written.

    Raises:
        UserError: highdicom is not installed; the message says what to type.
    """
    if importlib.util.find_spec("highdicom") is None:
        raise UserError(
            "DICOM segmentations need the package highdicom; install it with: pip install 'samnet[dicom]'"
        )


def write_segmentation(
    labels: np.ndarray, image: Image, class_names: Sequence[str], file: Path
) -> None:
    """Write labels `(Z, Y, X)` as one segment a class, in the study and frame of reference of their series.

    image: as read from a DICOM series; the labels lie on its grid. class_names: of the labels 1, 2, ...

    Raises:
        UserError: highdicom is not installed, or the series lacks what a segmentation has to repeat (such as its frame
            of reference).
    """
    require_library()
    import highdicom
    import pydicom

    series: Series = image.header
    sources = [pydicom.dcmread(source, stop_before_pixels=True) for source in series.files]
    try:
        segmentation = highdicom.seg.Segmentation(
            source_images=sources,
            pixel_array=labels.astype(np.uint8 if labels.max() < 256 else np.uint16),
            segmentation_type=highdicom.seg.SegmentationTypeValues.BINARY,
            segment_descriptions=[
                _describe(number, name) for number, name in enumerate(class_names, 1)
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
    except (ValueError, AttributeError) as error:
        raise UserError(
            f"{series.files[0].parent}: cannot be given a DICOM segmentation ({error}); leave out --dicom-seg"
        ) from error
    with atomic_path(file) as temporary:
        segmentation.save_as(temporary)


def _describe(number: int, name: str) -> Any:
    """A segment. What a class is in SNOMED's terms is not known: its name says it."""
    import highdicom
    from pydicom.sr.codedict import codes

    algorithm = highdicom.AlgorithmIdentificationSequence(
        name="samnet", version=__version__, family=codes.DCM.ArtificialIntelligence
    )
    return highdicom.seg.SegmentDescription(
        segment_number=number,
        segment_label=name,
        segmented_property_category=codes.SCT.AnatomicalStructure,
        segmented_property_type=codes.SCT.AnatomicalStructure,
        algorithm_type=highdicom.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=algorithm,
    )
