"""How many inputs the networks of a model are given at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from samnet.inference.replays import NetworkReplays
from samnet.plan.backbones import PATCH

# By measurement: on a CPU, what a head makes of more inputs no longer fits the caches.
INPUTS_PER_BATCH = 8
INPUTS_PER_BATCH_ON_CPU = 4
# Of the free memory; the rest is for gaps between blocks and for what other slices need more.
_FREE_SHARE = 0.5
# Enough to occupy a multiprocessor; more tokens only take memory. Not measured yet.
_TOKENS_PER_MULTIPROCESSOR = 512


class DeviceMemory(Protocol):
    """What a device says of its memory; see `CudaMemory`."""

    def num_multiprocessors(self) -> int:
        """Return the number of processors that each compute a part of a batch."""

    def free_bytes(self) -> int:
        """Return the memory that networks may take."""

    def peak_of(self, compute: Callable[[], Tensor]) -> tuple[Tensor, int]:
        """Return the result of a computation, and the bytes that it took at its peak.

        Args:
            compute: Computes it.
        """


class CudaMemory:
    """The memory of a CUDA device."""

    def __init__(self, device: torch.device) -> None:
        """Take the device; nothing is read from it yet.

        Args:
            device: The device.
        """
        self._device = device

    def num_multiprocessors(self) -> int:
        """Return the number of multiprocessors of the card."""
        return torch.cuda.get_device_properties(self._device).multi_processor_count

    def free_bytes(self) -> int:
        """Return what is free on the card, and what torch holds there without using it."""
        free, _ = torch.cuda.mem_get_info(self._device)
        held = torch.cuda.memory_reserved(self._device)
        return free + held - torch.cuda.memory_allocated(self._device)

    def peak_of(self, compute: Callable[[], Tensor]) -> tuple[Tensor, int]:
        """Compute something on the device, and measure it.

        Args:
            compute: Computes it.

        Returns:
            The result, and the bytes that were allocated in addition at the peak.
        """
        torch.cuda.reset_peak_memory_stats(self._device)
        before = torch.cuda.memory_allocated(self._device)
        result = compute()
        return result, torch.cuda.max_memory_allocated(self._device) - before


class BatchSize:
    """The number of inputs that networks are given at once.

    On a CUDA device it is found from the first slice, which is predicted alone: by the memory that
    it takes, the memory that is free, and the size of the card. It holds for all volumes that the
    same networks predict, so only the first volume has such a slice, and one after memory has run
    out. On other devices it is a constant.

    Attributes:
        inputs: The number of inputs, all mirrors counted.
        num_outputs: Number of outputs of the networks; None as long as no slice was measured.
        replays: What networks make of batches of that many inputs.
    """

    def __init__(
        self,
        device: torch.device,
        memory: DeviceMemory | None = None,
        replays: NetworkReplays | None = None,
    ) -> None:
        """Begin without a measurement.

        Args:
            device: Where the networks are.
            memory: What the device says of its memory; None for a `CudaMemory` on a CUDA device,
                and for a constant on other devices.
            replays: Computes full batches; None for CUDA graphs on a CUDA device, and for no
                recording on other devices.
        """
        if memory is None and device.type == "cuda":
            memory = CudaMemory(device)
        self._memory = memory
        self._first = INPUTS_PER_BATCH_ON_CPU if device.type == "cpu" else INPUTS_PER_BATCH
        self.inputs = self._first
        self.num_outputs: int | None = None
        self.replays = replays or NetworkReplays(device)

    def measure(self, predict: Callable[[], Tensor], num_inputs: int, input_size: int) -> Tensor:
        """Predict a slice, and find from it how many inputs fit.

        Args:
            predict: Predicts the slice: its maps `(K, 1, h, w)`.
            num_inputs: Inputs that it gives the networks at once.
            input_size: Edge of an input in pixels.

        Returns:
            The maps.
        """
        if self._memory is None:
            return predict()
        maps, taken = self._memory.peak_of(predict)
        self.num_outputs = len(maps)
        self.inputs = inputs_that_fit(
            self._memory.free_bytes(),
            -(-taken // num_inputs),
            (input_size // PATCH) ** 2,
            self._memory.num_multiprocessors(),
        )
        return maps

    def has_room(self, num_bytes: int) -> bool:
        """Tell whether the device can keep something for the rest of a volume.

        Args:
            num_bytes: Its size.

        Returns:
            Whether it takes little of what is free; always False on a CPU.
        """
        return self._memory is not None and 4 * num_bytes <= self._memory.free_bytes()

    def forget(self) -> None:
        """Measure again from the next volume on, and replay nothing: memory has run out."""
        self.replays.stop()
        self.inputs, self.num_outputs = self._first, None


def inputs_that_fit(
    free_bytes: int, bytes_per_input: int, tokens_per_input: int, num_multiprocessors: int
) -> int:
    """Return how many inputs networks are given at once on a GPU.

    Args:
        free_bytes: Memory that is free.
        bytes_per_input: Memory that one input takes.
        tokens_per_input: Tokens of an input.
        num_multiprocessors: Number of multiprocessors of the card.

    Returns:
        The most that fit safely, but no more than the card computes at once, or 8.
    """
    fitting = int(_FREE_SHARE * free_bytes) // max(1, bytes_per_input)
    occupying = num_multiprocessors * _TOKENS_PER_MULTIPROCESSOR // tokens_per_input
    return max(1, min(fitting, max(occupying, INPUTS_PER_BATCH)))
