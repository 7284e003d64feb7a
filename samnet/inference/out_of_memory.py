"""What a prediction falls back on when memory runs out."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeVar

import torch

from samnet.core.errors import SamnetError
from samnet.models.out_of_memory import compute_in_less_memory

log = logging.getLogger(__name__)
Result = TypeVar("Result")
# By measurement: on a CPU, what a head makes of more inputs no longer fits the caches.
INPUTS_PER_BATCH = 8
INPUTS_PER_BATCH_ON_CPU = 4
_REMEDY = (
    "Predict with --device cpu, on a GPU with more memory, or when no other program uses this one"
)
_REMEDY_ON_CPU = "Predict where there is more memory, or when other programs use less of it"


class PredictionMemory:
    """How much of a volume is predicted at once, and where probabilities are added and resampled.

    When memory runs out, the networks are given fewer inputs at a time, down to one. Then
    probabilities are kept, added and resampled in main memory. The labels stay the same, except
    where two outputs are equal but for rounding.

    Attributes:
        inputs_per_batch: Inputs that the networks are given at once, all mirrors counted.
        device: Where probabilities are added and resampled.
    """

    def __init__(self, device: torch.device) -> None:
        """Begin without any fallback.

        Args:
            device: Where the networks are.
        """
        is_cpu = device.type == "cpu"
        self.inputs_per_batch = INPUTS_PER_BATCH_ON_CPU if is_cpu else INPUTS_PER_BATCH
        self.device = device
        self._remedy = _REMEDY_ON_CPU if is_cpu else _REMEDY

    def predict(self, compute: Callable[[], Result]) -> Result:
        """Let networks compute probabilities.

        Args:
            compute: Computes them by the attributes of this object. It may be called several times.

        Returns:
            What it returns.

        Raises:
            SamnetError: The memory is too small for a single input.
        """
        return compute_in_less_memory(compute, self._fall_back)

    def resample(self, compute: Callable[[], Result]) -> Result:
        """Resample probabilities and reduce them to labels.

        Args:
            compute: Does it on the device of this object. It may be called several times.

        Returns:
            What it returns.

        Raises:
            SamnetError: The main memory is too small.
        """
        return compute_in_less_memory(compute, self._leave_device)

    def _fall_back(self, reason: str) -> None:
        if self.inputs_per_batch == 1:
            self._leave_device(reason)
            return
        self.inputs_per_batch //= 2
        log.warning(
            "out of memory (%s): this volume is predicted %d input(s) at a time",
            reason,
            self.inputs_per_batch,
        )

    def _leave_device(self, reason: str) -> None:
        if self.device.type == "cpu":
            raise SamnetError(
                f"the prediction does not fit into the memory, though as little as possible is "
                f"computed at once ({reason}). {self._remedy}"
            )
        self.device = torch.device("cpu")
        log.warning(
            "out of memory (%s): probabilities of this volume are kept in main memory", reason
        )
