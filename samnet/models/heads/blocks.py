"""Parts that several heads are built of."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

_GROUP = 8


def normalised_convolution(inputs: int, outputs: int, stride: int = 1) -> nn.Module:
    """Build a 3 x 3 convolution, group norm and GELU.

    Args:
        inputs: Channels of the input.
        outputs: Channels of the output, a multiple of 8.
        stride: Input pixels for each output pixel.

    Returns:
        A module from `(B, inputs, H, W)` to `(B, outputs, H / stride, W / stride)`.
    """
    # Group norm: batches are small, and a slice of background alone must not change the others.
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False),
        nn.GroupNorm(outputs // _GROUP, outputs),
        nn.GELU(),
    )


def dense_positions(pe_layer: Any, grid: int) -> Tensor:
    """Return SAM's position encoding of an embedding.

    It is always computed in single precision: half precision would shift the sines by several
    hundredths.

    Args:
        pe_layer: The `pe_layer` of SAM's prompt encoder.
        grid: Rows and columns G of the embedding.

    Returns:
        A tensor `(1, C, G, G)`.
    """
    device = pe_layer.positional_encoding_gaussian_matrix.device
    # Autocast does not exist for the meta device, which holds shapes without values.
    if not torch.amp.is_autocast_available(device.type):
        return pe_layer((grid, grid))[None]
    with torch.autocast(device.type, enabled=False):
        return pe_layer((grid, grid))[None]
