"""A trained model, ready to predict arrays or files."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from samnet.core.errors import UserError
from samnet.core.geometry import Grid, spacing_affine
from samnet.core.machine import choose_device
from samnet.inference.load import load_network, prepare_network
from samnet.inference.volume import predict_volume
from samnet.models.model_folder import FINAL, ModelFolder, RunFolder
from samnet.models.network import SegmentationNetwork
from samnet.plan.configuration import Configuration, keys_with
from samnet.plan.plan import Plan
from samnet.plan.plan_key import Role
from samnet.preprocessing.case import prepare_volume

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Predictor:
    """Networks of one or several folds with the plan they share.

    Attributes:
        plan: A plan of a single configuration.
        configuration: The values of that configuration.
        networks: The networks, in evaluation mode, on one device.
        mirror: Whether probabilities are averaged over mirrored inputs.
    """

    plan: Plan
    configuration: Configuration
    networks: Sequence[SegmentationNetwork]
    mirror: bool

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
        networks = [prepare_network(load_network(run, checkpoint), target) for run in runs]
        names = ", ".join(run.name for run in runs)
        log.info("model: %s, fold(s) %s, on %s", first.path.parent, names, target)
        if mirror is None:
            mirror = first.configuration.mirror_at_prediction
        return cls(first.plan, first.configuration, networks, mirror)

    def predict(self, array: np.ndarray, spacing: Sequence[float]) -> np.ndarray:
        """Segment an image in memory.

        Args:
            array: Raw intensities `(C, Z, Y, X)`, or `(Z, Y, X)` for one channel, with axes along
                the patient's as in RAS+.
            spacing: Voxel spacing along `(Z, Y, X)` in mm.

        Returns:
            Labels `(Z, Y, X)`.

        Raises:
            UserError: The number of channels or dimensions does not fit the model, or voxels are
                NaN or infinite.
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
        return self.predict_on_grid(array, Grid(array.shape[1:], spacing_affine((z, y, x))))

    def predict_on_grid(self, array: np.ndarray, grid: Grid) -> np.ndarray:
        """Segment an image on its native grid.

        Args:
            array: Raw intensities `(C, Z, Y, X)`.
            grid: Its grid.

        Returns:
            Labels `(Z, Y, X)` on the same grid.

        Raises:
            UserError: The number of channels does not fit the model, or voxels are NaN or infinite.
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
        volume = prepare_volume(array, grid)
        labels = predict_volume(
            self.networks,
            self.configuration,
            volume,
            mirror=self.mirror,
            label_scheme=self.plan.label_scheme,
        )
        return volume.restore(labels)


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
