"""Pieces that several heads are built of."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

_GROUP = 8


def normalised_convolution(inputs: int, outputs: int, stride: int = 1) -> nn.Module:
    """A 3 x 3 convolution, group norm and GELU: `(B, inputs, H, W)` to `(B, outputs, H / stride, W / stride)`."""
    # Group norm: batches are small, and a slice of background alone must not change the others.
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False),
        nn.GroupNorm(outputs // _GROUP, outputs),
        nn.GELU(),
    )


def dense_positions(pe_layer: Any, grid: int) -> Tensor:
    """SAM's positions of an embedding, `(1, C, G, G)`, from its prompt encoder's `pe_layer`.

    Always in single precision: half of it would shift the sines by several hundredths.
    """
    device = pe_layer.positional_encoding_gaussian_matrix.device
    if not torch.amp.is_autocast_available(
        device.type
    ):  # shapes without values, on the meta device
        return pe_layer((grid, grid))[None]
    with torch.autocast(device.type, enabled=False):
        return pe_layer((grid, grid))[None]
