"""Attention on a CPU: for some heads, or some queries of a head, at a time.

There the fused kernel is fastest when it is given the matrix of positions, for a few heads or
queries at a time, so that the matrix stays in the cache. Training needs the gradient of that
matrix, which the kernel does not compute; there plain products are as fast. Measurements:
benchmarks/README.md.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from samnet.models.positions import Positions, gradients_of_terms

# Products of queries and keys that a CPU works on at a time: 4 MiB in single precision.
CHUNK_VALUES = 2**20


def attend_in_chunks(query: Tensor, key: Tensor, value: Tensor, positions: Positions) -> Tensor:
    """Compute `softmax(query key^T / sqrt(D) + bias) value`, with gradients of all of them.

    Args:
        query: `(M, N, D)`.
        key: `(M, K, D)`, row by row; the additional key without a place is the last.
        value: `(M, K, D)`, in the order of the keys.
        positions: The position terms, whose `bias` is added.

    Returns:
        A tensor `(M, N, D)`.
    """
    return _AttendInChunks.apply(query, key, value, *positions.terms())


class _AttendInChunks(torch.autograd.Function):
    """`attend_in_chunks` with its backward pass.

    The softmax weights are kept for the backward pass if those of one head fit into a chunk, as
    those of windows do. For larger images they are computed again, which takes more time and far
    less memory.
    """

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, *terms: Tensor) -> Tensor:
        keeps_weights = any(ctx.needs_input_grad) and query.shape[1] * key.shape[1] <= CHUNK_VALUES
        attended, kept = None, []
        # Takes the memory of the chunks that tensors without values leave out.
        left_out = _weights_left_out(query, key) if keeps_weights and query.is_meta else None
        for heads in _chunks(query, key):
            q, k, v, *of_heads = (_part(tensor, heads) for tensor in (query, key, value, *terms))
            positions = Positions(*of_heads)
            if keeps_weights:
                kept.append(_softmax_weights(q, k, positions))
                piece = torch.bmm(kept[-1], v)
            else:
                piece = _attend_fused(q, k, v, positions)
            attended = _join(attended, piece, heads, len(query))
        assert attended is not None  # there is always a chunk
        ctx.shapes = [term.shape for term in terms]
        # With the weights kept, the terms are not needed again. Else they are kept without the
        # larger tensor that they may be views of.
        terms = () if keeps_weights else tuple(term.contiguous() for term in terms)
        ctx.num_saved_terms = len(terms)
        ctx.save_for_backward(query, key, value, attended, left_out, *terms, *kept)
        return attended

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, attended, _, *others = ctx.saved_tensors
        terms, kept = others[: ctx.num_saved_terms], others[ctx.num_saved_terms :]
        found: list[Tensor | None] = [None] * (3 + len(ctx.shapes))
        for number, heads in enumerate(_chunks(query, key)):
            q, k, v, result, incoming, *of_heads = (
                _part(tensor, heads) for tensor in (query, key, value, attended, gradient, *terms)
            )
            weights = kept[number] if kept else _softmax_weights(q, k, Positions(*of_heads))
            of_value = torch.bmm(weights.mT, incoming)
            # Gradient of a softmax: weights (d - sum(weights d)), where d is the gradient of the
            # weights. That sum equals the product of output and incoming gradient.
            total = (incoming * result).sum(dim=-1, keepdim=True)
            of_scores = torch.baddbmm(total, incoming, v.mT, beta=-1).mul_(weights)
            scale = q.shape[-1] ** -0.5
            # With beta = 0 the first argument is ignored, except for its shape.
            of_query = torch.baddbmm(q, of_scores, k, beta=0, alpha=scale)
            of_key = torch.baddbmm(k, of_scores.mT, q, beta=0, alpha=scale)
            shapes = [torch.Size((len(q), *shape[1:])) for shape in ctx.shapes]
            pieces = of_query, of_key, of_value, *gradients_of_terms(of_scores, shapes)
            for index, piece in enumerate(pieces):
                found[index] = _join(found[index], piece, heads, len(query))
        return tuple(found)


def _softmax_weights(query: Tensor, key: Tensor, positions: Positions) -> Tensor:
    """Return the share of each value in each query's result, `(M, N, K)`."""
    scores = positions.bias().baddbmm_(query, key.mT, alpha=query.shape[-1] ** -0.5)
    return scores.softmax(dim=-1)


def _attend_fused(query: Tensor, key: Tensor, value: Tensor, positions: Positions) -> Tensor:
    """Attend with the fused kernel, which keeps nothing, for some rows of queries at a time."""
    attended, row_length = torch.empty_like(query), query.shape[1] // positions.rows.shape[1]
    for rows in _ranges(positions.rows, 1, CHUNK_VALUES // (key.shape[1] * row_length)):
        queries = slice(rows.start * row_length, rows.stop * row_length)
        of_rows = Positions(*(term[:, rows] for term in positions.terms()))
        fused = functional.scaled_dot_product_attention(
            query[None, :, queries], key[None], value[None], of_rows.bias()[None]
        )
        attended[:, queries] = fused[0]
    return attended


def _part(tensor: Tensor, heads: slice) -> Tensor:
    """Return some heads of a tensor: the tensor where these are all."""
    return tensor if heads == slice(0, len(tensor)) else tensor[heads]


def _join(whole: Tensor | None, piece: Tensor, heads: slice, count: int) -> Tensor:
    """Put a result of some heads into that of all `count` heads.

    Where the piece has all heads, it is that result, without a copy.
    """
    if len(piece) == count:
        return piece
    if whole is None:
        whole = piece.new_empty(count, *piece.shape[1:])
    whole[heads] = piece
    return whole


def _chunks(query: Tensor, key: Tensor) -> Iterator[slice]:
    """Yield consecutive heads whose scores fit into a chunk together; always at least one."""
    return _ranges(query, 0, CHUNK_VALUES // (query.shape[1] * key.shape[1]))


def _ranges(tensor: Tensor, dimension: int, size: int) -> Iterator[slice]:
    """Yield slices of a dimension, each of `size`, but at least of 1; the last may be shorter.

    Of a tensor without values only the first: the others would take the same memory after it.
    """
    size, length = max(1, size), tensor.shape[dimension]
    slices = (slice(first, min(first + size, length)) for first in range(0, length, size))
    return itertools.islice(slices, 1) if tensor.is_meta else slices


def _weights_left_out(query: Tensor, key: Tensor) -> Tensor:
    """Return what the softmax weights of all chunks but the first take, `(M', N, K)`."""
    [first] = _chunks(query, key)
    return query.new_empty(len(query[first.stop :]), query.shape[1], key.shape[1])
