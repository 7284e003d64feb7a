"""The upscaling of SAM's mask decoder, on pixels that lie as tokens.

Its transposed convolutions have steps as large as their kernels, so each output pixel comes from
one input pixel, and a convolution is a product. With the channels last, neither the products nor
the norm have to move anything, and pixels are put in order once there are few channels.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.nn import functional

_STEP = 2  # output pixels for an input pixel of each transposed convolution, along each axis


def upscale_tokens(upscaling: Any, pixels: Tensor) -> Tensor:
    """Run the `output_upscaling` of SAM's mask decoder.

    Args:
        upscaling: Transposed convolution, norm, GELU, transposed convolution, GELU.
        pixels: `(B, G G, C)`.

    Returns:
        `(B, 16 G G, c)`: the 4 x 4 pixels that the first pixel becomes, then those of the others,
        as `in_order` expects them.
    """
    first, norm, activation, second, last_activation = upscaling
    enlarged = _enlarge(first, pixels)
    enlarged = functional.layer_norm(
        enlarged, enlarged.shape[-1:], norm.weight, norm.bias, norm.eps
    )
    return last_activation(_enlarge(second, activation(enlarged)))


def in_order(pixels: Tensor, grid: int) -> Tensor:
    """Put enlarged pixels where they lie in the image.

    Args:
        pixels: `(B, K, 16 G G)`, in the order of `upscale_tokens`.
        grid: Rows and columns G.

    Returns:
        `(B, K, 4 G, 4 G)`.
    """
    steps = (grid, grid, _STEP, _STEP, _STEP, _STEP)  # rows and columns in turns
    ordered = pixels.unflatten(-1, steps).permute(0, 1, 2, 4, 6, 3, 5, 7)
    return ordered.flatten(2, 4).flatten(3)


def _enlarge(convolution: Any, pixels: Tensor) -> Tensor:
    """Run a transposed convolution on `(B, N, C)`, and return `(B, 4 N, c)`."""
    weight = convolution.weight.permute(2, 3, 1, 0).flatten(0, 2)
    bias = convolution.bias.repeat(_STEP * _STEP)
    enlarged = functional.linear(pixels, weight, bias)
    return enlarged.unflatten(-1, (_STEP * _STEP, -1)).flatten(1, 2)
