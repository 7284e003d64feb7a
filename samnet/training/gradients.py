"""The gradients of a loss, without an operator for each weight.

`loss.backward()` adds every gradient to what the weight has. Where it has none, that still takes an
operator for each weight, of which a network with LoRA has hundreds.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


def set_gradients(loss: Tensor, weights: Sequence[nn.Parameter]) -> None:
    """Compute the gradients of a loss, and make them the gradients of the weights.

    Args:
        loss: A scalar.
        weights: The weights. What they have as gradient before is replaced; weights that the loss
            does not depend on have none afterwards.
    """
    found = torch.autograd.grad(loss, weights, allow_unused=True)
    taken: set[int] = set()  # addresses
    for weight, gradient in zip(weights, found, strict=True):
        weight.grad = None if gradient is None else _as_own(gradient, weight, taken)


def _as_own(gradient: Tensor, weight: nn.Parameter, taken: set[int]) -> Tensor:
    """Return a gradient in memory that no other weight's has, in the order of its weight.

    Both are needed to change it in place, and fused optimisers read weight and gradient side by
    side. Two weights whose sum is used have the same tensor as gradient.
    """
    is_shared = gradient.data_ptr() in taken
    taken.add(gradient.data_ptr())
    if is_shared or gradient.stride() != weight.stride():
        return torch.empty_like(weight).copy_(gradient)
    return gradient
