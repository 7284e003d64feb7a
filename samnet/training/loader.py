"""The samples of a training run, and the loader that brings them in batches."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from functools import partial

import torch
from torch.utils.data import DataLoader, Dataset

from samnet.core.signals import STOP_SIGNALS
from samnet.models.network import SegmentationNetwork
from samnet.training.device_batches.batches import BatchMaker, DeviceBatches
from samnet.training.device_batches.drawn_samples import DrawnSamples
from samnet.training.device_batches.place import SlicePlace, find_slice_place
from samnet.training.distributed import Distributed
from samnet.training.embeddings.encoder import SliceEncoder
from samnet.training.embeddings.samples import EmbeddedSamples, collate, embed_samples
from samnet.training.sampling import SliceSamples
from samnet.training.slice_reader import SampleSpecification
from samnet.training.stack_samples import StackSamples
from samnet.training.task import TrainingTask
from samnet.training.time_limit import MAX_SHARE

# By samples, rows of a batch and device: where slices are, or None for samples made on the CPU.
FindPlace = Callable[[Dataset, int, torch.device], SlicePlace | None]


def build_samples(
    network: SegmentationNetwork,
    task: TrainingTask,
    device: torch.device,
    distributed: Distributed,
    seconds_trained: float,
) -> Dataset:
    """Return the samples of a run; those of a frozen encoder after encoding what is missing.

    Args:
        network: The network.
        task: What to train on.
        device: Where the network is.
        distributed: The processes that train together, and share the encoding.
        seconds_trained: Time trained so far. Encoding takes at most half of what is left for the
            training.

    Returns:
        An endless map from a number to a sample.
    """
    specification = SampleSpecification(
        task.configuration, task.label_scheme, network.stride, task.seed
    )
    if task.embeddings is None:
        if task.configuration.depth > 1:
            return StackSamples(task.training_cases, specification)
        return SliceSamples(task.training_cases, specification)
    encoder = SliceEncoder(network, device, workers=task.workers, worker_setup=ignore_signals)
    return embed_samples(
        task.embeddings,
        encoder,
        task.training_cases,
        specification,
        seconds=_encoding_seconds(task, seconds_trained),
        distributed=distributed,
    )


def _encoding_seconds(task: TrainingTask, seconds_trained: float) -> float | None:
    """Return half of what is left of the time, without what is kept for the predictions."""
    if task.max_seconds is None:
        return None
    left = task.max_seconds - seconds_trained
    if task.ends_at is not None:
        left = min(left, task.ends_at - time.monotonic())
    reserved = task.validation_seconds + task.prediction_seconds
    return (left - min(reserved, MAX_SHARE * task.max_seconds)) / 2


def build_loader(
    samples: Dataset,
    task: TrainingTask,
    rows: range,
    step: int,
    device: torch.device,
    find_place: FindPlace = find_slice_place,
) -> DataLoader | DeviceBatches:
    """Return a loader of this process' rows of every batch that is left.

    Samples are made one by one on the CPU, or drawn there and made in batches on a GPU. Both ways
    make the same samples, to rounding.

    Args:
        samples: The samples.
        task: What to train on.
        rows: The rows of a batch that this process computes.
        step: The steps done so far.
        device: Where the batches go.
        find_place: Tells by samples, rows and device whether batches are made on the device, see
            `find_slice_place`.

    Returns:
        The loader.
    """
    size = task.configuration.batch_size
    numbers: list[int] = []
    for first in range(step * size, task.configuration.steps * size, size):
        numbers += [first + row for row in rows]
    place = find_place(samples, len(rows), device)
    collate_samples: Callable | None = None
    if place is not None:
        assert isinstance(samples, SliceSamples)
        samples = DrawnSamples(samples, carries_slices=place is SlicePlace.HOST)
        collate_samples = samples.collate
    elif isinstance(samples, EmbeddedSamples):
        collate_samples = collate
    loader: DataLoader = DataLoader(
        samples,
        batch_size=len(rows),
        sampler=numbers,
        num_workers=task.workers,
        pin_memory=device.type == "cuda",
        worker_init_fn=ignore_signals,
        collate_fn=collate_samples,
        prefetch_factor=4 if task.workers else None,
    )
    if isinstance(samples, DrawnSamples):
        keeps_slices = not samples.carries_slices
        build_maker = partial(BatchMaker, samples.reader, keeps_slices=keeps_slices)
        return DeviceBatches(loader, build_maker, device)
    return loader


def ignore_signals(worker: int) -> None:
    """Let a signal for the whole process group stop the training, which then ends its workers.

    Otherwise they would die first.

    Args:
        worker: The number of the worker process.
    """
    for number in (*STOP_SIGNALS, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
