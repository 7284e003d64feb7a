"""A trained model, ready to predict arrays or files."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch

from samnet.confidence.calibration import Calibration, Expectation
from samnet.confidence.signals import measure_signals
from samnet.core.errors import UserError
from samnet.core.geometry import Grid
from samnet.core.machine import choose_device
from samnet.dataset.description import DatasetDescription
from samnet.fingerprint.training_data import TrainingData
from samnet.inference.batches import BatchSize
from samnet.inference.load import (
    load_calibration,
    load_network,
    load_training_data,
    prepare_network,
)
from samnet.inference.map_sums import MapCollector
from samnet.inference.memory import StackPrediction, estimate_memory, refuse_beyond_memory
from samnet.inference.native_views import VolumeMaps
from samnet.inference.out_of_memory import PredictionMemory
from samnet.inference.plausibility import (
    describe_differences,
    describe_labels,
    refuse_hopeless_grid,
    summarize_image,
)
from samnet.inference.prediction import ArrayPredictor, Prediction
from samnet.inference.probabilities import VolumeProbabilities
from samnet.inference.reconstruction import ViewMaps
from samnet.inference.view_store import VIEW_BYTES
from samnet.inference.volume import predict_views, predict_volume
from samnet.models.model_folder import FINAL, TRAINING_DATA_FILE, ModelFolder, RunFolder
from samnet.models.network import SegmentationNetwork
from samnet.models.precision import used_precision
from samnet.models.slice_adapter import num_neighbours
from samnet.plan.configuration import Configuration, keys_with
from samnet.plan.plan import Plan
from samnet.plan.plan_key import Role
from samnet.postprocessing.model_rules import load_current_rules
from samnet.postprocessing.rules import NO_POSTPROCESSING, Postprocessing
from samnet.preprocessing.case import PreparedVolume, prepare_volume

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Predictor(ArrayPredictor):
    """Networks of one or several folds with the plan they share.

    Attributes:
        plan: A plan of a single configuration.
        configuration: The values of that configuration.
        networks: The networks, in evaluation mode, on one device.
        mirror: Whether probabilities are averaged over mirrored inputs.
        training_data: What they were trained on; None where that is not known, as of models of
            older versions. Images are then not compared with it.
        postprocessing: What is done to predicted label maps.
        calibration: What Dice their signals let expect; None where that is not known.
        maps_uncertainty: Whether predictions come with a map of where they are uncertain.
        checkpoints: Name of a training run -> the file of its weights; empty for networks that were
            not loaded from one.
        batch: How many inputs the networks are given at once; found with the first image on a GPU.
    """

    plan: Plan
    configuration: Configuration
    networks: Sequence[SegmentationNetwork]
    mirror: bool
    training_data: TrainingData | None = None
    postprocessing: Postprocessing = NO_POSTPROCESSING
    calibration: Calibration | None = None
    maps_uncertainty: bool = False
    checkpoints: Mapping[str, Path] = field(default_factory=dict, repr=False)
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
        postprocess: bool = True,
    ) -> Predictor:
        """Load a model.

        Args:
            folder: The folder of a configuration (with its folds) or of a single fold.
            folds: Such as `["0", "1"]` or `["all"]`; None for every finished fold of the
                cross-validation, else `all`.
            device: `cpu`, `cuda` or `mps`; None for the best one here.
            checkpoint: `final`, `best` or `last`.
            mirror: Whether to average over mirrored inputs; None for what the plan says.
            postprocess: Whether to change label maps by the rules that are kept with the model.

        Returns:
            The model.

        Raises:
            UserError: There is no such model or fold, the folds do not belong together, or the file
                of the rules is damaged.
        """
        runs = ModelFolder(Path(folder)).select_runs(folds, checkpoint)
        predictor = cls.from_runs(runs, device=device, checkpoint=checkpoint, mirror=mirror)
        if not postprocess:
            return predictor
        model = ModelFolder(runs[0].path.parent)
        rules = load_current_rules(model.path, [model], predictor.plan.label_scheme)
        return replace(predictor, postprocessing=rules)

    @classmethod
    def from_runs(
        cls,
        runs: Sequence[RunFolder],
        *,
        device: str | None = None,
        checkpoint: str = FINAL,
        mirror: bool | None = None,
    ) -> Predictor:
        """Load the model of some training runs, without postprocessing.

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
        calibration = load_calibration(runs, checkpoint, mirror=mirror)
        return cls(
            first.plan,
            first.configuration,
            networks,
            mirror,
            training_data,
            calibration=calibration,
            checkpoints={_full_name(run): run.checkpoint(checkpoint) for run in runs},
        )

    @property
    def description(self) -> DatasetDescription:
        """The channels that images need, and the labels that predictions have."""
        return self.plan.description

    def __repr__(self) -> str:
        [name] = self.plan.configurations
        return f"Predictor({self.plan.dataset_name} {name}, {len(self.networks)} network(s))"

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
            raised as a warning. In addition what Dice is expected, where the model is calibrated.

        Raises:
            UserError: The number of channels does not fit the model, voxels are NaN or infinite, or
                the image is of a size that cannot be right or does not fit the memory.
        """
        data, scheme = self.training_data, self.plan.label_scheme
        volume = self.prepare(array, grid)
        found = self.differences(volume)
        is_unfamiliar = bool(found)
        kept: list[ViewMaps] | None = [] if keep_probabilities else None
        uncertainty: np.ndarray | None = None
        if self.maps_uncertainty:
            uncertainty = np.zeros(volume.array.shape[1:], np.uint8)
        collector = MapCollector()
        labels = predict_volume(
            self.networks,
            self.configuration,
            volume,
            mirror=self.mirror,
            label_scheme=scheme,
            # Those of one case are written while the next one is predicted.
            view_bytes=VIEW_BYTES // 2 if keep_probabilities else VIEW_BYTES,
            batch=self.batch,
            kept=kept,
            collector=collector,
            uncertainty=uncertainty,
        )
        signals = measure_signals(
            collector.sums(),
            labels,
            volume.array,
            volume.spacing,
            self.configuration.slicing_axis,
            scheme,
        )
        confidence: dict[str, Expectation] = {}
        if self.calibration is not None:
            confidence = self.calibration.expect(signals, is_unfamiliar)
        restored = self.postprocessing.apply(volume.restore(labels), grid, scheme)
        found += describe_labels(restored, scheme, data)
        if uncertainty is not None:
            uncertainty = volume.restore(uncertainty)
        probabilities = None
        if kept is not None:
            memory = PredictionMemory(torch.device("cpu"))
            maps = [VolumeMaps.of(volume, kept)]
            probabilities = VolumeProbabilities(maps, scheme, memory, outside=self.outside(volume))
        return Prediction(restored, tuple(found), probabilities, signals, confidence, uncertainty)

    def prepare(
        self, array: np.ndarray, grid: Grid, prepared: PreparedVolume | None = None
    ) -> PreparedVolume:
        """Check an image, and bring it to the form from which slices are cut.

        Args:
            array: Raw intensities `(C, Z, Y, X)`.
            grid: Its grid.
            prepared: The same image as prepared for another model, which is returned where this one
                needs the same axes; None where there is none.

        Returns:
            The image with the axes that the model needs.

        Raises:
            UserError: As for `predict_and_check`.
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
        if self.training_data is not None:
            refuse_hopeless_grid(grid, self.training_data)
        orientation = self.configuration.orientation
        if prepared is not None and prepared.orientation == orientation:
            volume = prepared
        else:
            volume = prepare_volume(array, grid, orientation=orientation)
        num_outputs, stride = self.plan.label_scheme.num_outputs, self.networks[0].stride
        need = estimate_memory(self.configuration, volume, num_outputs, stride, self._stacks())
        refuse_beyond_memory(need)
        return volume

    def _stacks(self) -> StackPrediction | None:
        """Return how stacks are predicted in main memory, if they are."""
        is_on_cpu = next(self.networks[0].parameters()).device.type == "cpu"
        if self.configuration.depth == 1 or not is_on_cpu:
            return None
        return StackPrediction(num_neighbours(self.networks[0]), self.mirror)

    def differences(self, volume: PreparedVolume) -> list[str]:
        """Compare an image with the training images.

        Args:
            volume: The prepared image.

        Returns:
            One sentence for each thing that is unlike them.
        """
        data = self.training_data
        if data is None:
            return []
        return describe_differences(summarize_image(volume), data, self.plan.channel_names)

    def outside(self, volume: PreparedVolume) -> np.ndarray | None:
        """Find where predictions are background because it is outside the field of view.

        Args:
            volume: What `prepare` has returned.

        Returns:
            Booleans `(Z, Y, X)` on the grid of the file; None where the plan has no such place.
        """
        if not self.configuration.background_outside:
            return None
        return volume.restore(volume.outside(self.configuration.slicing_axis))

    def predict_maps(
        self,
        volume: PreparedVolume,
        view_bytes: int = VIEW_BYTES,
        *,
        may_use_device: bool = True,
    ) -> VolumeMaps:
        """Predict the probabilities of a prepared image, without labels.

        Args:
            volume: What `prepare` has returned.
            view_bytes: The probabilities of a view that take more bytes are kept in a file.
            may_use_device: Whether they may be kept on a CUDA device that has room for them.

        Returns:
            The probabilities at the resolution of the networks' outputs.
        """
        views = predict_views(
            self.networks,
            self.configuration,
            volume,
            mirror=self.mirror,
            label_scheme=self.plan.label_scheme,
            view_bytes=view_bytes,
            batch=self.batch,
            may_use_device=may_use_device,
        )
        return VolumeMaps.of(volume, views)


def _full_name(run: RunFolder) -> str:
    """Return the name of a run that does not depend on where its folder is."""
    [configuration] = run.plan.configurations
    return f"{run.plan.dataset_name}/{configuration}/{run.name}"


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
