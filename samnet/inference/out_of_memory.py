"""What a prediction falls back on when memory runs out."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeVar

import torch

from samnet.core.errors import SamnetError
from samnet.inference.batches import BatchSize
from samnet.models.out_of_memory import compute_in_less_memory

log = logging.getLogger(__name__)
Result = TypeVar("Result")
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
        batch: The number of inputs where memory is enough.
        device: Where slices are resampled, and where probabilities are added and resampled.
    """

    def __init__(self, device: torch.device, batch: BatchSize | None = None) -> None:
        """Begin without any fallback.

        Args:
            device: Where the networks are.
            batch: How many inputs they are given at once; None for that of a first volume.
        """
        self.batch = BatchSize(device) if batch is None else batch
        self.device = device
        self._fallback: int | None = None  # inputs at once after memory has run out
        self._remedy = _REMEDY_ON_CPU if device.type == "cpu" else _REMEDY

    @property
    def inputs_per_batch(self) -> int:
        """Inputs that the networks are given at once, all mirrors counted."""
        return self.batch.inputs if self._fallback is None else self._fallback

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
        self._fallback = self.inputs_per_batch // 2
        self.batch.forget()
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
