"""A trained model, ready to predict arrays or files."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from samnet.core.errors import PredictionWarning, UserError
from samnet.core.geometry import Grid, spacing_affine
from samnet.core.machine import choose_device
from samnet.fingerprint.training_data import TrainingData
from samnet.inference.batches import BatchSize
from samnet.inference.load import load_network, load_training_data, prepare_network
from samnet.inference.memory import estimate_memory, refuse_beyond_memory
from samnet.inference.plausibility import (
    describe_differences,
    describe_labels,
    refuse_hopeless_grid,
    summarize_image,
)
from samnet.inference.volume import predict_volume
from samnet.models.model_folder import FINAL, TRAINING_DATA_FILE, ModelFolder, RunFolder
from samnet.models.network import SegmentationNetwork
from samnet.models.precision import used_precision
from samnet.plan.configuration import Configuration, keys_with
from samnet.plan.plan import Plan
from samnet.plan.plan_key import Role
from samnet.preprocessing.case import prepare_volume

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Prediction:
    """The segmentation of an image.

    Attributes:
        labels: Labels `(Z, Y, X)` on the grid of the image.
        warnings: One sentence for each thing that makes it doubtful.
    """

    labels: np.ndarray
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Predictor:
    """Networks of one or several folds with the plan they share.

    Attributes:
        plan: A plan of a single configuration.
        configuration: The values of that configuration.
        networks: The networks, in evaluation mode, on one device.
        mirror: Whether probabilities are averaged over mirrored inputs.
        training_data: What they were trained on; None where that is not known, as of models of
            older versions. Images are then not compared with it.
        batch: How many inputs the networks are given at once; found with the first image on a GPU.
    """

    plan: Plan
    configuration: Configuration
    networks: Sequence[SegmentationNetwork]
    mirror: bool
    training_data: TrainingData | None = None
    batch: BatchSize = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        device = next(self.networks[0].parameters()).device
        object.__setattr__(self, "batch", BatchSize(device))

    @classmethod
    def from_folder(
        cls,
        folder: str | Path,
        folds: Sequence[str] | None = None,
        *,
        device: str | None = None,
        checkpoint: str = FINAL,
        mirror: bool | None = None,
    ) -> Predictor:
        """Load a model.

        Args:
            folder: The folder of a configuration (with its folds) or of a single fold.
            folds: Such as `["0", "1"]` or `["all"]`; None for every finished fold of the
                cross-validation, else `all`.
            device: `cpu`, `cuda` or `mps`; None for the best one here.
            checkpoint: `final`, `best` or `last`.
            mirror: Whether to average over mirrored inputs; None for what the plan says.

        Returns:
            The model.

        Raises:
            UserError: There is no such model or fold, or the folds do not belong together.
        """
        runs = ModelFolder(Path(folder)).select_runs(folds, checkpoint)
        return cls.from_runs(runs, device=device, checkpoint=checkpoint, mirror=mirror)

    @classmethod
    def from_runs(
        cls,
        runs: Sequence[RunFolder],
        *,
        device: str | None = None,
        checkpoint: str = FINAL,
        mirror: bool | None = None,
    ) -> Predictor:
        """Load the model of some training runs.

        Args:
            runs: The folders of the runs.
            device: As for `from_folder`.
            checkpoint: As for `from_folder`.
            mirror: As for `from_folder`.

        Returns:
            The model.

        Raises:
            UserError: A file is missing, or the runs do not belong together.
        """
        first = runs[0]
        for run in runs[1:]:
            _check_same_model(first, run)
        target = torch.device(choose_device(device))
        precision = first.configuration.precision
        networks = []
        for run in runs:
            networks.append(prepare_network(load_network(run, checkpoint), target, precision))
        names = ", ".join(run.name for run in runs)
        log.info(
            "model: %s, fold(s) %s, on %s in %s",
            first.path.parent,
            names,
            target,
            used_precision(precision, target),
        )
        if mirror is None:
            mirror = first.configuration.mirror_at_prediction
        training_data = load_training_data(runs)
        if training_data is None:
            log.info(
                "%s: no %s, so images cannot be compared with what the model was trained on",
                first.path.parent,
                TRAINING_DATA_FILE,
            )
        return cls(first.plan, first.configuration, networks, mirror, training_data)

    def predict(self, array: np.ndarray, spacing: Sequence[float]) -> np.ndarray:
        """Segment an image in memory.

        What is unlike the training data, and an empty prediction, is a `PredictionWarning` and a
        line in the log.

        Args:
            array: Raw intensities `(C, Z, Y, X)`, or `(Z, Y, X)` for one channel, with axes along
                the patient's as in RAS+.
            spacing: Voxel spacing along `(Z, Y, X)` in mm.

        Returns:
            Labels `(Z, Y, X)`.

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
        return _labels_with_warnings(self.predict_and_check(array, grid))

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

    def predict_and_check(self, array: np.ndarray, grid: Grid) -> Prediction:
        """Segment an image on its native grid, and compare it with the training images.

        Args:
            array: Raw intensities `(C, Z, Y, X)`.
            grid: Its grid.

        Returns:
            The labels, and what there is to say of image and labels. It is neither logged nor
            raised as a warning.

        Raises:
            UserError: The number of channels does not fit the model, voxels are NaN or infinite, or
                the image is of a size that cannot be right or does not fit the memory.
        """
        names = self.plan.channel_names
        if array.shape[0] != len(names):
            raise UserError(
                f"the image has {array.shape[0]} channel(s), the model was trained on "
                f"{len(names)}: {', '.join(names)}"
            )
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise UserError(
                "the image has voxels that are NaN or infinite; replace them, for example by 0"
            )
        data, scheme = self.training_data, self.plan.label_scheme
        if data is not None:
            refuse_hopeless_grid(grid, data)
        orientation = self.configuration.orientation
        volume = prepare_volume(array, grid, orientation=orientation)
        stride = self.networks[0].stride
        need = estimate_memory(self.configuration, volume, scheme.num_outputs, stride)
        refuse_beyond_memory(need)
        found: list[str] = []
        if data is not None:
            found += describe_differences(summarize_image(volume), data, names)
        labels = predict_volume(
            self.networks,
            self.configuration,
            volume,
            mirror=self.mirror,
            label_scheme=scheme,
            batch=self.batch,
        )
        restored = volume.restore(labels)
        found += describe_labels(restored, scheme, data)
        return Prediction(restored, tuple(found))


def _labels_with_warnings(prediction: Prediction) -> np.ndarray:
    """Warn of what makes a prediction doubtful, at the line that called the caller."""
    for sentence in prediction.warnings:
        log.warning("%s", sentence)
        warnings.warn(sentence, PredictionWarning, stacklevel=3)
    return prediction.labels


def _check_same_model(first: RunFolder, second: RunFolder) -> None:
    """Refuse runs whose probabilities cannot be averaged."""
    compared = {
        "channel_names": (first.plan.channel_names, second.plan.channel_names),
        "labels": (first.plan.label_scheme.labels, second.plan.label_scheme.labels),
        "regions": (first.plan.label_scheme.regions, second.plan.label_scheme.regions),
    }
    for key in keys_with(Role.FOLDS):
        compared[key] = (getattr(first.configuration, key), getattr(second.configuration, key))
    for key, (here, there) in compared.items():
        if here != there:
            raise UserError(
                f"{second} was trained with {key} {there!r}, {first} with {here!r}: they cannot be "
                "averaged; choose one with -f"
            )
