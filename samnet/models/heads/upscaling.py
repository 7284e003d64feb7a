"""The upscaling of SAM's mask decoder and of longer ones, on pixels that lie as tokens.

Transposed convolutions have steps as large as their kernels, so each output pixel comes from
one input pixel, and a convolution is a product. With the channels last, neither the products nor
the norm have to move anything, and pixels are put in order once there are few channels.
"""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from samnet.models.sam_modules import LayerNorm2d

_STEP = 2  # output pixels for an input pixel of each transposed convolution, along each axis


def upscale_tokens(upscaling: Any, pixels: Tensor) -> Tensor:
    """Run the `output_upscaling` of a mask decoder.

    Args:
        upscaling: Transposed convolutions, each followed by a norm over the channels, if any, and
            an activation; SAM's has two, with a norm after the first.
        pixels: `(B, G G, C)`.

    Returns:
        `(B, 4^n G G, c)` after n convolutions: the pixels that the first pixel becomes, then those
        of the others, as `in_order` expects them.
    """
    for layer in upscaling:
        if isinstance(layer, nn.ConvTranspose2d):
            pixels = _enlarge(layer, pixels)
        elif isinstance(layer, LayerNorm2d):
            width = pixels.shape[-1:]
            pixels = functional.layer_norm(pixels, width, layer.weight, layer.bias, layer.eps)
        else:
            pixels = layer(pixels)
    return pixels


def in_order(pixels: Tensor, grid: int) -> Tensor:
    """Put enlarged pixels where they lie in the image.

    Args:
        pixels: `(B, K, 4^n G G)`, in the order of `upscale_tokens`.
        grid: Rows and columns G.

    Returns:
        `(B, K, 2^n G, 2^n G)`.
    """
    num_steps = round(math.log2(pixels.shape[-1] / grid**2) / 2)
    steps = (grid, grid, *(_STEP, _STEP) * num_steps)  # rows and columns in turns
    rows, columns = range(2, 2 + len(steps), 2), range(3, 2 + len(steps), 2)
    ordered = pixels.unflatten(-1, steps).permute(0, 1, *rows, *columns)
    return ordered.flatten(2, 2 + num_steps).flatten(3)


def _enlarge(convolution: Any, pixels: Tensor) -> Tensor:
    """Run a transposed convolution on `(B, N, C)`, and return `(B, 4 N, c)`."""
    weight = convolution.weight.permute(2, 3, 1, 0).flatten(0, 2)
    bias = convolution.bias.repeat(_STEP * _STEP)
    enlarged = functional.linear(pixels, weight, bias)
    return enlarged.unflatten(-1, (_STEP * _STEP, -1)).flatten(1, 2)
