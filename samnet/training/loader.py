"""The samples of a training run, and the loader that brings them in batches."""

from __future__ import annotations

import signal
import time

import torch
from torch.utils.data import DataLoader, Dataset

from samnet.core.signals import STOP_SIGNALS
from samnet.models.network import SegmentationNetwork
from samnet.training.distributed import Distributed
from samnet.training.embeddings.encoder import SliceEncoder
from samnet.training.embeddings.samples import EmbeddedSamples, collate, embed_samples
from samnet.training.sampling import SliceSamples
from samnet.training.slice_reader import SampleSpecification
from samnet.training.task import TrainingTask
from samnet.training.time_limit import MAX_SHARE


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
        return SliceSamples(task.training_cases, specification)
    encoder = SliceEncoder(network, device, workers=task.workers, worker_setup=_ignore_signals)
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
    samples: Dataset, task: TrainingTask, rows: range, step: int, device: torch.device
) -> DataLoader:
    """Return a loader of this process' rows of every batch that is left.

    Args:
        samples: The samples.
        task: What to train on.
        rows: The rows of a batch that this process computes.
        step: The steps done so far.
        device: Where the batches go.

    Returns:
        The loader.
    """
    size = task.configuration.batch_size
    numbers: list[int] = []
    for first in range(step * size, task.configuration.steps * size, size):
        numbers += [first + row for row in rows]
    return DataLoader(
        samples,
        batch_size=len(rows),
        sampler=numbers,
        num_workers=task.workers,
        pin_memory=device.type == "cuda",
        worker_init_fn=_ignore_signals,
        collate_fn=collate if isinstance(samples, EmbeddedSamples) else None,
        prefetch_factor=4 if task.workers else None,
    )


def _ignore_signals(worker: int) -> None:
    """Let a signal for the whole process group stop the training, which then ends its workers.

    Otherwise they would die first.
    """
    for number in (*STOP_SIGNALS, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
