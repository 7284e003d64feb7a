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

from samnet.models.linear_product import as_rows
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
        parts: The updated parts of the output, counted from 0, ascending and evenly spaced. Part p
            is the outputs from `p width` on.
        scale: Factor s.

    Returns:
        A tensor `(..., out)`.

    Raises:
        ValueError: The parts are not ascending and evenly spaced.
    """
    if list(parts) != list(range(parts[0], parts[-1] + 1, _step(parts))):
        raise ValueError(f"the parts {tuple(parts)} are not ascending and evenly spaced")
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
        rows, weight = as_rows(x).to(dtype), weight.to(dtype)
        downs, ups = pairs[: len(parts)], [up.to(dtype) for up in pairs[len(parts) :]]
        down = _concatenate(downs)
        # The scale goes into A, the smallest of the matrices.
        down = (down if scale == 1 else scale * down).to(dtype)
        y = functional.linear(rows, weight, None if bias is None else bias.to(dtype))
        low = rows @ down.T
        if not _is_batched(low, len(parts)):
            for index, (part, up) in enumerate(zip(parts, ups, strict=True)):
                _columns(y, part, len(up)).addmm_(_columns(low, index, up.shape[1]), up.T)
        else:
            _stack_columns(y, parts, len(ups[0])).baddbmm_(_stack_low(low, ups), _stack(ups).mT)
        ctx.save_for_backward(rows, low, weight, down, *ups)
        ctx.parts, ctx.scale, ctx.shape = parts, scale, x.shape
        ctx.types = [tensor.dtype for tensor in (x, *pairs)]
        return y if x.ndim == 2 else y.view(*x.shape[:-1], len(weight))

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Any, ...]:
        rows, low, weight, down, *ups = ctx.saved_tensors
        gradient = as_rows(gradient)
        up_gradients: Sequence[Tensor]
        if not _is_batched(low, len(ups)):
            rank = ups[0].shape[1]
            of_parts = [_columns(gradient, part, len(ups[0])) for part in ctx.parts]
            lows = [part @ up for part, up in zip(of_parts, ups, strict=True)]
            low_gradient = lows[0] if len(lows) == 1 else torch.cat(lows, dim=1)
            up_gradients = [part.T @ _columns(low, i, rank) for i, part in enumerate(of_parts)]
        else:
            stacked = _stack_columns(gradient, ctx.parts, len(ups[0]))
            low_gradient = torch.empty_like(low)
            torch.bmm(stacked, _stack(ups), out=_stack_low(low_gradient, ups))
            up_gradients = torch.bmm(stacked.mT, _stack_low(low, ups)).unbind()
        x_gradient = None
        if ctx.needs_input_grad[0]:
            x_gradient = (gradient @ weight).addmm_(low_gradient, down)
            x_gradient = x_gradient if len(ctx.shape) == 2 else x_gradient.view(ctx.shape)
        down_gradient = low_gradient.T @ rows
        if ctx.scale != 1:
            down_gradient *= ctx.scale
        down_gradients = [down_gradient] if len(ups) == 1 else down_gradient.chunk(len(ups))
        found = (x_gradient, *down_gradients, *up_gradients)
        x_gradient, *pair_gradients = (
            None if value is None else value.to(dtype)
            for value, dtype in zip(found, ctx.types, strict=True)
        )
        return x_gradient, None, None, None, None, *pair_gradients


def _is_batched(low: Tensor, num_parts: int) -> bool:
    """Tell whether all parts are updated at once.

    Products of CPUs in bfloat16 do not take such views, and warn of their own slow fallback.
    """
    return num_parts > 1 and not (low.device.type == "cpu" and low.dtype == torch.bfloat16)


def _step(parts: Sequence[int]) -> int:
    """Return the distance of consecutive parts."""
    return max(1, parts[1] - parts[0]) if len(parts) > 1 else 1


def _columns(matrix: Tensor, index: int, width: int) -> Tensor:
    """Return block `index` of the columns of a matrix, each `width` wide."""
    return matrix if matrix.shape[1] == width else matrix.narrow(1, index * width, width)


def _stack_columns(matrix: Tensor, parts: Sequence[int], width: int) -> Tensor:
    """Return some blocks of the columns of a matrix `(n, out)` as a view `(parts, n, width)`."""
    of_row, of_column = matrix.stride()
    of_block = width * of_column
    return matrix.as_strided(
        (len(parts), len(matrix), width),
        (_step(parts) * of_block, of_row, of_column),
        matrix.storage_offset() + parts[0] * of_block,
    )


def _stack_low(low: Tensor, ups: Sequence[Tensor]) -> Tensor:
    """Return a matrix `(n, parts * rank)` as a view `(parts, n, rank)`."""
    return _stack_columns(low, range(len(ups)), ups[0].shape[1])


def _stack(ups: Sequence[Tensor]) -> Tensor:
    """Return the matrices B of all parts, `(parts, width, rank)`."""
    return torch.stack(list(ups))


def _concatenate(downs: Sequence[Tensor]) -> Tensor:
    """Return the matrices A of all parts, one below the other."""
    return downs[0] if len(downs) == 1 else torch.cat(list(downs))
