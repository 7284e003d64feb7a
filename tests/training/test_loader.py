"""Which samples a process loads, and how much time encoding may take before."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from builders.numerics import relative_error
from torch.utils.data import Dataset

from samnet.training.device_batches.batches import DeviceBatches
from samnet.training.device_batches.place import SlicePlace
from samnet.training.distributed import SINGLE_PROCESS, Distributed
from samnet.training.embeddings.cache import EmbeddingCache
from samnet.training.embeddings.choice import CacheChoice
from samnet.training.loader import build_loader, build_samples
from samnet.training.loop import Trainer

MakeTrainer = Callable[..., Trainer]
CPU = torch.device("cpu")


class Numbers(Dataset):
    """Samples that are their own numbers."""

    def __getitem__(self, number: int) -> int:
        return number


def test_loader_brings_the_rows_of_a_process_from_a_step_on(make_trainer: MakeTrainer) -> None:
    task = make_trainer(batch_size=4, steps=5).task
    loader = build_loader(Numbers(), task, range(2, 4), 3, CPU)
    assert [batch.tolist() for batch in loader] == [[14, 15], [18, 19]]
    assert loader.num_workers == 0
    with_workers = build_loader(Numbers(), replace(task, workers=1), range(4), 0, CPU)
    assert (with_workers.num_workers, len(with_workers)) == (1, 5)


def image_samples(trainer: Trainer) -> Dataset:
    return build_samples(trainer.network, trainer.task, CPU, SINGLE_PROCESS, 0.0)


@pytest.mark.parametrize("place", SlicePlace)
@pytest.mark.parametrize("workers", [0, 1])
def test_batches_made_on_a_device_are_those_made_one_by_one(
    make_trainer: MakeTrainer, place: SlicePlace, workers: int
) -> None:
    """From the middle of a run on, for the rows of one of two processes."""
    trainer = make_trainer(batch_size=4, steps=6, workers=workers)
    samples = image_samples(trainer)
    rows = Distributed(1, 2).share_batch(4)
    one_by_one = build_loader(samples, replace(trainer.task, workers=0), rows, 3, CPU)
    at_once = build_loader(samples, trainer.task, rows, 3, CPU, lambda *given: place)
    assert isinstance(at_once, DeviceBatches)
    assert ("images" in next(iter(at_once.loader))) == (place is SlicePlace.HOST)
    count = 0
    for (images, targets), (expected, labels) in zip(at_once, one_by_one, strict=True):
        assert relative_error(images, expected) < 1e-3
        assert (targets == labels).float().mean() >= 0.999
        count += 1
    assert count == 3


def test_loader_decides_by_samples_rows_and_device(make_trainer: MakeTrainer) -> None:
    given: list[Any] = []
    task = make_trainer(batch_size=4, steps=5).task
    samples = Numbers()
    build_loader(samples, task, range(2, 4), 0, CPU, lambda *found: given.extend(found))
    assert given == [samples, 2, CPU]


def test_steps_with_batches_made_at_once_train_the_same_weights(make_trainer: MakeTrainer) -> None:
    weights = []
    for place in (None, SlicePlace.DEVICE):
        trainer = make_trainer(str(place), batch_size=2, steps=4, augmentation="samed")
        loader = build_loader(
            image_samples(trainer), trainer.task, range(2), 0, CPU, lambda *given, here=place: here
        )
        for images, targets in loader:
            trainer.step(images, targets)
        weights.append(torch.nn.utils.parameters_to_vector(trainer.network.parameters()))
    assert relative_error(weights[1], weights[0]) < 1e-3


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        ({}, 25.0),
        ({"ends_at": 1040.0}, 10.0),
        ({"ends_at": 1090.0}, 25.0),
        ({"prediction_seconds": 1000.0}, 10.0),
        ({"max_seconds": None}, None),
    ],
    ids=["run ends first", "command ends first", "command ends last", "share", "no limit"],
)
def test_encoding_takes_half_of_what_is_left_for_the_training(
    make_trainer: MakeTrainer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    times: dict[str, Any],
    expected: float | None,
) -> None:
    """Of 100 s, 30 s are over, and 20 s are kept for the predictions."""
    limits = {"max_seconds": 100.0, "validation_seconds": 5.0, "prediction_seconds": 15.0}
    trainer = make_trainer()
    cache = EmbeddingCache(tmp_path, CacheChoice(1.0, 1), [])
    task = replace(trainer.task, embeddings=cache, **(limits | times))
    given: dict[str, Any] = {}
    monkeypatch.setattr(
        "samnet.training.loader.embed_samples", lambda *rest, **options: given.update(options)
    )
    monkeypatch.setattr(time, "monotonic", lambda: 1000.0)
    build_samples(trainer.network, task, CPU, SINGLE_PROCESS, 30.0)
    assert given["seconds"] == expected
