"""Several models that predict together: their probabilities are averaged on the volume.

The models may differ in all that a configuration decides: input size, spacing, views, orientation,
frame, head. They have to agree in channels and labels.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from samnet.core.errors import UserError
from samnet.core.geometry import Grid
from samnet.dataset.dataset_folder import ensemble_folder
from samnet.dataset.description import DatasetDescription
from samnet.dataset.label_scheme import LabelScheme
from samnet.inference.native_views import VolumeMaps
from samnet.inference.out_of_memory import PredictionMemory
from samnet.inference.plausibility import describe_labels
from samnet.inference.prediction import ArrayPredictor, Prediction
from samnet.inference.predictor import Predictor
from samnet.inference.probabilities import VolumeProbabilities
from samnet.inference.view_store import VIEW_BYTES
from samnet.models.model_folder import FINAL, ModelFolder, RunFolder
from samnet.plan.plan import Plan
from samnet.postprocessing.model_rules import load_current_rules
from samnet.postprocessing.rules import NO_POSTPROCESSING, Postprocessing
from samnet.preprocessing.case import PreparedVolume

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class EnsemblePredictor(ArrayPredictor):
    """Several models whose probabilities are averaged.

    Each model weighs the same, whatever its number of folds or views. One after the other predicts
    the whole image; its probabilities wait at the resolution of its networks in half precision.
    Then they are averaged on the grid of the image, slab by slab.

    Attributes:
        members: The models. The networks of all of them are loaded, on one device. Their own
            postprocessing is left out.
        postprocessing: What is done to predicted label maps.
        maps_uncertainty: Whether predictions come with a map of where they are uncertain.
    """

    members: Sequence[Predictor]
    postprocessing: Postprocessing = NO_POSTPROCESSING
    maps_uncertainty: bool = False

    def __post_init__(self) -> None:
        names = []
        for member in self.members:
            [configuration] = member.plan.configurations
            names.append(f"{member.plan.dataset_name} {configuration}")
        check_same_outputs(names, [member.plan for member in self.members])

    @classmethod
    def from_folders(
        cls,
        folders: Sequence[str | Path],
        folds: Sequence[str] | None = None,
        *,
        device: str | None = None,
        checkpoint: str = FINAL,
        mirror: bool | None = None,
        postprocess: bool = True,
    ) -> EnsemblePredictor:
        """Load several models.

        Args:
            folders: The folders of their configurations, or of single folds.
            folds: The folds of each model, as for `Predictor.from_folder`.
            device: As for `Predictor.from_folder`.
            checkpoint: As for `Predictor.from_folder`.
            mirror: As for `Predictor.from_folder`; None for what each plan says.
            postprocess: Whether to change label maps by the rules that a comparison of the
                cross-validations has chosen for this ensemble.

        Returns:
            The models.

        Raises:
            UserError: As for `Predictor.from_folder`, or channels or labels of the models differ.
        """
        models = [ModelFolder(Path(folder)) for folder in folders]
        selected = [model.select_runs(folds, checkpoint) for model in models]
        # Before any network is loaded.
        check_same_outputs([str(model) for model in models], [runs[0].plan for runs in selected])
        members = []
        for runs in selected:
            members.append(
                Predictor.from_runs(runs, device=device, checkpoint=checkpoint, mirror=mirror)
            )
        ensemble = cls(members)
        folder = _shared_folder(selected)
        if not postprocess or folder is None:
            return ensemble
        models_of_members = [ModelFolder(runs[0].path.parent) for runs in selected]
        rules = load_current_rules(folder, models_of_members, ensemble.plan.label_scheme)
        return replace(ensemble, postprocessing=rules)

    @property
    def plan(self) -> Plan:
        """The plan of the first model. Its channels and labels are those of all."""
        return self.members[0].plan

    @property
    def description(self) -> DatasetDescription:
        """The channels that images need, and the labels that predictions have."""
        return self.plan.description

    def __repr__(self) -> str:
        return f"EnsemblePredictor({', '.join(map(repr, self.members))})"

    def predict_and_check(
        self, array: np.ndarray, grid: Grid, *, keep_probabilities: bool = False
    ) -> Prediction:
        """Segment an image on its native grid, and compare it with the images of all models.

        Args:
            array: Raw intensities `(C, Z, Y, X)`.
            grid: Its grid.
            keep_probabilities: Whether to keep the probabilities. The labels stay the same.

        Returns:
            The labels, and what there is to say of image and labels. It is neither logged nor
            raised as a warning.

        Raises:
            UserError: As for `Predictor.predict_and_check`, of any of the models.
        """
        maps: list[VolumeMaps] = []
        found: list[str] = []
        volume: PreparedVolume | None = None
        outside: np.ndarray | None = None
        # Together they take what a single model's views may take.
        view_bytes = VIEW_BYTES // (len(self.members) * (2 if keep_probabilities else 1))
        for member in self.members:
            volume = member.prepare(array, grid, volume)
            found += member.differences(volume)
            # What one model knows to be empty, no other one finds anything in.
            outside = _union(outside, member.outside(volume))
            maps.append(
                member.predict_maps(volume, view_bytes, may_use_device=not keep_probabilities)
            )
        scheme = self.plan.label_scheme
        device = next(self.members[0].networks[0].parameters()).device
        mean = VolumeProbabilities(maps, scheme, PredictionMemory(device), outside=outside)
        labels = self.postprocessing.apply(mean.labels(), grid, scheme)
        for member in self.members:
            found += describe_labels(labels, scheme, member.training_data)
        probabilities = None
        if keep_probabilities:
            # They are read while the networks predict the next case.
            probabilities = replace(mean, memory=PredictionMemory(torch.device("cpu")))
        return Prediction(
            labels,
            tuple(dict.fromkeys(found)),
            probabilities,
            uncertainty=mean.uncertainty() if self.maps_uncertainty else None,
        )


def _union(one: np.ndarray | None, other: np.ndarray | None) -> np.ndarray | None:
    if one is None or other is None:
        return other if one is None else one
    return one | other


def load_predictor(
    models: Sequence[ModelFolder],
    folds: Sequence[str] | None = None,
    *,
    device: str | None = None,
    checkpoint: str = FINAL,
    mirror: bool | None = None,
    postprocess: bool = True,
) -> Predictor | EnsemblePredictor:
    """Load one model, or several that predict together.

    Args:
        models: Their folders.
        folds: The folds of each, as for `Predictor.from_folder`.
        device: As for `Predictor.from_folder`.
        checkpoint: As for `Predictor.from_folder`.
        mirror: As for `Predictor.from_folder`.
        postprocess: As for both.

    Returns:
        The predictor.

    Raises:
        UserError: As for `EnsemblePredictor.from_folders`.
    """
    loaded: Predictor | EnsemblePredictor
    if len(models) > 1:
        loaded = EnsemblePredictor.from_folders(
            [model.path for model in models],
            folds,
            device=device,
            checkpoint=checkpoint,
            mirror=mirror,
            postprocess=postprocess,
        )
    else:
        loaded = Predictor.from_folder(
            models[0].path,
            folds,
            device=device,
            checkpoint=checkpoint,
            mirror=mirror,
            postprocess=postprocess,
        )
    for line in loaded.postprocessing.describe():
        log.info("postprocessing of %s", line)
    return loaded


def _shared_folder(selected: Sequence[Sequence[RunFolder]]) -> Path | None:
    """Return the folder of an ensemble of models of one data set; None for other models."""
    models = [runs[0].path.parent for runs in selected]
    datasets = {model.parent.resolve() for model in models}
    if len(datasets) > 1:
        return None
    return ensemble_folder(models[0].parent, [model.name for model in models])


def check_same_outputs(names: Sequence[str], plans: Sequence[Plan]) -> None:
    """Refuse models whose probabilities do not stand for the same, or that take other images.

    Args:
        names: What to call each model.
        plans: Their plans.

    Raises:
        UserError: Channels or labels differ.
    """
    for name, plan in zip(names[1:], plans[1:], strict=True):
        compared: dict[str, tuple[Any, Any]] = {
            "channels": (list(plan.channel_names), list(plans[0].channel_names)),
            "labels": (labels_of(plan.label_scheme), labels_of(plans[0].label_scheme)),
        }
        for kind, (here, there) in compared.items():
            if here != there:
                raise UserError(
                    f"{name} was trained with the {kind} {here}, {names[0]} with {there}: their "
                    "probabilities cannot be averaged; name models of the same channels and labels"
                )


def labels_of(scheme: LabelScheme) -> dict[str, Any]:
    """Return what the outputs of a network stand for, to be compared and shown.

    Args:
        scheme: The labels it was trained on.

    Returns:
        Name -> value or values, in the order of the outputs; of regions also the label that is
        written for each.
    """
    regions = {"regions_class_order": scheme.regions_class_order} if scheme.regions else {}
    return {**scheme.foreground, **regions}
