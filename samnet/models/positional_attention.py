"""Attention with SAM's decomposed relative positions, exactly, in the form that suits the device.

A key of row r and column c gets from a query, beside the scaled product of both, what the query has for row r and what
it has for column c (Li et al. 2022, arXiv 2112.01526). These two can be written as further channels: the query's own
numbers for all rows and columns, against 1 in the key's row and in its column, and 0 elsewhere. So no matrix of all
queries and keys has to exist, and the fused kernels of GPUs, which take no such matrix quickly, apply.

On a CPU the fused kernel is fastest with the matrix given, for a few heads, or queries, at a time, so that it stays in
the cache. Training needs the gradient of that matrix, which the kernel does not give; there plain products are as fast.
What was measured is in benchmarks/README.md.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

# Products of queries and keys that a CPU works on at a time: 4 MiB in single precision.
_CHUNK = 2**20
# Fused kernels take widths that are multiples of it.
_WIDTH_UNIT = 8
_MEANT_DEVICE: ContextVar[str] = ContextVar("meant_device", default="cuda")


@contextlib.contextmanager
def as_if_on(device: str) -> Iterator[None]:
    """Within it, tensors without values (torch's `meta` device) take the form of attention of a device's type."""
    token = _MEANT_DEVICE.set(device)
    try:
        yield
    finally:
        _MEANT_DEVICE.reset(token)


class Positions(NamedTuple):
    """What queries have for keys by their places: M heads of windows, N queries, keys in `h` rows and `w` columns.

    rows: `(M, N, h)`. columns: `(M, N, w)`. beyond: `(M, N, 1)`, for one further key, which has no place; or None.
    """

    rows: Tensor
    columns: Tensor
    beyond: Tensor | None = None

    def each(self) -> tuple[Tensor, ...]:
        """The tensors there are, whose channels belong to those of `codes`."""
        return (
            (self.rows, self.columns)
            if self.beyond is None
            else (self.rows, self.columns, self.beyond)
        )

    def codes(self) -> Tensor:
        """`(K, h + w)`, or `(K, h + w + 1)` with a key beyond: 1 in each key's row and column, else 0."""
        height, width = self.rows.shape[-1], self.columns.shape[-1]
        return _codes(height, width, self.beyond is not None, self.rows.dtype, self.rows.device)

    def bias(self) -> Tensor:
        """`(M, N, K)`: what is added to the product of each query with each key."""
        height, width = self.rows.shape[-1], self.columns.shape[-1]
        bias = self.rows.new_empty(*self.rows.shape[:2], height * width + (self.beyond is not None))
        inside = bias[..., : height * width].unflatten(-1, (height, width))
        torch.add(self.rows[..., :, None], self.columns[..., None, :], out=inside)
        if self.beyond is not None:
            bias[..., -1:] = self.beyond
        return bias

    def of_bias(self, gradient: Tensor) -> tuple[Tensor, ...]:
        """The gradients of `each`, from that of `bias`."""
        height, width = self.rows.shape[-1], self.columns.shape[-1]
        inside = gradient[..., : height * width].unflatten(-1, (height, width))
        parts = inside.sum(dim=-1), inside.sum(dim=-2)
        return parts if self.beyond is None else (*parts, gradient[..., -1:])

    def part(self, heads: slice, queries: slice = slice(None)) -> Positions:
        beyond = None if self.beyond is None else self.beyond[heads, queries]
        return Positions(self.rows[heads, queries], self.columns[heads, queries], beyond)


@lru_cache(maxsize=16)
def _codes(
    height: int, width: int, has_beyond: bool, dtype: torch.dtype, device: torch.device
) -> Tensor:
    with torch.inference_mode(
        False
    ):  # prediction may ask first, and training must be able to take what is kept
        in_row = torch.eye(height, dtype=dtype, device=device).repeat_interleave(width, dim=0)
        in_column = torch.eye(width, dtype=dtype, device=device).repeat(height, 1)
        codes = torch.cat([in_row, in_column], dim=1)
        return torch.block_diag(codes, codes.new_ones(1, 1)) if has_beyond else codes


def attend(query: Tensor, key: Tensor, value: Tensor, positions: Positions) -> Tensor:
    """`softmax(query key^T / sqrt(D) + bias) value`, `(M, N, D)`.

    query: `(M, N, D)`. key, value: `(M, K, D)`, row by row, the one beyond last.
    """
    device = query.device.type
    if (_MEANT_DEVICE.get() if device == "meta" else device) == "cpu":
        return _AttendInChunks.apply(query, key, value, *positions)
    return attend_with_codes(query, key, value, positions)


def attend_with_codes(query: Tensor, key: Tensor, value: Tensor, positions: Positions) -> Tensor:
    """`attend` as one fused kernel on wider queries and keys: its memory grows with N, not with N K."""
    channels = query.shape[-1]
    wide_query = torch.cat(
        [query * channels**-0.5, *(part.to(query.dtype) for part in positions.each())], dim=-1
    )
    wide_key = torch.cat([key, positions.codes().to(key.dtype).expand(len(key), -1, -1)], dim=-1)
    missing = -wide_query.shape[-1] % _WIDTH_UNIT
    wide_query, wide_key = (
        functional.pad(wide_query, (0, missing)),
        functional.pad(wide_key, (0, missing)),
    )
    wide_value = functional.pad(
        value, (0, wide_query.shape[-1] - channels)
    )  # flash kernels take equal widths alone
    heads = functional.scaled_dot_product_attention(
        wide_query[None], wide_key[None], wide_value[None], scale=1.0
    )
    return heads[0, ..., :channels]


class _AttendInChunks(torch.autograd.Function):
    """For CPUs: some heads at a time, and of a large image some queries.

    The weights of keys are kept for the backward pass where those of a head fit into a chunk, as those of windows do;
    those of larger images are computed again, which takes more time and far less memory.
    """

    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        rows: Tensor,
        columns: Tensor,
        beyond: Tensor | None,
    ) -> Tensor:
        positions, trains = Positions(rows, columns, beyond), any(ctx.needs_input_grad)
        attended, kept = torch.empty_like(query), []
        for heads in _chunks(query, key):
            k, v = key[heads], value[heads]
            if trains and query.shape[1] * key.shape[1] <= _CHUNK:
                kept.append(_weights(query[heads], k, positions.part(heads)))
                torch.bmm(kept[-1], v, out=attended[heads])
                continue
            for some in _stretches(query.shape[1], _CHUNK // key.shape[1]):
                q, bias = query[heads, some], positions.part(heads, some).bias()
                fused = functional.scaled_dot_product_attention(
                    q[None], k[None], v[None], bias[None]
                )
                attended[heads, some] = fused[0]
        ctx.save_for_backward(query, key, value, rows, columns, beyond, attended, *kept)
        return attended

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, rows, columns, beyond, attended, *kept = ctx.saved_tensors
        positions, scale = Positions(rows, columns, beyond), query.shape[-1] ** -0.5
        of_query, of_key, of_value = (
            torch.empty_like(query),
            torch.empty_like(key),
            torch.empty_like(value),
        )
        of_positions = [torch.empty_like(part) for part in positions.each()]
        for number, heads in enumerate(_chunks(query, key)):
            placed, given = positions.part(heads), gradient[heads]
            weights = kept[number] if kept else _weights(query[heads], key[heads], placed)
            torch.bmm(weights.mT, given, out=of_value[heads])
            # Of a softmax: weights (d - sum(weights d)), where d is the gradient of the weights; that sum is this one.
            total = (given * attended[heads]).sum(dim=-1, keepdim=True)
            of_scores = torch.bmm(given, value[heads].mT).sub_(total).mul_(weights)
            torch.bmm(of_scores, key[heads], out=of_query[heads]).mul_(scale)
            torch.bmm(of_scores.mT, query[heads], out=of_key[heads]).mul_(scale)
            for part, piece in zip(of_positions, placed.of_bias(of_scores), strict=True):
                part[heads] = piece
        return of_query, of_key, of_value, *of_positions, *([None] if beyond is None else [])


def _weights(query: Tensor, key: Tensor, positions: Positions) -> Tensor:
    """How much of each value each query takes: `(M, N, K)`."""
    scores = positions.bias().baddbmm_(query, key.mT, alpha=query.shape[-1] ** -0.5)
    return scores.softmax(dim=-1)


def _chunks(query: Tensor, key: Tensor) -> Iterator[slice]:
    """Consecutive heads whose scores are small together; always one at least."""
    return _stretches(len(query), _CHUNK // (query.shape[1] * key.shape[1]))


def _stretches(length: int, size: int) -> Iterator[slice]:
    """Slices of a length, each of `size`, or of 1 where that is 0; the last may be shorter."""
    for first in range(0, length, max(1, size)):
        yield slice(first, first + max(1, size))
