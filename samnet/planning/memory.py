"""What a machine's memory allows: a ladder of things to give up until a training step fits.

How much a step takes is measured by a `Meter`, which needs the network and so is handed in from above
(`samnet.training.dry_run`). Without one, what is wanted is planned.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from samnet.core.machine import Machine
from samnet.plan.configuration import Configuration

# (configuration, channels, outputs, whether these are regions, device) -> GiB at the fullest moment of a step.
Meter = Callable[[Configuration, int, int, bool, str], float]

SMALLEST_BATCH = 2
INPUT_SIZES = (224, 448, 672, 896)  # whole windows of SAM's encoder: 14 tokens of 16 pixels
BACKBONE_LADDER = ("vit_h", "vit_l", "vit_b", "small")
# Beside tensors: a GPU's context and the kernels' work space, then gaps between blocks. Main memory is shared with the
# system and with the processes that load the data.
_RESERVED_GIB = {"cuda": 0.75, "mps": 2.0, "cpu": 2.0}
_USABLE_SHARE = {"cuda": 0.92, "mps": 0.7, "cpu": 0.6}
_LEVELS = ((False, "all"), (True, "all"), (True, "last_half"), (True, "last_quarter"))


@dataclass(frozen=True)
class MemoryLevel:
    """What is given up for memory, and what is known of the training step that is left.

    largest_batch, largest_input: None for as large as is wanted. checkpointing: gradient checkpointing.
    lora_blocks: those that are adapted. smaller_backbones: how many steps below the wanted one. frozen: whether the
        encoder is.
    taken: GiB of the planned step; None where it was not measured. fits: whether it does.
    refused, refused_batch: GiB of the smallest step on the level above, and its images; 0 on the first.
    """

    largest_batch: int | None = None
    checkpointing: bool = False
    lora_blocks: str = "all"
    largest_input: int | None = None
    smaller_backbones: int = 0
    frozen: bool = False
    taken: float | None = None
    fits: bool = True
    refused: float = 0.0
    refused_batch: int = 0


WANTED = MemoryLevel()


def usable_memory(machine: Machine) -> float:
    """GiB of a machine's memory that the tensors of a training may take."""
    return max(0.0, machine.memory - _RESERVED_GIB[machine.device]) * _USABLE_SHARE[machine.device]


def choose_level(
    decide: Callable[[MemoryLevel], Configuration],
    measure: Callable[[Configuration], float],
    room: float,
) -> MemoryLevel:
    """The highest level on which a training step fits; the lowest, marked as such, where none does.

    From the top: a smaller batch, gradient checkpointing, LoRA in half and in a quarter of the blocks; then all this
    with smaller inputs, with smaller backbones, and at last with the encoder frozen. What a person or a paper has fixed
    is the same on every level; where that is everything, nothing is measured.

    decide: the configuration on a level. measure: GiB of its step. room: in GiB.
    """
    wanted = decide(WANTED)
    levels = list(_ladder(wanted))
    if all(decide(replace(level, largest_batch=SMALLEST_BATCH)) == wanted for level in levels):
        return WANTED
    above, smallest, lowest = None, 0.0, WANTED
    for level in levels:
        most, least = decide(level), decide(replace(level, largest_batch=SMALLEST_BATCH))
        if least == above:  # nothing is given up by this step down
            continue
        if above is not None:
            level = replace(level, refused=smallest, refused_batch=above.batch_size)
        taken = measure(most)
        if taken <= room:
            return replace(level, taken=taken)
        above, smallest, lowest = least, measure(least), level
        if smallest <= room:
            # The peak is the largest of sums that grow evenly with the batch: what lies between two batches takes no
            # more than the straight line between them.
            share = (room - smallest) / (taken - smallest)
            batch = least.batch_size + int(share * (most.batch_size - least.batch_size))
            level = replace(level, largest_batch=batch)
            return replace(level, taken=measure(decide(level)))
    return replace(lowest, largest_batch=SMALLEST_BATCH, taken=smallest, fits=False)


def _ladder(wanted: Configuration) -> Iterator[MemoryLevel]:
    sizes = [None, *(size for size in reversed(INPUT_SIZES) if size < wanted.input_size)]
    known = wanted.backbone in BACKBONE_LADDER
    below = len(BACKBONE_LADDER) - 1 - BACKBONE_LADDER.index(wanted.backbone) if known else 0
    for steps in range(below + 1):
        for size in sizes:
            for checkpointing, blocks in _LEVELS:
                yield MemoryLevel(None, checkpointing, blocks, size, steps)
    for size in sizes:
        yield MemoryLevel(None, *_LEVELS[-1], size, below, frozen=True)
