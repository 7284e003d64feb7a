"""Predictions as DICOM objects: segmentations, or structure sets."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from samnet.core.errors import UserError
from samnet.dataset.cases import Case
from samnet.dataset.formats import dicom_rtstruct, dicom_seg
from samnet.dataset.images import Image
from samnet.dataset.label_scheme import LabelScheme

ENDING = ".dcm"


class DicomOutput(enum.Enum):
    """What is written in place of label maps. The values are the names of the options."""

    SEGMENTATION = "--dicom-seg"
    STRUCTURE_SET = "--dicom-rtstruct"

    def check(self, scheme: LabelScheme, cases: Sequence[Case]) -> None:
        """Check before a prediction that it can be written.

        Args:
            scheme: The labels of the model.
            cases: The cases.

        Raises:
            UserError: A case is no DICOM series, a package is missing, or the labels are regions,
                which a segmentation cannot hold.
        """
        if self is DicomOutput.SEGMENTATION:
            dicom_seg.require_library()
            if scheme.regions is not None:
                raise UserError(
                    "the model finds regions, which lie within each other, and a DICOM segmentation"
                    " holds one label a voxel; leave out --dicom-seg, or write contours with "
                    "--dicom-rtstruct"
                )
        others = [case for case in cases if not case.image_files[0].is_dir()]
        if others:
            raise UserError(
                f"{others[0].image_files[0]}: is no DICOM series, and {len(others)} of "
                f"{len(cases)} cases are none: they cannot be written as DICOM "
                f"{self._plural}; leave out {self.value}"
            )

    @property
    def _plural(self) -> str:
        return "segmentations" if self is DicomOutput.SEGMENTATION else "structure sets"

    def write(self, labels: np.ndarray, image: Image, scheme: LabelScheme, file: Path) -> None:
        """Write a prediction.

        Args:
            labels: Labels `(Z, Y, X)` on the grid of the image.
            image: The image as read from a DICOM series.
            scheme: What the labels stand for.
            file: The file to write.

        Raises:
            UserError: The series lacks what the object has to refer to.
        """
        if self is DicomOutput.SEGMENTATION:
            dicom_seg.write_segmentation(labels, image, scheme.class_names, file)
        else:
            dicom_rtstruct.write_structure_set(labels, image, scheme, file)
