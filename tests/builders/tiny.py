"""A network of two small blocks, with configurations and cases to train it on.

For the tests of training and prediction.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from builders.planned import plan_all
from samnet import __version__
from samnet.core.geometry import Grid, spacing_affine
from samnet.core.machine import Machine, detect_machine
from samnet.dataset.cases import RawDataset
from samnet.dataset.label_scheme import LabelScheme
from samnet.fingerprint.extract import extract_fingerprint
from samnet.models.model_folder import FINAL, RunFolder
from samnet.models.network import SegmentationNetwork, build_network, save_weights
from samnet.plan.backbones import BACKBONES, Backbone
from samnet.plan.configuration import PLAN_KEYS, Configuration, IntensityWindow
from samnet.plan.plan import SCHEMA_VERSION, Decision, Plan, PlannedConfiguration
from samnet.planning.planned_dataset import write_splits
from samnet.preprocessing.case import PreparedVolume, prepare_labels, prepare_volume
from samnet.preprocessing.prepare import prepare_all_configurations
from samnet.preprocessing.storage import StoredCase, load_case, store_case

TWO_CLASSES = LabelScheme({"background": 0, "one": 1, "two": 2})
TINY = Backbone("tiny", 32, 2, 2, (1,), None)
# Values of a plan for training runs of seconds.
SHORT = {
    "backbone": "tiny",
    "input_size": 32,
    "zoom": 1,
    "head": "upsampling",
    "batch_size": 2,
    "steps": 6,
    "steps_per_epoch": 2,
    "warmup_steps": 1,
}
VALUES: dict[str, Any] = {
    "slicing_axis": 0,
    "views": (0,),
    "in_plane_spacing": 1.0,
    "frame": "scale",
    "orientation": "patient",
    "channel_layout": "repeat",
    "intensity": (IntensityWindow("fixed", 0, 255),),
    "background_outside": False,
    "mirror_axes": (),
    "initial_weights": "random",
    "encoder_tuning": "full",
    "lora_rank": 4,
    "lora_scale": 1.0,
    "lora_targets": ("q", "v"),
    "lora_blocks": "all",
    "depth": 1,
    "depth_blocks": "all",
    "depth_adapters": 1,
    "pixel_statistics": "sam",
    "precision": "float32",
    "gradient_checkpointing": False,
    "patience": 0,
    "learning_rate": 1e-3,
    "weight_decay": 0.1,
    "decay_power": 0.9,
    "decay_share": 1.0,
    "optimizer": "adamw",
    "schedule": "polynomial",
    "loss": "samed",
    "gradient_clip": 1.0,
    "cross_entropy_weight": 0.2,
    "dice_weight": 0.8,
    "foreground_share": 0.5,
    "slice_order": "random",
    "augmentation": "planned",
    "structure_copying": 0.0,
    "copied_labels": (1,),
    "weight_average": 0.0,
    "unlabelled_weight": 0.0,
    "unlabelled_share": 1.0,
    "registered_cases": 0,
    "tile_overlap": 0.5,
    "mirror_at_prediction": False,
    **SHORT,
}
# Another allowed value for each key. A new key needs one here and in VALUES.
OTHER_VALUES: dict[str, Any] = {
    "slicing_axis": 1,
    "views": (0, 1, 2),
    "in_plane_spacing": 0.5,
    "channel_layout": "neighbours",
    "intensity": (IntensityWindow("percentiles", 0.5, 99.5),),
    "pixel_statistics": "none",
    "background_outside": True,
    "mirror_axes": (2,),
    "backbone": "small",
    "initial_weights": "weights.pth",
    "encoder_tuning": "frozen",
    "lora_rank": 8,
    "lora_scale": 0.5,
    "lora_targets": ("q", "k", "v"),
    "lora_blocks": "last_half",
    "depth": 5,
    "depth_blocks": "last_half",
    "depth_adapters": 2,
    "input_size": 64,
    "zoom": 2.0,
    "frame": "stretch",
    "orientation": "file",
    "head": "linear",
    "batch_size": 3,
    "precision": "bfloat16",
    "gradient_checkpointing": True,
    "steps": 99,
    "steps_per_epoch": 3,
    "patience": 5,
    "learning_rate": 1e-4,
    "warmup_steps": 2,
    "weight_decay": 0.01,
    "decay_power": 2.0,
    "decay_share": 0.5,
    "optimizer": "adam",
    "schedule": "plateau",
    "loss": "autosam",
    "gradient_clip": 0.0,
    "cross_entropy_weight": 0.5,
    "dice_weight": 0.5,
    "foreground_share": 0.9,
    "slice_order": "passes",
    "augmentation": "none",
    "structure_copying": 0.5,
    "copied_labels": (2,),
    "weight_average": 0.9,
    "unlabelled_weight": 1.0,
    "unlabelled_share": 2.0,
    "registered_cases": 12,
    "tile_overlap": 0.3,
    "mirror_at_prediction": True,
}


def add_tiny_backbone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Add the backbone `tiny` to those that plans know."""
    monkeypatch.setitem(BACKBONES, "tiny", TINY)


