"""Convolutions of many channels, trained on a CPU in bfloat16."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.grad import conv2d_input

from samnet.models.precision import autocast_type

# By measurement: with 1024 channels torch 2.13 takes three times as long for the gradient of the
# weights as for the convolution, which has as many operations; with 512 it takes as long.
_MIN_CHANNELS = 1024


class WideConvolution(nn.Conv2d):
    """A 3 x 3 convolution with padding 1, whose gradients take less time on a CPU in bfloat16.

    Weights, results and gradients are those of `torch.nn.Conv2d`, up to rounding.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        """Build the convolution.

        Args:
            inputs: Channels of the input.
            outputs: Channels of the output.
        """
        super().__init__(inputs, outputs, 3, padding=1)

    def forward(self, input: Tensor) -> Tensor:
        """Return the convolution of images.

        Args:
            input: `(B, inputs, H, W)`.

        Returns:
            `(B, outputs, H, W)`.
        """
        is_half = autocast_type(input) == torch.bfloat16 and input.device.type == "cpu"
        is_trained = torch.is_grad_enabled() and self.weight.requires_grad
        if not (is_half and is_trained and self.in_channels >= _MIN_CHANNELS):
            return super().forward(input)
        assert self.bias is not None
        half = (tensor.to(torch.bfloat16) for tensor in (input, self.weight, self.bias))
        return _Convolution.apply(*half)


class _Convolution(torch.autograd.Function):
    """Convolves, and makes the gradient of the weights of one product for each of their pixels."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(images, weight)
        return functional.conv2d(images, weight, bias, padding=1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor, Tensor]:
        [gradient], (images, weight) = gradients, ctx.saved_tensors
        of_images = None
        if ctx.needs_input_grad[0]:
            of_images = conv2d_input(images.shape, weight, gradient, padding=1)
        return of_images, _weight_gradient(images, gradient), gradient.sum((0, 2, 3))


def _weight_gradient(images: Tensor, gradient: Tensor) -> Tensor:
    """Return the gradient `(K, C, 3, 3)` for images `(B, C, H, W)`, from one of `(B, K, H, W)`."""
    rows, columns = images.shape[2:]
    padded = functional.pad(images, (1, 1, 1, 1)).transpose(0, 1)
    by_output = gradient.transpose(0, 1).flatten(1)
    products = []
    for down in range(3):
        for along in range(3):
            shifted = padded[..., down : down + rows, along : along + columns].flatten(1)
            products.append(by_output @ shifted.T)
    return torch.stack(products, dim=-1).unflatten(-1, (3, 3))
