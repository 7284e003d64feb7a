"""Fixtures of the tests of training."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from builders.data import write_dataset
from builders.tiny import (
    TWO_CLASSES,
    add_tiny_backbone,
    make_case,
    make_configuration,
    prepare_dataset,
    tiny_backbone,
)

from samnet.models.model_folder import RunFolder
from samnet.models.network import build_network
from samnet.preprocessing.storage import StoredCase
from samnet.training.loop import Trainer
from samnet.training.options import SAVE_EVERY_SECONDS
from samnet.training.task import TrainingTask

__all__ = ["tiny_backbone"]


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the data set 501, planned and prepared. Results go elsewhere.

    Its images are there a second time without labels.
    """
    folder = tmp_path_factory.mktemp("prepared")
    with pytest.MonkeyPatch.context() as patch:
        add_tiny_backbone(patch)
        raw = write_dataset(folder / "raw", shape=(5, 24, 20))
        shutil.copytree(raw / "imagesTr", raw / "imagesUn")
        prepare_dataset(folder, 501, patch, views=[0], slicing_axis=0)
    return folder


@pytest.fixture
def case(tmp_path: Path) -> StoredCase:
    """Return a case of 4 x 24 x 20 voxels with two classes, whose image shows its labels."""
    labels = np.zeros((4, 24, 20), dtype=np.uint8)
    labels[:, 4:14, 4:10] = 1
    labels[:, 10:20, 12:18] = 2
    noise = np.random.default_rng(0).normal(0, 5, labels.shape)
    image = (30 + 100 * labels + noise).clip(1, 255).astype(np.uint8)
    return make_case(tmp_path / "prepared", image[None], labels)


@pytest.fixture
def make_trainer(tmp_path: Path, case: StoredCase) -> Callable[..., Trainer]:
    """Return a function that makes a trainer of a new network.

    In the same folder it is the next session of one training run.
    """

    def make(
        name: str = "run",
        *,
        trained: StoredCase = case,
        unlabelled_cases: Sequence[StoredCase] = (),
        folder: RunFolder | None = None,
        held_out: bool = True,
        max_seconds: float | None = None,
        workers: int = 0,
        save_seconds: float = SAVE_EVERY_SECONDS,
        times: dict[str, float] | None = None,
        hooks: dict[str, Callable] | None = None,
        **changes: Any,
    ) -> Trainer:
        configuration = make_configuration(**changes)
        task = TrainingTask(
            configuration=configuration,
            label_scheme=TWO_CLASSES,
            training_cases=[trained],
            validation_cases=[case],
            unlabelled_cases=unlabelled_cases,
            held_out=held_out,
            seed=3,
            max_seconds=max_seconds,
            workers=workers,
            save_seconds=save_seconds,
            **(times or {}),
        )
        torch.manual_seed(task.seed)
        network = build_network(configuration, 1, TWO_CLASSES.num_outputs)
        folder = folder or RunFolder(tmp_path / name)
        return Trainer(network, task, folder, torch.device("cpu"), **(hooks or {}))

    return make
