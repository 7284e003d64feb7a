"""Trained linear layers with their gradients in few operators, one by one and several at once.

Torch's own backward pass of a linear layer turns its gradients around and back, with a view for
each. SAM's mask decoder has dozens of such layers, each with little to compute.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from samnet.models.precision import autocast_type


def as_rows(x: Tensor) -> Tensor:
    """Return a tensor as a matrix.

    Args:
        x: `(..., C)`.

    Returns:
        A tensor `(N, C)`: the argument, where it is a matrix.
    """
    return x if x.ndim == 2 else x.reshape(-1, x.shape[-1])


class CompactLinear(nn.Linear):
    """Replaces a linear layer: same weights, same results, fewer operators in a training step."""

    def __init__(self, original: nn.Linear) -> None:
        """Take over the weights of a layer.

        Args:
            original: The layer.
        """
        nn.Module.__init__(self)
        self.in_features, self.out_features = original.in_features, original.out_features
        self.weight, self.bias = original.weight, original.bias

    def forward(self, x: Tensor) -> Tensor:
        """Return `W x + b`.

        Args:
            x: `(..., in)`.

        Returns:
            A tensor `(..., out)`.
        """
        if self.bias is None or not torch.is_grad_enabled():
            return super().forward(x)
        return _LinearProduct.apply(x, self.weight, self.bias)


def compact_linears(module: nn.Module) -> None:
    """Replace every linear layer in a module, in place.

    Args:
        module: The module.
    """
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if type(child) is nn.Linear:
                setattr(parent, name, CompactLinear(child))


def parallel_linear(x: Tensor, layers: Sequence[nn.Linear]) -> Tensor:
    """Apply K linear layers of one shape, each to its own input.

    Args:
        x: `(K, N, in)`.
        layers: The layers, with a bias.

    Returns:
        A tensor `(K, N, out)`.
    """
    weights, biases = [layer.weight for layer in layers], [layer.bias for layer in layers]
    return _ParallelLinear.apply(x, *weights, *biases)


class _LinearProduct(torch.autograd.Function):
    """`y = W x + b`; the gradients are `W^T g`, `g x^T` and `g`, summed over all positions."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        dtype = autocast_type(x) or x.dtype
        ctx.shape, ctx.types = x.shape, (x.dtype, weight.dtype, bias.dtype)
        rows, weight = as_rows(x).to(dtype), weight.to(dtype)
        ctx.save_for_backward(rows if ctx.needs_input_grad[1] else None, weight)
        y = functional.linear(rows, weight, bias.to(dtype))
        return y if x.ndim == 2 else y.view(*x.shape[:-1], -1)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        rows, weight = ctx.saved_tensors
        gradient = as_rows(gradient)
        of_x = of_weight = of_bias = None
        if ctx.needs_input_grad[0]:
            of_x = (gradient @ weight).to(ctx.types[0])
            of_x = of_x if len(ctx.shape) == 2 else of_x.view(ctx.shape)
        if ctx.needs_input_grad[1]:
            of_weight = (gradient.T @ rows).to(ctx.types[1])
        if ctx.needs_input_grad[2]:
            of_bias = gradient.sum(dim=0).to(ctx.types[2])
        return of_x, of_weight, of_bias


class _ParallelLinear(torch.autograd.Function):
    """`parallel_linear` with its gradients, each a batched product.

    The weights are stacked again in the backward pass, so that no copy of them is kept.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, *parameters: Tensor) -> Tensor:
        dtype = autocast_type(x) or x.dtype
        weights, biases = parameters[: len(x)], parameters[len(x) :]
        ctx.types = (x.dtype, weights[0].dtype, biases[0].dtype)
        x = x.to(dtype)
        ctx.save_for_backward(x if any(ctx.needs_input_grad[1:]) else None, *weights)
        bias = torch.stack(biases).to(dtype)[:, None]
        return torch.baddbmm(bias, x, torch.stack(weights).to(dtype).mT)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, *weights = ctx.saved_tensors
        of_x = None
        if ctx.needs_input_grad[0]:
            of_x = torch.bmm(gradient, torch.stack(weights).to(gradient.dtype)).to(ctx.types[0])
        if x is None:
            return of_x, *[None] * (2 * len(weights))
        of_weights = torch.bmm(gradient.mT, x).to(ctx.types[1])
        of_biases = gradient.sum(dim=1).to(ctx.types[2])
        return of_x, *of_weights.unbind(), *of_biases.unbind()
