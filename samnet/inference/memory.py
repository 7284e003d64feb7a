"""How much memory the prediction of an image needs, before any of it is taken."""

from __future__ import annotations

import math
from dataclasses import dataclass

from samnet.core.errors import UserError
from samnet.core.limits import usable_memory
from samnet.plan.configuration import Configuration
from samnet.preprocessing.case import PreparedVolume
from samnet.preprocessing.slice_frame import SliceFrame, planned_frame

_GIB = 2**30
_FLOAT, _DOUBLE = 4, 8  # bytes
_NEIGHBOURS = 3  # slices that are resampled for one input


@dataclass(frozen=True)
class MemoryNeed:
    """The least memory in which a slice can be predicted.

    Attributes:
        gib: The memory in GiB.
        frame: The slice and its canvas.
    """

    gib: float
    frame: SliceFrame


def estimate_memory(
    configuration: Configuration, volume: PreparedVolume, num_outputs: int, stride: int
) -> MemoryNeed:
    """Estimate the main memory that the prediction of a volume needs at least.

    Counted are the image, the label map, and what is made of one slice: the matrices by which it is
    resampled, its canvas, and the maps of the outputs.

    Args:
        configuration: The configuration.
        volume: The image.
        num_outputs: Number of outputs of the networks.
        stride: Input pixels for each output pixel.

    Returns:
        The need of the view that takes most.
    """
    num_channels, *shape = volume.array.shape
    whole = volume.array.nbytes + 2 * math.prod(volume.native.shape)
    num_slices = _NEIGHBOURS if configuration.channel_layout == "neighbours" else 1
    needs = []
    for axis in configuration.views:
        rows, columns = (index for index in range(3) if index != axis)
        frame = planned_frame(
            configuration,
            (shape[rows], shape[columns]),
            (volume.spacing[rows], volume.spacing[columns]),
            volume.margins(axis),
        )
        if frame.enlarges_logits:
            stride = 1
        canvas = math.prod(frame.canvas)
        matrices = sum(a * b for a, b in zip(frame.canvas, frame.size, strict=True))
        resampled = _FLOAT * canvas * (num_channels * num_slices + max(3, num_channels))
        maps = _FLOAT * num_outputs * canvas // stride**2
        needs.append(MemoryNeed((whole + _DOUBLE * matrices + resampled + maps) / _GIB, frame))
    return max(needs, key=lambda need: need.gib)


def refuse_beyond_memory(need: MemoryNeed, memory: float | None = None) -> None:
    """Refuse an image for which the main memory of this machine is too small.

    Args:
        need: What it needs.
        memory: Memory in GiB; None for that of this machine.

    Raises:
        UserError: It needs more.
    """
    if memory is None:
        memory = usable_memory()
    if need.gib <= memory:
        return
    size, canvas = need.frame.size, need.frame.canvas
    raise UserError(
        f"the image needs {need.gib:,.0f} GiB of memory to be predicted, and this machine has "
        f"{memory:,.0f} GiB: a slice of {size[0]} x {size[1]} pixels becomes {canvas[0]:,} x "
        f"{canvas[1]:,} at the resolution that the model was trained at. Correct the spacing, or "
        "its unit, in the header of the image if it is wrong; else predict on a larger machine, or "
        "cut the image into parts"
    )
