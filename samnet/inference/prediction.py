"""What is predicted of an image, and what all predictors have in common."""

from __future__ import annotations

import logging
import warnings
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, overload

import numpy as np

from samnet.confidence.calibration import Expectation
from samnet.confidence.signals import ClassSignals
from samnet.core.errors import PredictionWarning, UserError
from samnet.core.geometry import Grid, spacing_affine
from samnet.inference.probabilities import VolumeProbabilities

log = logging.getLogger(__name__)
# Labels `(Z, Y, X)`, and probabilities `(K, Z, Y, X)` of K outputs in half precision.
LabelsAndProbabilities = tuple[np.ndarray, np.ndarray]


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

    @overload
    def predict(
        self,
        array: np.ndarray,
        spacing: Sequence[float],
        *,
        return_probabilities: Literal[False] = ...,
    ) -> np.ndarray: ...

    @overload
    def predict(
        self, array: np.ndarray, spacing: Sequence[float], *, return_probabilities: Literal[True]
    ) -> LabelsAndProbabilities: ...

    def predict(
        self,
        array: np.ndarray,
        spacing: Sequence[float],
        *,
        return_probabilities: bool = False,
    ) -> np.ndarray | LabelsAndProbabilities:
        """Segment an image in memory.

        What is unlike the training data, and an empty prediction, is a `PredictionWarning` and a
        line in the log.

        Args:
            array: Raw intensities `(C, Z, Y, X)`, or `(Z, Y, X)` for one channel, with axes along
                the patient's as in RAS+.
            spacing: Voxel spacing along `(Z, Y, X)` in mm.
            return_probabilities: Whether to return the probabilities too. They take 2 bytes for
                each voxel and output; `predict_and_check` gives them part by part.

        Returns:
            Labels `(Z, Y, X)`; where probabilities are requested, also float16 `(K, Z, Y, X)` of K
            classes with the background first, or of K regions.

        Raises:
            UserError: The number of dimensions is not three or four, or as for `predict_and_check`.
        """
        array = np.asarray(array)
        if array.ndim == 3:
            array = array[None]
        if array.ndim != 4 or len(spacing) != 3 or not all(length > 0 for length in spacing):
            raise UserError(
                f"predict needs (C, Z, Y, X) and three spacings, found {array.shape} and "
                f"{list(spacing)}"
            )
        z, y, x = (float(value) for value in spacing)
        grid = Grid(array.shape[1:], spacing_affine((z, y, x)))
        prediction = self.predict_and_check(array, grid, keep_probabilities=return_probabilities)
        labels = _labels_with_warnings(prediction)
        if prediction.probabilities is None:
            return labels
        return labels, prediction.probabilities.array()

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
        return _labels_with_warnings(self.predict_and_check(array, grid))


def _labels_with_warnings(prediction: Prediction) -> np.ndarray:
    """Warn of what makes a prediction doubtful, at the line that called the caller."""
    for sentence in prediction.warnings:
        log.warning("%s", sentence)
        warnings.warn(sentence, PredictionWarning, stacklevel=3)
    return prediction.labels
