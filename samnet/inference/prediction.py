"""What is predicted of an image, and what all predictors have in common."""

from __future__ import annotations

import logging
import warnings
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar, overload

import numpy as np

from samnet.confidence.calibration import Expectation
from samnet.confidence.signals import ClassSignals
from samnet.core.errors import PredictionWarning
from samnet.core.geometry import Grid
from samnet.dataset.description import DatasetDescription
from samnet.inference.array_geometry import ArrayGeometry
from samnet.inference.given_image import open_image
from samnet.inference.probabilities import VolumeProbabilities

log = logging.getLogger(__name__)
Channels = list[Any] | tuple[Any, ...]  # one path or image for each
Given = TypeVar("Given")  # an array, or an image of nibabel or SimpleITK


@dataclass(frozen=True)
class Prediction:
    """The segmentation of an image.

    Attributes:
        labels: Labels `(Z, Y, X)` on the grid of the image.
        warnings: One sentence for each thing that makes it doubtful.
        probabilities: The probabilities on the same grid, where they were requested.
        signals: How sure the networks are, by the name of a class or region; empty for an ensemble.
        confidence: What Dice is expected, by the name of a class or region; empty where the model
            has no calibration. It is that of the labels before postprocessing.
        uncertainty: Uncertainty `(Z, Y, X)` in percent, on the same grid; None where not requested.
    """

    labels: np.ndarray
    warnings: tuple[str, ...] = ()
    probabilities: VolumeProbabilities | None = None
    signals: dict[str, ClassSignals] = field(default_factory=dict)
    confidence: dict[str, Expectation] = field(default_factory=dict)
    uncertainty: np.ndarray | None = None


@dataclass(frozen=True)
class Segmentation(Generic[Given]):
    """The segmentation of an image that a caller has given, in the form of that image.

    Attributes:
        labels: The label map: an array of the same axes, or an image of the same kind and grid.
        confidence: What Dice is expected, by the name of a class or region; empty where the model
            has no calibration. It is that of the labels before postprocessing.
        warnings: One sentence for each thing that makes the prediction doubtful.
        probabilities: Where they were requested, float16 `(K, ...)` of K classes with the
            background first, or of K regions. The other axes are those of the labels' array.
        uncertainty: Uncertainty in percent, on the same axes; None where not requested
            (`maps_uncertainty`).
    """

    labels: Given
    confidence: dict[str, Expectation] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    probabilities: np.ndarray | None = None
    uncertainty: np.ndarray | None = None

    def __repr__(self) -> str:
        expected = []
        for name, entry in self.confidence.items():
            dice = "none" if entry.dice is None else f"{entry.dice:.2f}"
            expected.append(f"{name} {dice}")
        confidence = f"expected Dice: {', '.join(expected)}" if expected else "no expected Dice"
        kind = type(self.labels).__name__
        return f"Segmentation({kind}, {confidence}, {len(self.warnings)} warnings)"


