"""How much memory the prediction of an image needs, before any of it is taken.

Slices by themselves can be predicted one by one. Slices that see their neighbours are predicted as
stacks, which need the memory of all their slices.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from samnet.core.errors import UserError
from samnet.core.limits import usable_memory
from samnet.inference.chunks import slices_of_chunk
from samnet.plan.backbones import BACKBONES, PATCH
from samnet.plan.configuration import Configuration
from samnet.preprocessing.case import PreparedVolume
from samnet.preprocessing.channels import num_input_channels
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


@dataclass(frozen=True)
class StackPrediction:
    """How stacks of slices are predicted.

    Attributes:
        margin: Slices on either side of a slice that can change its probabilities.
        mirror: Whether mirrored inputs are averaged.
    """

    margin: int
    mirror: bool


def estimate_memory(
    configuration: Configuration,
    volume: PreparedVolume,
    num_outputs: int,
    stride: int,
    stacks: StackPrediction | None = None,
) -> MemoryNeed:
    """Estimate the main memory that the prediction of a volume needs at least.

    Counted are the image, the label map, and what is made of one slice: the matrices by which it is
    resampled, its canvas, and the maps of the outputs. Of stacks, what is made of all slices of a
    chunk and its margins: their canvases, an input, the tokens between two blocks, and the maps.

    Args:
        configuration: The configuration.
        volume: The image.
        num_outputs: Number of outputs of the networks.
        stride: Input pixels for each output pixel.
        stacks: How stacks are predicted in main memory; None where slices are predicted one by one,
            or on another device.

    Returns:
        The need of the view that takes most.
    """
    num_channels, *shape = volume.array.shape
    whole = volume.array.nbytes + 2 * math.prod(volume.native.shape)
    needs = []
    for axis in configuration.views:
        rows, columns = (index for index in range(3) if index != axis)
        frame = planned_frame(
            configuration,
            (shape[rows], shape[columns]),
            (volume.spacing[rows], volume.spacing[columns]),
            volume.margins(axis),
        )
        view = _View(
            axis=axis,
            num_slices=shape[axis],
            frame=frame,
            num_channels=num_channels,
            num_outputs=num_outputs,
            stride=1 if frame.enlarges_logits else stride,
        )
        matrices = sum(a * b for a, b in zip(frame.canvas, frame.size, strict=True))
        if stacks is None:
            of_slices = _bytes_of_slice(view, configuration)
        else:
            of_slices = _bytes_of_stack(view, configuration, stacks)
        needs.append(MemoryNeed((whole + _DOUBLE * matrices + of_slices) / _GIB, frame))
    return max(needs, key=lambda need: need.gib)


@dataclass(frozen=True)
class _View:
    """The slices across one axis, and what networks make of them."""

    axis: int
    num_slices: int
    frame: SliceFrame
    num_channels: int
    num_outputs: int
    stride: int

    @property
    def canvas(self) -> int:
        return math.prod(self.frame.canvas)


def _bytes_of_slice(view: _View, configuration: Configuration) -> int:
    """Return what one slice takes: its canvas and its maps."""
    num_slices = _NEIGHBOURS if configuration.channel_layout == "neighbours" else 1
    channels = view.num_channels * num_slices + max(3, view.num_channels)
    maps = _FLOAT * view.num_outputs * view.canvas // view.stride**2
    return _FLOAT * view.canvas * channels + maps


def _bytes_of_stack(view: _View, configuration: Configuration, stacks: StackPrediction) -> int:
    """Return what the slices of a chunk take, and those that are resampled for the next one."""
    chunk = slices_of_chunk(
        view.frame,
        num_channels=view.num_channels,
        num_outputs=view.num_outputs,
        stride=view.stride,
        margin=stacks.margin,
    )
    num_kept = min(chunk, view.num_slices)
    num_seen = min(chunk + 2 * stacks.margin, view.num_slices)
    channels = num_input_channels(configuration.channel_layout, view.num_channels)
    canvases = _FLOAT * num_seen * channels * view.canvas
    # The images of slices are composed one by one, and then put into one array.
    composing = _FLOAT * num_seen * view.num_channels * view.canvas + 2 * canvases
    network = _bytes_of_network(view, configuration, stacks, num_kept, num_seen)
    if num_kept == view.num_slices:
        return max(composing, canvases + network)
    return composing + canvases + network


def _bytes_of_network(
    view: _View, configuration: Configuration, stacks: StackPrediction, num_kept: int, num_seen: int
) -> int:
    """Return what a network makes of the slices of a chunk in one tile, and the maps of all."""
    size = configuration.input_size
    num_mirrors = 1
    if stacks.mirror:
        num_mirrors = 2 ** len(set(configuration.mirror_axes) - {view.axis})
    maps = _FLOAT * num_kept * view.num_outputs * (size // view.stride) ** 2
    width = BACKBONES[configuration.backbone].width
    tokens = _FLOAT * num_seen * width * (size // PATCH) ** 2
    if num_mirrors > 1:
        channels = num_input_channels(configuration.channel_layout, view.num_channels)
        tokens += _FLOAT * num_seen * channels * size**2  # the mirrored input
    # The last mirror is predicted, with its logits in parts and as a whole; then all are joined.
    at_once = max(tokens + (num_mirrors + 1) * maps, (2 * num_mirrors + 1) * maps)
    if view.canvas > size**2:
        at_once += _FLOAT * num_kept * view.num_outputs * view.canvas // view.stride**2
    return at_once


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
