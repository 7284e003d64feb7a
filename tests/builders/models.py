"""Models of a few hundred kilobytes, written without training, and a predictor without networks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from builders.samed_files import mask_decoder, prompt_encoder
from builders.tiny import VALUES, add_tiny_backbone
from builders.tiny_sam import randomise, sam_encoder
from samnet import __version__
from samnet.core.geometry import Grid
from samnet.core.hashing import file_sha256
from samnet.core.machine import Machine
from samnet.core.records import to_json
from samnet.dataset.label_scheme import LabelScheme
from samnet.inference.plausibility import describe_labels
from samnet.inference.predictor import Prediction
from samnet.models.base import find_base_file, record_base
from samnet.models.model_folder import FINAL, RunFolder
from samnet.models.network import build_network, save_weights
from samnet.models.registry import CHECKPOINTS, Checkpoint
from samnet.plan.backbones import BACKBONES, Backbone
from samnet.plan.plan import SCHEMA_VERSION, Decision, Plan, PlannedConfiguration

DATASET = "Dataset007_Synthetic"
TINY_SAM = Backbone("tiny_sam", 48, 2, 2, (1,), 64)
# The values of a plan for LoRA on `TINY_SAM`.
LORA = {
    "backbone": "tiny_sam",
    "initial_weights": "pretrained",
    "encoder_tuning": "lora",
    "head": "upsampling",
    "input_size": 64,
}


def add_tiny_sam(folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Tensor]:
    """Add the backbone `tiny_sam`, and release random weights of it.

    Args:
        folder: Where to write the weights; it becomes the checkpoints folder.
        monkeypatch: Removes the backbone after the test.

    Returns:
        The weights by SAM's names. None is 0 or 1 everywhere.
    """
    torch.manual_seed(0)
    parts = {
        "image_encoder": sam_encoder(TINY_SAM, 64),
        "prompt_encoder": prompt_encoder(64),
        "mask_decoder": mask_decoder(4),
    }
    weights = {}
    for name, part in parts.items():
        for key, value in randomise(part).state_dict().items():
            weights[f"{name}.{key}"] = value
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "sam_tiny.pth"
    torch.save(weights, file)
    monkeypatch.setenv("samnet_checkpoints", str(folder))
    monkeypatch.setitem(BACKBONES, "tiny_sam", TINY_SAM)
    monkeypatch.setitem(CHECKPOINTS, "tiny_sam", Checkpoint(file.name, file_sha256(file)))
    add_tiny_backbone(monkeypatch)
    return weights


def make_plan(name: str = "lora", **changes: Any) -> Plan:
    """Return the plan of a trained model for one channel and two classes.

    Args:
        name: The name of its configuration.
        changes: Values that replace those of `builders.tiny.VALUES`.

    Returns:
        A plan of a single configuration.
    """
    values = VALUES | changes
    decisions = {
        key: Decision(to_json(value), "synthetic", "test") for key, value in values.items()
    }
    return Plan(
        schema_version=SCHEMA_VERSION,
        samnet_version=__version__,
        dataset_name=DATASET,
        data_key="key",
        channel_names=("CT",),
        label_scheme=LabelScheme({"background": 0, "liver": 1, "tumour": 2}),
        file_ending=".nii.gz",
        patient_key=None,
        machine=Machine("cpu", 8.0),
        decisions={},
        configurations={name: PlannedConfiguration(decisions, None, "synthetic")},
    )


def make_model(folder: Path, plan: Plan, folds: tuple[str, ...] = ("fold_0",)) -> Path:
    """Write a model with random weights in every fold, as a training run leaves it.

    Args:
        folder: The folder of the model.
        plan: Its plan.
        folds: The names of its folds.

    Returns:
        The folder of the model.
    """
    configuration = plan.single_configuration
    for seed, fold in enumerate(folds):
        torch.manual_seed(seed)
        network = build_network(configuration, 1, plan.label_scheme.num_outputs)
        weights = {}
        for name, value in network.adapter().items():
            weights[name] = value + 0.1 * torch.randn_like(value)
        run = RunFolder(folder / fold)
        plan.save(run.plan_file)
        save_weights(weights, run.checkpoint(FINAL))
        record_base(configuration, run, find_base_file(configuration))
    return folder


def synthetic_image(size: int = 40) -> np.ndarray:
    """Return an image of noise.

    Args:
        size: Edge of its slices in voxels.

    Returns:
        Intensities `(3, size, size)` from 0 to 255.
    """
    return np.random.default_rng(0).uniform(0, 255, (3, size, size)).astype(np.float32)


class FakePredictor:
    """Labels what is brighter than 100.

    Attributes:
        plan: The plan that it seems to predict by.
        failure: What it raises for an image with a voxel brighter than 200, or None.
    """

    plan = make_plan("scratch")
    maps_uncertainty = False

    def __init__(self, failure: BaseException | None = None) -> None:
        self.failure = failure

    def predict_and_check(self, array: np.ndarray, grid: Grid) -> Prediction:
        """Predict as `Predictor.predict_and_check` does.

        Args:
            array: Intensities `(C, Z, Y, X)`.
            grid: Its grid, which does not matter.

        Returns:
            Labels `(Z, Y, X)`, 0 or 1.
        """
        if self.failure and array.max() > 200:
            raise self.failure
        labels = (array[0] > 100).astype(np.uint8)
        return Prediction(labels, tuple(describe_labels(labels, self.plan.label_scheme, None)))
