"""The product of a linear layer with low-rank updates, and its gradients, in few operators.

Written with torch's own operators, the updates of a fused qkv layer would be padded, concatenated
and scaled in every step, forward and backward. On a GPU, whose kernels take less time than their
launches here, that would be a quarter of a training step.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from samnet.models.precision import autocast_type


def lora_product(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    *,
    down: Sequence[Tensor],
    up: Sequence[Tensor],
    parts: Sequence[int],
    scale: float,
) -> Tensor:
    """Return `W x + b + s B A x`, where each pair A, B updates one part of the output.

    Weight and bias get no gradients. Within an autocast all products are computed in its type, and
    the gradients are those of the parameters' own type.

    Args:
        x: `(..., in)`.
        weight: Frozen weight W `(out, in)`.
        bias: Frozen bias b `(out,)`, or None.
        down: Matrices A `(rank, in)`, one for each updated part.
        up: Matrices B `(width, rank)`, one for each updated part.
        parts: The updated parts of the output, counted from 0. Part p is the outputs from
            `p width` on.
        scale: Factor s.

    Returns:
        A tensor `(..., out)`.
    """
    return _LoraProduct.apply(x, weight, bias, tuple(parts), scale, *down, *up)


class _LoraProduct(torch.autograd.Function):
    """`lora_product` with the gradients of x, A and B."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        parts: tuple[int, ...],
        scale: float,
        *pairs: Tensor,
    ) -> Tensor:
        dtype = autocast_type(x) or x.dtype
        rows, weight = x.reshape(-1, x.shape[-1]).to(dtype), weight.to(dtype)
        downs, ups = pairs[: len(parts)], [up.to(dtype) for up in pairs[len(parts) :]]
        down = _concatenate(downs, dim=0)
        # The scale goes into A, the smallest of the matrices.
        down = (down if scale == 1 else scale * down).to(dtype)
        y = functional.linear(rows, weight, None if bias is None else bias.to(dtype))
        low = rows @ down.T
        for index, (part, up) in enumerate(zip(parts, ups, strict=True)):
            width, rank = up.shape
            _columns(y, part, width).addmm_(_columns(low, index, rank), up.T)
        ctx.save_for_backward(rows, low, weight, down, *ups)
        ctx.parts, ctx.scale, ctx.shape = parts, scale, x.shape
        ctx.types = [tensor.dtype for tensor in (x, *pairs)]
        return y.view(*x.shape[:-1], len(weight))

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Any, ...]:
        rows, low, weight, down, *ups = ctx.saved_tensors
        gradient = gradient.reshape(-1, len(weight))
        low_gradients, up_gradients = [], []
        for index, (part, up) in enumerate(zip(ctx.parts, ups, strict=True)):
            width, rank = up.shape
            of_part = _columns(gradient, part, width)
            low_gradients.append(of_part @ up)
            up_gradients.append(of_part.T @ _columns(low, index, rank))
        low_gradient = _concatenate(low_gradients, dim=1)
        x_gradient = None
        if ctx.needs_input_grad[0]:
            x_gradient = (gradient @ weight).addmm_(low_gradient, down).view(ctx.shape)
        down_gradient = low_gradient.T @ rows
        if ctx.scale != 1:
            down_gradient *= ctx.scale
        down_gradients = [down_gradient]
        if len(ups) > 1:
            down_gradients = list(down_gradient.chunk(len(ups)))
        found = (x_gradient, *down_gradients, *up_gradients)
        x_gradient, *pair_gradients = (
            None if value is None else value.to(dtype)
            for value, dtype in zip(found, ctx.types, strict=True)
        )
        return x_gradient, None, None, None, None, *pair_gradients


def _columns(matrix: Tensor, index: int, width: int) -> Tensor:
    """Return block `index` of the columns of a matrix, each `width` wide."""
    return matrix if matrix.shape[1] == width else matrix.narrow(1, index * width, width)


def _concatenate(matrices: Sequence[Tensor], dim: int) -> Tensor:
    """Concatenate matrices, where there are several."""
    return matrices[0] if len(matrices) == 1 else torch.cat(list(matrices), dim=dim)
