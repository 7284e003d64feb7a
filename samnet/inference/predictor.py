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
from samnet.models.network import SegmentationNetwork
from samnet.plan.configuration import Configuration
from samnet.plan.plan import Plan
from samnet.preprocessing.case import prepare_volume

log = logging.getLogger(__name__)
PLAN_FILE = "plan.json"
_SAME_IN_PLAN = ("channel_names", "labels", "regions")
_SAME_IN_CONFIGURATION = (
    "views",
    "in_plane_spacing",
    "zoom",
    "input_size",
    "channel_layout",
    "intensity",
    "head",
    "backbone",
)


@dataclass(frozen=True)
class Predictor:
    """Networks of one or several folds with the plan they share.

    plan: of a single configuration. mirror: whether probabilities are averaged over mirrored inputs.
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
        checkpoint: str = "final",
        mirror: bool | None = None,
    ) -> Predictor:
        """Load a model from the folder of a configuration (with its folds) or of a single fold.

        folds: such as `["0", "1"]` or `["all"]`; without it, every finished fold of the cross-validation, else `all`.
        checkpoint: `final`, `best` or `last`. mirror: None for what the plan says.

        Raises:
            UserError: there is no such model or fold, or the folds do not belong together.
        """
        fold_folders = find_fold_folders(Path(folder), folds, checkpoint)
        plans = [Plan.load(fold / PLAN_FILE) for fold in fold_folders]
        names = [next(iter(plan.configurations)) for plan in plans]
        configurations = [plan.configuration(name) for plan, name in zip(plans, names, strict=True)]
        for fold, plan, configuration in zip(
            fold_folders[1:], plans[1:], configurations[1:], strict=True
        ):
            _check_same_model(
                fold_folders[0], (plans[0], configurations[0]), fold, (plan, configuration)
            )
        target = torch.device(choose_device(device))
        networks = [
            prepare_network(load_network(fold, plan, checkpoint), target)
            for fold, plan in zip(fold_folders, plans, strict=True)
        ]
        log.info(
            "model: %s, fold(s) %s, on %s",
            folder,
            ", ".join(fold.name for fold in fold_folders),
            target,
        )
        use_mirror = configurations[0].mirror_at_prediction if mirror is None else mirror
        return cls(plans[0], configurations[0], networks, use_mirror)

    def predict(self, array: np.ndarray, spacing: Sequence[float]) -> np.ndarray:
        """Segment an image.

        array: `(C, Z, Y, X)`, or `(Z, Y, X)` for one channel, raw intensities, axes along the patient's as in RAS+.
        spacing: `(Z, Y, X)` in mm.

        Returns: labels `(Z, Y, X)`.

        Raises:
            UserError: the number of channels or dimensions does not fit the model, or voxels are NaN or infinite.
        """
        array = np.asarray(array)
        if array.ndim == 3:
            array = array[None]
        if array.ndim != 4 or len(spacing) != 3 or not all(length > 0 for length in spacing):
            raise UserError(
                f"predict needs (C, Z, Y, X) and three spacings, found {array.shape} and {list(spacing)}"
            )
        z, y, x = (float(value) for value in spacing)
        return self.predict_on_grid(array, Grid(array.shape[1:], spacing_affine((z, y, x))))

    def predict_on_grid(self, array: np.ndarray, grid: Grid) -> np.ndarray:
        """Segment an image `(C, Z, Y, X)` on its native grid; the labels `(Z, Y, X)` lie on the same grid.

        Raises:
            UserError: the number of channels does not fit the model, or voxels are NaN or infinite.
        """
        expected = len(self.plan.channel_names)
        if array.shape[0] != expected:
            raise UserError(
                f"the image has {array.shape[0]} channel(s), the model was trained on {expected}: "
                f"{', '.join(self.plan.channel_names)}"
            )
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise UserError(
                "the image has voxels that are NaN or infinite; replace them, for example by 0"
            )
        volume = prepare_volume(array, grid)
        labels = predict_volume(
            self.networks, self.configuration, volume, mirror=self.mirror, regions=self.plan.regions
        )
        return volume.restore(labels)


def find_fold_folders(folder: Path, folds: Sequence[str] | None, checkpoint: str) -> list[Path]:
    """The folders of the folds to predict with.

    Raises:
        UserError: a fold is missing or its training is not finished; the message says what is there.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such model folder")
    weights = f"checkpoint_{checkpoint}.safetensors"
    if (folder / PLAN_FILE).is_file() and not list(folder.glob("fold_*")):
        candidates = [folder]
    else:
        candidates = sorted(
            entry for entry in folder.glob("fold_*") if (entry / PLAN_FILE).is_file()
        )
    if folds is not None:
        wanted = [f"fold_{fold}" for fold in folds]
        missing = [name for name in wanted if name not in [entry.name for entry in candidates]]
        if missing:
            there = ", ".join(entry.name for entry in candidates) or "none"
            raise UserError(f"{folder}: has no {missing[0]} (there: {there})")
        candidates = [entry for entry in candidates if entry.name in wanted]
    finished = [entry for entry in candidates if (entry / weights).is_file()]
    unfinished = [entry.name for entry in candidates if entry not in finished]
    if folds is None and len(finished) > 1:
        # `all` has seen every case; it is a model of its own, not one more fold of the cross-validation.
        finished = [entry for entry in finished if entry.name != "fold_all"]
    if not finished or (folds is not None and unfinished):
        state = f"{', '.join(unfinished)} not finished" if unfinished else "nothing trained"
        advice = "Run the same samnet_train command again to finish it, or predict with --checkpoint best or last"
        if checkpoint == "best" and any(
            (entry / "checkpoint_final.safetensors").is_file() for entry in candidates
        ):
            state, advice = (
                "no cases were held out to choose it by",
                "Predict without --checkpoint best",
            )
        raise UserError(f"{folder}: no {weights} ({state}). {advice}")
    return finished


def _check_same_model(
    first: Path, one: tuple[Plan, Configuration], second: Path, other: tuple[Plan, Configuration]
) -> None:
    for here, there, keys in zip(one, other, (_SAME_IN_PLAN, _SAME_IN_CONFIGURATION), strict=True):
        for key in keys:
            if getattr(here, key) != getattr(there, key):
                raise UserError(
                    f"{second} was trained with {key} {getattr(there, key)!r}, {first} with {getattr(here, key)!r}: "
                    "they cannot be averaged; choose one with -f"
                )
