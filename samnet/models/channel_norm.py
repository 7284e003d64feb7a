"""The layer norm over channels of SAM's neck and mask decoder: same weights, in one kernel."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from samnet.models.sam_modules import LayerNorm2d


class ChannelNorm(LayerNorm2d):
    """Replaces a `LayerNorm2d` of segment_anything.

    For each pixel it subtracts the mean of the channels and divides by their standard deviation.
    segment_anything writes that as ten operators and as many intermediate results.

    Attributes:
        weight: Factor of each channel, `(C,)`.
        bias: Added to each channel, `(C,)`.
        eps: Added to the variance.
    """

    def __init__(self, original: Any) -> None:
        """Take over the weights of a norm.

        Args:
            original: The `LayerNorm2d`.
        """
        nn.Module.__init__(self)
        self.weight, self.bias, self.eps = original.weight, original.bias, original.eps

    def forward(self, x: Tensor) -> Tensor:
        """Return the normalised features.

        Args:
            x: `(B, C, H, W)`.

        Returns:
            A tensor `(B, C, H, W)`, with the channels last in memory. In half precision it has the
            type of the weights, as segment_anything's result.
        """
        x = x.permute(0, 2, 3, 1)
        if x.dtype != self.weight.dtype:
            x = x.to(torch.promote_types(x.dtype, self.weight.dtype))
        y = functional.layer_norm(x, self.weight.shape, self.weight, self.bias, self.eps)
        return y.permute(0, 3, 1, 2)


def fuse_norms(module: nn.Module) -> None:
    """Replace every norm over channels in a module of segment_anything, in place.

    Args:
        module: The module.
    """
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if type(child) is LayerNorm2d:
                setattr(parent, name, ChannelNorm(child))
