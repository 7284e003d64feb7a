"""What a machine's memory allows: levels of things to give up until a training step fits.

A `Meter` measures how much memory a step takes. It needs the network, so the caller passes it in
(`samnet.training.dry_run`). Without one, the plan takes whatever is wanted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

from samnet.core.machine import Machine
from samnet.plan.configuration import Configuration
from samnet.planning.planned_step import PlannedStep

# A step -> its peak GiB.
Meter = Callable[[PlannedStep], float]


@runtime_checkable
class EstimatingMeter(Protocol):
    """A `Meter` that spares the measurement of steps which take a small part of the memory."""

    def estimate(self, step: PlannedStep) -> float | None:
        """Return GiB that a step does not exceed; None where measuring it takes no time.

        Args:
            step: The step.
        """


SMALLEST_BATCH = 2
INPUT_SIZES = (224, 448, 672, 896)  # whole windows of SAM's encoder: 14 tokens of 16 pixels
BACKBONES_BY_SIZE = ("vit_h", "vit_l", "vit_b", "small")
# Needed in addition to tensors: a GPU's context and the kernels' work space, then gaps between
# blocks. Main memory is shared with the system and with the processes that load the data.
_RESERVED_GIB = {"cuda": 0.75, "mps": 2.0, "cpu": 2.0}
_USABLE_SHARE = {"cuda": 0.92, "mps": 0.7, "cpu": 0.6}
# (gradient checkpointing, blocks with LoRA), from the most memory to the least.
_TUNING_LEVELS = (
    (False, "all"),
    (True, "all"),
    (True, "last_half"),
    (True, "last_quarter"),
)


@dataclass(frozen=True)
class MemoryLevel:
    """What is given up for memory, and what is known of the training step that is left.

    Attributes:
        largest_batch: Largest batch size, None for as large as is wanted.
        single_slices: Whether slices come one by one, where they would come in stacks.
        checkpointing: Whether gradients are checkpointed.
        lora_blocks: The blocks that get LoRA.
        largest_input: Largest input size in pixels, None for as large as is wanted.
        smaller_backbones: How many sizes below the wanted backbone.
        frozen: Whether the encoder is frozen.
        taken: GiB of the planned step; None where it was not measured.
        is_estimate: Whether `taken` is an estimate, which the step does not exceed.
        fits: Whether it fits.
        refused: GiB of the smallest step one level above; 0 on the first level.
        refused_batch: Images of that step.
    """

    largest_batch: int | None = None
    single_slices: bool = False
    checkpointing: bool = False
    lora_blocks: str = "all"
    largest_input: int | None = None
    smaller_backbones: int = 0
    frozen: bool = False
    taken: float | None = None
    is_estimate: bool = False
    fits: bool = True
    refused: float = 0.0
    refused_batch: int = 0


WANTED = MemoryLevel()


def usable_memory(machine: Machine) -> float:
    """Return the part of a machine's memory that the tensors of a training run may take.

    Args:
        machine: The machine.

    Returns:
        Its usable memory in GiB.
    """
    free = max(0.0, machine.memory - _RESERVED_GIB[machine.device])
    return free * _USABLE_SHARE[machine.device]


def choose_level(
    decide: Callable[[MemoryLevel], Configuration],
    measure: Callable[[Configuration], float],
    room: float,
    estimate: Callable[[Configuration], float | None] = lambda configuration: None,
) -> MemoryLevel:
    """Return the highest level on which a training step fits.

    From the top: a smaller batch, single slices in place of stacks, gradient checkpointing, LoRA in
    half and in a quarter of the blocks; then all this with smaller inputs, with smaller backbones,
    and at last with the encoder frozen. What a person or a paper has fixed is the same on every
    level; where that is everything, nothing is measured.

    Args:
        decide: Returns the configuration on a level.
        measure: Returns the GiB of a training step of a configuration.
        room: Usable memory in GiB.
        estimate: Returns GiB that a step does not exceed, or None. Where even these fit, nothing is
            measured.

    Returns:
        The level; the lowest one, marked as not fitting, where no step fits.
    """
    wanted = decide(WANTED)
    levels = list(_levels(wanted))
    if all(decide(_with_smallest_batch(level)) == wanted for level in levels):
        return WANTED
    at_most = estimate(wanted)
    if at_most is not None and at_most <= room:
        return replace(WANTED, taken=at_most, is_estimate=True)
    above: Configuration | None = None  # the smallest step of the level above
    refused, lowest = 0.0, WANTED
    for level in levels:
        most, least = decide(level), decide(_with_smallest_batch(level))
        if least == above:  # this level gives up nothing
            continue
        if above is not None:
            level = replace(level, refused=refused, refused_batch=above.batch_size)
        taken = measure(most)
        if taken <= room:
            return replace(level, taken=taken)
        above, refused, lowest = least, measure(least), level
        if refused <= room:
            batch = _largest_batch(most.batch_size, taken, least.batch_size, refused, room)
            level = replace(level, largest_batch=batch)
            return replace(level, taken=measure(decide(level)))
    return replace(_with_smallest_batch(lowest), taken=refused, fits=False)


def _with_smallest_batch(level: MemoryLevel) -> MemoryLevel:
    return replace(level, largest_batch=SMALLEST_BATCH)


def _largest_batch(
    most_images: int, most_memory: float, least_images: int, least_memory: float, room: float
) -> int:
    """Return the batch size that fits, between one that does and one that does not.

    The peak is the largest of sums that grow evenly with the batch: between two batch sizes it is
    never above the straight line between their peaks.
    """
    share = (room - least_memory) / (most_memory - least_memory)
    return least_images + int(share * (most_images - least_images))


def _levels(wanted: Configuration) -> Iterator[MemoryLevel]:
    smaller_sizes = [size for size in reversed(INPUT_SIZES) if size < wanted.input_size]
    sizes = [None, *smaller_sizes]
    num_smaller = 0
    if wanted.backbone in BACKBONES_BY_SIZE:
        num_smaller = len(BACKBONES_BY_SIZE) - 1 - BACKBONES_BY_SIZE.index(wanted.backbone)
    yield WANTED
    for step in range(num_smaller + 1):
        for size in sizes:
            for checkpointing, blocks in _TUNING_LEVELS:
                yield MemoryLevel(None, True, checkpointing, blocks, size, step)
    for size in sizes:
        yield MemoryLevel(None, True, *_TUNING_LEVELS[-1], size, num_smaller, frozen=True)
