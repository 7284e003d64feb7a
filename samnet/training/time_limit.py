"""How a command that `--max-time` limits shares its time between training and what follows."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from samnet.dataset.label_scheme import LabelScheme
from samnet.inference.volume import predict_volume
from samnet.models.network import SegmentationNetwork
from samnet.plan.configuration import Configuration
from samnet.preprocessing.storage import StoredCase
from samnet.training.distributed import Distributed
from samnet.training.task import TrainingTask
from samnet.training.validation import choose_validation_cases

log = logging.getLogger(__name__)
TIMED_SLICES = 4
MARGIN = 1.5  # files are read and written too, and the label maps are evaluated
GRACE_SECONDS = 5.0  # so much later a command may end, so that short tasks come to their end
MIN_SECONDS = 1e-9
MAX_SHARE = 0.5  # at least half of the time is for the training


def training_seconds(task: TrainingTask, done: float, distributed: Distributed) -> float | None:
    """Return the limit of the training time over all sessions, without what follows it.

    Args:
        task: What to do, with the limit of the whole and the expected time of what follows.
        done: Seconds trained in earlier sessions.
        distributed: The processes that train together; all get the same limit.

    Returns:
        The limit in seconds; None for no limit.
    """
    if task.max_seconds is None:
        return None
    whole = task.max_seconds
    if task.ends_at is not None:
        whole = min(whole, done + task.ends_at - time.monotonic())
    reserved = task.validation_seconds + task.prediction_seconds
    limit = whole - min(reserved, MAX_SHARE * task.max_seconds)
    [shortest] = distributed.maximum(-limit)
    return max(MIN_SECONDS, -shortest)


def has_time_to_validate(task: TrainingTask, distributed: Distributed) -> bool:
    """Tell whether a validation can be expected to end with the command, in every process.

    Args:
        task: What to do, with the end of the command.
        distributed: The processes that train together.

    Returns:
        Whether it can; always where the command has no end, and where a validation is short.
    """
    if task.ends_at is None:
        return True
    [late] = distributed.maximum(time.monotonic() + task.validation_seconds - task.ends_at)
    has_time = late <= 0 or task.validation_seconds <= GRACE_SECONDS
    if not has_time:
        log.warning(
            "there is no time for a validation, which takes about %.0f s: give a longer --max-time",
            task.validation_seconds,
        )
    return has_time


def estimate_prediction(
    network: SegmentationNetwork,
    configuration: Configuration,
    scored: Sequence[StoredCase],
    label_scheme: LabelScheme,
    processes: int,
) -> tuple[float, float]:
    """Estimate how long the held-out cases take, from a few slices of one of them.

    Args:
        network: The network, on its device. It is in training mode afterwards.
        configuration: Its configuration.
        scored: The held-out cases.
        label_scheme: The classes or regions of its outputs.
        processes: The number of processes that share the cases.

    Returns:
        Seconds of one validation during the training, and of the final prediction.
    """
    if not scored:
        return 0.0, 0.0
    timed = sorted(scored, key=_num_voxels)[len(scored) // 2]
    network.eval()
    watched = _num_voxels(*choose_validation_cases(scored))
    validation = _seconds_per_voxel(network, configuration, timed, label_scheme, mirror=False)
    final = validation
    if configuration.mirror_at_prediction:
        final = _seconds_per_voxel(network, configuration, timed, label_scheme, mirror=True)
    network.train()
    share = MARGIN / processes
    return validation * watched * share, final * _num_voxels(*scored) * share


def _num_voxels(*cases: StoredCase) -> int:
    return sum(int(np.prod(case.record.shape)) for case in cases)


def _seconds_per_voxel(
    network: SegmentationNetwork,
    configuration: Configuration,
    case: StoredCase,
    label_scheme: LabelScheme,
    *,
    mirror: bool,
) -> float:
    """Predict a few slices of each view; return the seconds a voxel takes in all views."""
    started = time.monotonic()
    volume = case.volume()
    total = (time.monotonic() - started) / volume.array[0].size
    for axis in configuration.views:
        view = replace(configuration, views=(axis,), slicing_axis=axis)
        for count in (1, TIMED_SLICES):  # the first prepares the device
            middle = volume.array.shape[axis + 1] // 2
            start = max(0, middle - count // 2)
            array = np.take(
                volume.array,
                range(start, min(start + count, volume.array.shape[axis + 1])),
                axis=axis + 1,
            )
            started = time.monotonic()
            part = replace(volume, array=array)
            predict_volume([network], view, part, mirror=mirror, label_scheme=label_scheme)
            seconds = time.monotonic() - started
        total += seconds / array[0].size
    return total