@pytest.fixture(autouse=True)
def tiny_backbone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Add the tiny backbone, and use one thread: for so little work a second one is slower."""
    add_tiny_backbone(monkeypatch)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def make_configuration(**changes: Any) -> Configuration:
    """Return a configuration of `VALUES`, with some of them changed."""
    return Configuration(**(VALUES | changes))


def make_volume(
    image: np.ndarray, spacing: tuple[float, float, float] = (1.0, 1.0, 1.0)
) -> PreparedVolume:
    """Prepare an image `(Z, Y, X)` or `(C, Z, Y, X)` with spacing `(Z, Y, X)` in mm."""
    image = image if image.ndim == 4 else image[None]
    return prepare_volume(image, Grid(image.shape[1:], spacing_affine(spacing)))


def make_case(
    folder: Path,
    image: np.ndarray,
    labels: np.ndarray,
    *,
    name: str = "a",
    views: tuple[int, ...] = (0,),
    spacing: tuple[float, float, float] = (1.0, 1.0, 1.0),
) -> StoredCase:
    """Store an image `(C, Z, Y, X)` and a label map `(Z, Y, X)` as a prepared case."""
    volume = prepare_volume(image, Grid(labels.shape, spacing_affine(spacing)), labels)
    store_case(folder, name, "key", volume, prepare_labels(labels, volume), views)
    return load_case(folder, name)


class FakeNetwork(nn.Module):
    """What prediction needs of a network: logits by a function of the inputs `(B, C, S, S)`."""

    def __init__(self, stride: int, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.stride, self.function = stride, function
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, images: Tensor) -> Tensor:
        return self.function(images)


def make_plan(configuration: Configuration, **changes: Any) -> Plan:
    """Return the plan of a trained model: of one configuration, one channel and two classes."""
    decisions = {
        key: Decision(getattr(configuration, key), "for a test", "by hand") for key in PLAN_KEYS
    }
    values = {
        "schema_version": SCHEMA_VERSION,
        "samnet_version": __version__,
        "dataset_name": "Dataset501_Tiny",
        "data_key": "key",
        "channel_names": ("MRI",),
        "label_scheme": TWO_CLASSES,
        "file_ending": ".nii.gz",
        "patient_key": None,
        "machine": Machine("cpu", 8.0),
        "decisions": {},
        "configurations": {"lora": PlannedConfiguration(decisions)},
    }
    return Plan(**(values | changes))


def make_model(
    fold: Path, seed: int = 0, plan: Plan | None = None, **changes: Any
) -> SegmentationNetwork:
    """Write the folder of a finished fold with random weights, and return its network."""
    plan = plan or make_plan(make_configuration(**changes))
    run = RunFolder(fold)
    plan.save(run.plan_file)
    torch.manual_seed(seed)
    network = build_network(
        plan.configuration("lora"), len(plan.channel_names), plan.label_scheme.num_outputs
    )
    for weight in network.parameters():
        if not weight.any():
            torch.nn.init.normal_(weight, std=0.3)  # the updates of LoRA begin at 0
    save_weights(network.adapter(), run.checkpoint(FINAL))
    return network.eval()


def thresholds(levels: list[float], stride: int, sharpness: float = 20.0) -> FakeNetwork:
    """Return a network for which class k is most likely where the image is nearest `levels[k]`.

    The image is averaged over `stride` pixels.
    """

    def logits(images: Tensor) -> Tensor:
        values = nn.functional.avg_pool2d(images[:, :1], stride)
        return -sharpness * (values - torch.tensor(levels)[:, None, None]).abs()

    return FakeNetwork(stride, logits)


def prepare_dataset(
    root: Path, number: int, monkeypatch: pytest.MonkeyPatch, **settings: Any
) -> None:
    """Plan and prepare a data set in `root / "raw"`, with `SHORT` and `settings` in its plan."""
    use_folders(root, root / "results", monkeypatch)
    dataset = RawDataset.load(str(number))
    fingerprint = extract_fingerprint(dataset, processes=0)
    # Without a measurement of training steps, which takes seconds.
    plan = plan_all(fingerprint, detect_machine("cpu"), SHORT | settings)
    plan.save(dataset.folder.plan_file)
    write_splits(plan, fingerprint, dataset.folder)
    prepare_all_configurations(dataset, plan, processes=0)


def use_folders(root: Path, results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let samnet find raw and prepared data below `root`, and put results elsewhere."""
    monkeypatch.setenv("samnet_raw", str(root / "raw"))
    monkeypatch.setenv("samnet_preprocessed", str(root / "preprocessed"))
    monkeypatch.setenv("samnet_results", str(results))