class ArrayPredictor(ABC):
    """Predicts images in memory, by one model or by several."""

    @abstractmethod
    def predict_and_check(
        self, array: np.ndarray, grid: Grid, *, keep_probabilities: bool = False
    ) -> Prediction:
        """Segment an image on its native grid, and compare it with the training images.

        Args:
            array: Raw intensities `(C, Z, Y, X)`.
            grid: Its grid.
            keep_probabilities: Whether to keep the probabilities. The labels stay the same.

        Returns:
            The labels, and what there is to say of image and labels. It is neither logged nor
            raised as a warning.

        Raises:
            UserError: The image cannot be predicted.
        """

    @property
    @abstractmethod
    def description(self) -> DatasetDescription:
        """The channels that images need, and the labels that predictions have."""

    @overload
    def segment(
        self,
        image: Path | str | Channels,
        *,
        probabilities: bool = ...,
    ) -> Segmentation[Any]: ...

    @overload
    def segment(
        self,
        image: Given,
        *,
        affine: np.ndarray | None = ...,
        orientation: str | None = ...,
        spacing: Sequence[float] | None = ...,
        channel_axis: int | None = ...,
        probabilities: bool = ...,
    ) -> Segmentation[Given]: ...

    def segment(
        self,
        image: Any,
        *,
        affine: np.ndarray | None = None,
        orientation: str | None = None,
        spacing: Sequence[float] | None = None,
        channel_axis: int | None = None,
        probabilities: bool = False,
    ) -> Segmentation[Any]:
        """Segment an image and say how far to trust the result.

        Args:
            image: As for `predict`.
            affine: As for `predict`.
            orientation: As for `predict`.
            spacing: As for `predict`.
            channel_axis: As for `predict`.
            probabilities: Whether to keep the probabilities.

        Returns:
            The labels in the form of the image, the Dice that is expected of them, and what makes
            them doubtful, which is neither logged nor raised as a warning.

        Raises:
            UserError: As for `predict`.

        Examples:
            >>> result = predictor.segment("scan.nii.gz")
            >>> nibabel.save(result.labels, "labels.nii.gz")
            >>> result.confidence["liver"].dice, result.warnings
            (0.93, ())
        """
        geometry = ArrayGeometry(affine, orientation, spacing, channel_axis)
        given = open_image(image, self.description, geometry)
        found = self.predict_and_check(given.array, given.grid, keep_probabilities=probabilities)
        maps = None if found.probabilities is None else found.probabilities.array()
        return Segmentation(
            given.wrap(found.labels),
            dict(found.confidence),
            found.warnings,
            None if maps is None else given.to_given_axes(maps),
            None if found.uncertainty is None else given.to_given_axes(found.uncertainty),
        )

    @overload
    def predict(
        self,
        image: Path | str | Channels,
        *,
        return_probabilities: Literal[False] = ...,
    ) -> Any: ...

    @overload
    def predict(
        self,
        image: Given,
        *,
        affine: np.ndarray | None = ...,
        orientation: str | None = ...,
        spacing: Sequence[float] | None = ...,
        channel_axis: int | None = ...,
        return_probabilities: Literal[False] = ...,
    ) -> Given: ...

    @overload
    def predict(
        self,
        image: Path | str | Channels,
        *,
        return_probabilities: Literal[True],
    ) -> tuple[Any, np.ndarray]: ...

    @overload
    def predict(
        self,
        image: Given,
        *,
        affine: np.ndarray | None = ...,
        orientation: str | None = ...,
        spacing: Sequence[float] | None = ...,
        channel_axis: int | None = ...,
        return_probabilities: Literal[True],
    ) -> tuple[Given, np.ndarray]: ...

    def predict(
        self,
        image: Any,
        *,
        affine: np.ndarray | None = None,
        orientation: str | None = None,
        spacing: Sequence[float] | None = None,
        channel_axis: int | None = None,
        return_probabilities: bool = False,
    ) -> Any:
        """Segment an image and return the label map in the form of the image.

        What is unlike the training data, and an empty prediction, is a `PredictionWarning` and a
        line in the log; `segment` returns them, with the Dice that is expected.

        Args:
            image: One of:

                - The path of a file or of a folder with a DICOM series. NIfTI and DICOM give an
                  image of nibabel, NRRD and MetaImage one of SimpleITK, 2D formats and TIFF an
                  array.
                - An image of nibabel or SimpleITK. The label map has its grid and its type.
                - A volume as an array, with `affine`, or with `orientation` and `spacing`. Without
                  them it is refused: in the wrong orientation a prediction may find nothing, and no
                  error would say so. The label map has the same axes.
                - A 2D image as an array of rows and columns, as a viewer shows them, for a model
                  that was trained on 2D images. The spacing may be given. Stacks of a model that
                  was trained on TIFF are `(slices, rows, columns)`.

                Where the model takes several channels: a list of paths or images, one for each; an
                image of SimpleITK with as many components; or an array with one more axis.
            affine: 4 x 4 matrix from the indices of the array to mm in RAS+, as nibabel's. Its
                columns belong to the axes of the array, in their order.
            orientation: One letter for each axis of the array, in their order: the side of the
                patient to which its index grows, `R` or `L` (right, left), `A` or `P` (front,
                back), `S` or `I` (head, feet). An array `[x, y, z]` whose indices grow to the left,
                the back and the head is `LPS`; the same voxels as `[z, y, x]`, as SimpleITK's
                `GetArrayFromImage` gives them, are `SPL`.
            spacing: The distance of voxels in mm along each axis of the array, in their order.
            channel_axis: The axis of an array that holds the channels. None for none, and for the
                first one of four.
            return_probabilities: Whether to return the probabilities too. They take 2 bytes for
                each voxel and output.

        Returns:
            The labels. Where probabilities are requested, labels and an array float16 `(K, ...)` of
            K classes with the background first, or of K regions. Its other axes are those of the
            array, X, Y, Z for nibabel, and Z, Y, X for SimpleITK.

        Raises:
            UserError: The image cannot be read, does not fit the model, is of a size that cannot be
                right or does not fit the memory, or it is not clear how it lies in the patient.

        Examples:
            >>> predictor = samnet.Predictor.from_folder("data/results/Dataset008_Liver/lora")
            >>> labels = predictor.predict(nibabel.load("scan.nii.gz"))
            >>> labels = predictor.predict(array, affine=affine)
            >>> labels = predictor.predict(array, orientation="LPS", spacing=(0.8, 0.8, 5.0))
        """
        found = self.segment(
            image,
            affine=affine,
            orientation=orientation,
            spacing=spacing,
            channel_axis=channel_axis,
            probabilities=return_probabilities,
        )
        warn_of(found.warnings)
        if found.probabilities is None:
            return found.labels
        return found.labels, found.probabilities

    def predict_on_grid(self, array: np.ndarray, grid: Grid) -> np.ndarray:
        """Segment an image on its native grid.

        What is unlike the training data, and an empty prediction, is a `PredictionWarning` and a
        line in the log.

        Args:
            array: Raw intensities `(C, Z, Y, X)`.
            grid: Its grid.

        Returns:
            Labels `(Z, Y, X)` on the same grid.

        Raises:
            UserError: As for `predict_and_check`.
        """
        found = self.predict_and_check(array, grid)
        warn_of(found.warnings)
        return found.labels


def warn_of(sentences: Sequence[str]) -> None:
    """Warn of what makes a prediction doubtful, at the line that called the caller.

    Args:
        sentences: The warnings.
    """
    for sentence in sentences:
        log.warning("%s", sentence)
        warnings.warn(sentence, PredictionWarning, stacklevel=3)
