"""Attention with SAM's decomposed relative positions, exact, in the form that suits the device.

Written as additional channels of queries and keys, positions need no matrix of all queries and
keys, and the fused kernels of GPUs, which are slow with a large matrix, can be used. For windows
the matrix is small, and the kernel takes half the time with it. A CPU works on a few heads at a
time, with a matrix for these. In bfloat16, on CPUs with units for it, products are cheap and sums
are not: there prediction uses the additional channels, too.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from samnet.models.attention_form import attention_form, device_of_form
from samnet.models.chunked_attention import attend_in_chunks
from samnet.models.positions import Positions, gradients_of_terms

# Fused kernels take widths, and rows of a matrix, that are multiples of it.
_WIDTH_UNIT = 8


def attend(query: Tensor, key: Tensor, value: Tensor, positions: Positions) -> Tensor:
    """Compute `softmax(query key^T / sqrt(D) + bias) value`.

    Args:
        query: `(M, N, D)`.
        key: `(M, K, D)`, row by row; the additional key without a place is the last.
        value: `(M, K, D)`, in the order of the keys.
        positions: The position terms, whose `bias` is added.

    Returns:
        A tensor `(M, N, D)`.
    """
    form = attention_form(device_of_form(query), key.shape[1])
    # In bfloat16 a CPU predicts faster with codes. The fused kernel's own backward pass is slower
    # than that of the chunks, in either precision.
    is_prediction = query.dtype == torch.bfloat16 and not _has_graph(query, key, value, *positions)
    if form == "chunks" and not is_prediction:
        return attend_in_chunks(query, key, value, positions)
    attend_at_once = attend_with_matrix if form == "matrix" else attend_with_codes
    return attend_at_once(query, key, value, positions)


def _has_graph(*tensors: Tensor | None) -> bool:
    """Tell whether the result of some tensors needs a backward pass."""
    is_needed = any(tensor is not None and tensor.requires_grad for tensor in tensors)
    return is_needed and torch.is_grad_enabled()


def attend_with_matrix(query: Tensor, key: Tensor, value: Tensor, positions: Positions) -> Tensor:
    """Compute `attend` as one fused kernel that is given the matrix of all positions.

    Args:
        query: `(M, N, D)`.
        key: `(M, K, D)`, row by row; the additional key without a place is the last.
        value: `(M, K, D)`, in the order of the keys.
        positions: The position terms.

    Returns:
        A tensor `(M, N, D)`.
    """
    terms = [term.to(query.dtype) for term in positions.terms()]
    bias = _AlignedBias.apply(*terms)
    return functional.scaled_dot_product_attention(query[None], key[None], value[None], bias[None])[
        0
    ]


class _AlignedBias(torch.autograd.Function):
    """`Positions.bias` with rows that the kernels of GPUs take without a copy."""

    @staticmethod
    def forward(ctx: Any, *terms: Tensor) -> Tensor:
        ctx.shapes = [term.shape for term in terms]
        return Positions(*terms).bias(_WIDTH_UNIT)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, ...]:
        return gradients_of_terms(gradient, ctx.shapes)


def attend_with_codes(query: Tensor, key: Tensor, value: Tensor, positions: Positions) -> Tensor:
    """Compute `attend` as one fused kernel on wider queries and keys.

    Its memory grows with N, not with N K.

    Args:
        query: `(M, N, D)`.
        key: `(M, K, D)`, row by row; the additional key without a place is the last.
        value: `(M, K, D)`, in the order of the keys.
        positions: The position terms.

    Returns:
        A tensor `(M, N, D)`.
    """
    channels = query.shape[-1]
    terms = [term.to(query.dtype) for term in positions.terms()]
    missing = -(channels + sum(term.shape[-1] for term in terms)) % _WIDTH_UNIT
    scaled = (query * channels**-0.5).view(*terms[0].shape[:-1], channels)
    if missing:
        terms.append(scaled.new_zeros(1).expand(*scaled.shape[:-1], missing))
    wide_query = torch.cat([scaled, *terms], dim=-1).view(*query.shape[:2], -1)
    codes = positions.codes(missing).to(key.dtype)
    wide_key = torch.cat([key, codes.expand(len(key), -1, -1)], dim=-1)
    # Flash kernels only take queries, keys and values of equal widths.
    wide_value = functional.pad(value, (0, wide_query.shape[-1] - channels))
    heads = functional.scaled_dot_product_attention(
        wide_query[None], wide_key[None], wide_value[None], scale=1.0
    )
    return heads[0, ..., :channels]
