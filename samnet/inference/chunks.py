"""How many slices of a volume are predicted at a time."""

from __future__ import annotations

import math

from samnet.preprocessing.slice_frame import SliceFrame

SLAB_BYTES = 128 * 2**20
MAX_SLICES = 64
# Of the margin on one side, so that at most 1.4 times the slices of a volume are encoded.
_MARGINS_IN_CHUNK = 5
_FLOAT = 4  # bytes


def slices_of_chunk(
    frame: SliceFrame,
    *,
    num_channels: int,
    num_outputs: int,
    stride: int,
    margin: int = 0,
    inputs_at_once: int = 1,
    slab_bytes: int = SLAB_BYTES,
) -> int:
    """Return how many slices fit into some memory: as inputs, as maps, and at full size.

    They are as many as the networks are given at once, or `MAX_SLICES` where that is more. Where
    slices need a margin, they are enough for it to be small in proportion.

    Args:
        frame: Where the slices lie on their canvas.
        num_channels: Channels of the image.
        num_outputs: Number of outputs of the networks.
        stride: Input pixels for each pixel of the maps.
        margin: Slices on either side of a chunk that are encoded with it.
        inputs_at_once: Slices that the networks are given at once.
        slab_bytes: The memory in bytes.

    Returns:
        The number of slices, without their margin.
    """
    maps = num_outputs * math.prod(length // stride for length in frame.canvas)
    values = max(3 * math.prod(frame.canvas), num_channels * math.prod(frame.size), maps)
    most = max(MAX_SLICES, inputs_at_once)
    fewest = max(1, _MARGINS_IN_CHUNK * margin)
    return max(fewest, min(most, slab_bytes // (_FLOAT * values)))
