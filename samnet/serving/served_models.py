"""The trained models of a server: what they are called, and loading them when they are needed."""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from samnet.core.geometry import Grid
from samnet.dataset.images import is_2d_image
from samnet.inference.prediction import Prediction
from samnet.inference.predictor import Predictor
from samnet.models.model_folder import ALL_CASES, FINAL, ModelFolder, RunFolder
from samnet.plan.plan import Plan
from samnet.serving.errors import NotFound
from samnet.serving.names import label_names

log = logging.getLogger(__name__)
_Weights = tuple[tuple[str, int], ...]  # files of final weights, with their dates


@dataclass(frozen=True)
class ServedModel:
    """A model of a server, trained or still to be trained.

    Attributes:
        name: What clients call it.
        folder: The folder of the model.
        folds: The folds to average; None for `all` where it is finished, which a server trains,
            else for every finished fold.
    """

    name: str
    folder: ModelFolder
    folds: tuple[str, ...] | None = None

    @property
    def is_trained(self) -> bool:
        """Whether it can predict."""
        return bool(self.runs())

    def runs(self) -> list[RunFolder]:
        """List the finished training runs that predict together; empty where there are none."""
        runs = [run for run in self.folder.runs() if run.is_finished]
        folds = self.chosen_folds(runs)
        if folds is None:
            return runs
        names = {f"fold_{fold}" for fold in folds}
        return [run for run in runs if run.name in names]

    def chosen_folds(self, runs: Sequence[RunFolder]) -> tuple[str, ...] | None:
        """Return the folds to average.

        Args:
            runs: The finished training runs.

        Returns:
            Their names; None for every finished one.
        """
        if self.folds is not None:
            return self.folds
        is_single = len(runs) == 1 and runs[0].path == self.folder.path
        trained_by_server = any(run.name == f"fold_{ALL_CASES}" for run in runs)
        return (ALL_CASES,) if trained_by_server and not is_single else None

    @property
    def plan(self) -> Plan:
        """The plan of the trained model."""
        return self.runs()[0].plan

    def weights(self) -> _Weights:
        """Return which weights there are, to notice when they are replaced."""
        files = [run.checkpoint(FINAL) for run in self.runs()]
        return tuple((str(file), file.stat().st_mtime_ns) for file in files)

    def as_json(self) -> dict[str, Any]:
        """Return what clients show of it, by the protocol's keys."""
        plan = self.plan
        names = [run.name for run in self.runs()]
        return {
            "type": "segmentation",
            "labels": label_names(plan.label_scheme),
            "dimension": 2 if is_2d_image(plan.file_ending, num_slices=2) else 3,
            "description": f"samnet {plan.dataset_name} {plan.single_name}, {', '.join(names)}",
            "config": {},
        }


class ServedModels:
    """The models of a server. A few are kept in memory, and one predicts at a time.

    A model whose weights were replaced, as by a training run, is loaded again. The weights of LoRA
    are merged into those of the encoder for prediction, so models do not share the encoder's.

    Attributes:
        models: Name -> model.
    """

    def __init__(
        self,
        models: Sequence[ServedModel],
        device: str | None,
        max_loaded: int,
        mirror: bool | None = None,
    ) -> None:
        """Load nothing yet.

        Args:
            models: The models, trained or still to be trained.
            device: `cpu`, `cuda` or `mps`; None for the best one here.
            max_loaded: How many are kept in memory.
            mirror: Whether to average over mirrored inputs; None for what each plan says.
        """
        self.models = {model.name: model for model in models}
        self._device, self._max_loaded, self._mirror = device, max_loaded, mirror
        self._loaded: OrderedDict[str, tuple[_Weights, Predictor]] = OrderedDict()
        self._lock = threading.Lock()

    def trained(self) -> dict[str, ServedModel]:
        """Return the models that can predict, by name."""
        return {name: model for name, model in self.models.items() if model.is_trained}

    def find(self, name: str) -> ServedModel:
        """Find a trained model.

        Args:
            name: What the client calls it.

        Returns:
            The model.

        Raises:
            NotFound: There is none, or it is not trained yet.
        """
        trained = self.trained()
        if name not in trained:
            listing = ", ".join(trained) or "none yet; train one first"
            raise NotFound(f"model {name[:100]!r}: there is none of this name (there: {listing})")
        return trained[name]

    def predict(self, model: ServedModel, array: np.ndarray, grid: Grid) -> Prediction:
        """Segment an image, when no other one is being predicted.

        Args:
            model: The model; it is loaded where it is not in memory.
            array: Raw intensities `(C, Z, Y, X)`.
            grid: Its grid.

        Returns:
            The prediction.

        Raises:
            UserError: The model cannot be loaded, or the image cannot be predicted.
        """
        with self._lock:
            return self._load(model).predict_and_check(array, grid)

    def _load(self, model: ServedModel) -> Predictor:
        weights = model.weights()
        known = self._loaded.pop(model.name, None)
        if known is None or known[0] != weights:
            known = None  # its memory is free before the new one is loaded
            while len(self._loaded) >= self._max_loaded:
                name, _ = self._loaded.popitem(last=False)
                log.info("model %s is no longer kept in memory", name)
            folds = model.chosen_folds(model.runs())
            predictor = Predictor.from_folder(
                model.folder.path, folds, device=self._device, mirror=self._mirror
            )
            known = (weights, predictor)
        self._loaded[model.name] = known
        return known[1]
