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
MIN_TIMED_SLICES = 4
TIMED_GROWTH = 4
TIMED_SECONDS = 0.5
MARGIN = 1.5  # files are read and written too, and the label maps are evaluated
GRACE_SECONDS = 5.0  # so much later a command may end, so that short tasks come to their end
MIN_SECONDS = 1e-9
MAX_SHARE = 0.5  # at least half of the time is for the training
VALIDATION_SHARE = 0.1  # of the time so far, that all validations of a limited training may take


class TimeLimit:
    """The time limit of a training run, and what of it is kept for what follows the training.

    Attributes:
        max_seconds: Limit of the training time over all sessions, without what follows it; None for
            no limit.
        validation_seconds: How long a validation is expected to take at most.
        prediction_seconds: How long what follows the training is expected to take at most.
    """

    def __init__(
        self,
        task: TrainingTask,
        done: float,
        distributed: Distributed,
        *,
        validated_seconds: float = 0.0,
    ) -> None:
        """Share the time.

        Args:
            task: What to do, with the limit of the whole and the expected time of what follows.
            done: Seconds trained in earlier sessions.
            distributed: The processes that train together; all get the same limit.
            validated_seconds: Seconds that the validations of earlier sessions took.
        """
        self.validation_seconds = task.validation_seconds
        self.prediction_seconds = task.prediction_seconds
        self._validated_seconds = validated_seconds
        self._task, self._distributed = task, distributed
        self._is_told = self._omission_is_told = False
        self.max_seconds = self._limit(done)

    def has_time_to_validate(self, done: float, is_last: bool) -> bool:
        """Tell whether to validate now, in every process alike.

        In a limited training, validations may take up to `VALIDATION_SHARE` of the time so far:
        what they take is lost to the training, and the held-out cases are predicted in the end
        anyway. The last one also takes place where earlier weights have been validated, from which
        it chooses.

        Args:
            done: Seconds trained so far, over all sessions.
            is_last: Whether the training ends here.

        Returns:
            Whether to; never where it cannot be expected to end with the command, unless it is
            short.
        """
        if self.max_seconds is None:
            return True
        may_compare = is_last and self._validated_seconds > 0
        if not may_compare and not self._is_affordable(done):
            self._tell_of_omission()
            return False
        ends_at = self._task.ends_at
        if ends_at is None or self.validation_seconds <= GRACE_SECONDS:
            return True
        left = ends_at - time.monotonic()
        [late] = self._distributed.maximum(self.validation_seconds - left)
        if late > 0 and not self._is_told:
            self._is_told = True
            # Without held-out cases no validation chooses the weights.
            chosen = "; without one, the weights are those of the last step and not the best"
            log.warning(
                "there is no time for a validation, which may take %.0f s when %.0f s are left of "
                "--max-time%s",
                self.validation_seconds,
                max(0.0, left),
                chosen if self._task.held_out else "",
            )
        return late <= 0

    def learn_from_validation(self, seconds: float, done: float) -> None:
        """Correct what was expected after a few slices by how long a whole validation has taken.

        Args:
            seconds: How long it has taken.
            done: Seconds trained so far, over all sessions.
        """
        [longest] = self._distributed.maximum(MARGIN * seconds)
        self._validated_seconds += longest / MARGIN
        if self._task.ends_at is None:
            return
        if self.validation_seconds > 0:
            self.prediction_seconds *= longest / self.validation_seconds
        self.validation_seconds = longest
        self.max_seconds = self._limit(done)

    @property
    def last_validation_seconds(self) -> float:
        """Seconds that the validation at the end is expected to take at most; 0 without one."""
        whole = self._task.max_seconds
        if whole is None or self._validated_seconds > 0 or self._is_affordable(whole):
            return self.validation_seconds
        return 0.0

    def _tell_of_omission(self) -> None:
        if not self._omission_is_told:
            log.info(
                "a validation may take %.0f s: validations are left out where all together would "
                "take more than a tenth of the time",
                self.validation_seconds,
            )
        self._omission_is_told = True

    def _is_affordable(self, done: float) -> bool:
        taken = self._validated_seconds + self.validation_seconds
        [excess] = self._distributed.maximum(taken - VALIDATION_SHARE * done)
        return excess <= 0

    def _limit(self, done: float) -> float | None:
        task = self._task
        if task.max_seconds is None:
            return None
        whole = task.max_seconds
        if task.ends_at is not None:
            whole = min(whole, done + task.ends_at - time.monotonic())
        reserved = self.last_validation_seconds + self.prediction_seconds
        limit = whole - min(reserved, MAX_SHARE * task.max_seconds)
        [shortest] = self._distributed.maximum(-limit)
        return max(MIN_SECONDS, -shortest)


def estimate_prediction(
    network: SegmentationNetwork,
    configuration: Configuration,
    validated: Sequence[StoredCase],
    scored: Sequence[StoredCase],
    label_scheme: LabelScheme,
    processes: int,
) -> tuple[float, float]:
    """Estimate how long validation and final prediction take, from some slices of one case.

    Args:
        network: The network, on its device. It is in training mode afterwards.
        configuration: Its configuration.
        validated: The cases to validate on.
        scored: The held-out cases, which are predicted in the end.
        label_scheme: The classes or regions of its outputs.
        processes: The number of processes that share the cases.

    Returns:
        Seconds of one validation during the training, and of the final prediction.
    """
    if not validated:
        return 0.0, 0.0
    timed = sorted(validated, key=_num_voxels)[len(validated) // 2]
    network.eval()
    watched = _num_voxels(*choose_validation_cases(validated))
    validation = _seconds_per_voxel(network, configuration, timed, label_scheme, mirror=False)
    final = validation
    if configuration.mirror_at_prediction and scored:
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
    """Predict some slices of each view; return the seconds a voxel takes in all views.

    A moment in which the machine was busy, or a thread that has to start, weighs much in a short
    time: so more slices are predicted until they have taken long enough to be timed.
    """
    started = time.monotonic()
    volume = case.volume()
    total = (time.monotonic() - started) / volume.array[0].size
    for axis in configuration.views:
        view = replace(configuration, views=(axis,), slicing_axis=axis)
        length = volume.array.shape[axis + 1]
        count, seconds = 1, 0.0  # the first prepares the device
        while True:
            start = (length - count) // 2
            array = np.take(volume.array, range(start, start + count), axis=axis + 1)
            started = time.monotonic()
            part = replace(volume, array=array)
            predict_volume([network], view, part, mirror=mirror, label_scheme=label_scheme)
            seconds = time.monotonic() - started
            is_timed = count >= MIN_TIMED_SLICES and seconds >= TIMED_SECONDS
            if count == length or is_timed:
                break
            count = min(length, TIMED_GROWTH * count)
        total += seconds / array[0].size
    return total
