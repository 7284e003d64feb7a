"""The label map that answers a request for a prediction, and what is said of it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK
from scipy import ndimage

from samnet.core.geometry import Grid
from samnet.dataset.alignment import read_aligned_image
from samnet.dataset.cases import Case
from samnet.dataset.formats import dicom_seg
from samnet.dataset.formats.dicom import is_series
from samnet.dataset.images import Image, label_ending_for, write_labels
from samnet.dataset.label_scheme import LabelScheme
from samnet.inference.dicom_output import ENDING
from samnet.inference.prediction import Prediction
from samnet.serving.errors import BadRequest, Unusable
from samnet.serving.names import label_names
from samnet.serving.served_models import ServedModel, ServedModels

_ITK_ENDINGS = (".nrrd", ".nii.gz", ".nii", ".mha")
_KINDS: dict[str, type] = {"uint8": np.uint8, "uint16": np.uint16}
_RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0])


@dataclass(frozen=True)
class ResultForm:
    """The file that a client requests.

    Attributes:
        ending: Its ending; None for that of the image.
        kind: `uint8` or `uint16`; None for what the labels need.
        is_compressed: Whether it is compressed.
    """

    ending: str | None = None
    kind: str | None = None
    is_compressed: bool = True

    @classmethod
    def from_parameters(cls, parameters: Mapping[str, Any]) -> ResultForm:
        """Read what a client requests of the file.

        Args:
            parameters: The parameters of the request; others than these are ignored.

        Returns:
            The form of the file.

        Raises:
            BadRequest: A parameter has a value that cannot be used.
        """
        ending = parameters.get("result_extension") or None
        if ending is not None and ending not in _ITK_ENDINGS:
            raise BadRequest(
                f"result_extension {str(ending)[:20]!r}: choose from {', '.join(_ITK_ENDINGS)}"
            )
        kind = parameters.get("result_dtype") or None
        if kind is not None and kind not in _KINDS:
            raise BadRequest(f"result_dtype {str(kind)[:20]!r}: choose from {', '.join(_KINDS)}")
        return cls(ending, kind, parameters.get("result_compress") is not False)


@dataclass(frozen=True)
class PredictedCase:
    """A prediction with the image that it belongs to.

    Attributes:
        case: The files of the image.
        image: Its content.
        scheme: What the values of the labels stand for.
        prediction: The labels, and what makes them doubtful.
        seconds: How long reading and predicting took.
    """

    case: Case
    image: Image
    scheme: LabelScheme
    prediction: Prediction
    seconds: float

    def parameters(self) -> dict[str, Any]:
        """Return what is said of the prediction, by the protocol's keys and some of samnet."""
        labels = self.prediction.labels
        names = label_names(self.scheme)
        expected = {}
        for name, entry in self.prediction.confidence.items():
            expected[name] = {
                "dice": entry.dice,
                "low": entry.low,
                "high": entry.high,
                "is_doubtful": entry.is_doubtful,
                "reason": entry.reason,
            }
        return {
            "label_names": names,
            "centroids": _centroids(labels, names),
            "latencies": {"total": round(self.seconds, 3)},
            "warnings": list(self.prediction.warnings),
            "expected_dice": expected,
        }

    def write(self, folder: Path, form: ResultForm) -> Path:
        """Write the label map on the grid of the image.

        Args:
            folder: Where to write it.
            form: The form of the file.

        Returns:
            The file.

        Raises:
            UserError: The labels cannot be written.
        """
        ending = label_ending_for(self.case.image_files[0])
        labels = self.prediction.labels
        if form.ending in (None, ending) and form.kind is None and form.is_compressed:
            file = folder / f"labels{ending}"
            write_labels(labels, self.image, file)
            return file
        file = folder / f"labels{form.ending or ending}"
        kind = _KINDS[form.kind] if form.kind is not None else np.uint16
        _write_with_itk(labels.astype(kind), self.image.grid, file, form.is_compressed)
        return file

    def write_dicom(self, folder: Path) -> Path:
        """Write the labels as a DICOM segmentation.

        Args:
            folder: Where to write it.

        Returns:
            The file.

        Raises:
            Unusable: The image is no DICOM series, or the labels are regions.
            UserError: highdicom is missing, or the series lacks a value.
        """
        if not is_series(self.image) or self.scheme.regions is not None:
            raise Unusable(
                "output dicom_seg: only for DICOM series, and for classes that exclude each other; "
                "use output image"
            )
        file = folder / f"labels{ENDING}"
        dicom_seg.write_segmentation(
            self.prediction.labels, self.image, self.scheme.class_names, file
        )
        return file


def predict_case(models: ServedModels, model: ServedModel, case: Case) -> PredictedCase:
    """Read and segment an image.

    Args:
        models: All models of the server.
        model: The one to predict with.
        case: The image.

    Returns:
        The prediction.

    Raises:
        UserError: The image cannot be read or predicted.
    """
    began = time.monotonic()
    plan = model.plan
    image = read_aligned_image(case, len(plan.channel_names))
    prediction = models.predict(model, image.array, image.grid)
    return PredictedCase(case, image, plan.label_scheme, prediction, time.monotonic() - began)


def _centroids(labels: np.ndarray, names: Mapping[str, int]) -> dict[str, list[str]]:
    """Return name -> value and the voxel `(x, y, z)` in the middle of each label that occurs."""
    values = [value for value in names.values() if (labels == value).any()]
    found = {}
    centres = ndimage.center_of_mass(labels > 0, labels, values) if values else []
    by_value = {value: name for name, value in names.items()}
    for value, centre in zip(values, centres, strict=True):
        voxel = [str(round(float(position))) for position in reversed(centre)]
        found[by_value[value]] = [str(value), *voxel]
    return found


def _write_with_itk(labels: np.ndarray, grid: Grid, file: Path, is_compressed: bool) -> None:
    """Write labels `(Z, Y, X)` on a grid, in a format that need not be that of the image."""
    image = SimpleITK.GetImageFromArray(labels)
    z, y, x = grid.spacing
    image.SetSpacing((x, y, z))
    image.SetOrigin((_RAS_TO_LPS @ grid.affine[:3, 3]).tolist())
    image.SetDirection((_RAS_TO_LPS @ grid.direction).ravel().tolist())
    SimpleITK.WriteImage(image, str(file), useCompression=is_compressed)
