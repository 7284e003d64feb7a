"""Attention with SAM's decomposed relative positions, exact, in the form that suits the device.

For a key in row r and column c, a query adds two terms to the scaled product of query and key: its
term for row r and its term for column c (Li et al. 2022, arXiv 2112.01526). These terms can be
written as additional channels. The query holds its terms for all rows and columns; the key holds 1
at its row and at its column, and 0 elsewhere. Then no matrix of all queries and keys is needed, and
the fused kernels of GPUs, which are slow with a large matrix, can be used. For windows the matrix
is small, and the kernel takes half the time with it.

On a CPU the fused kernel is fastest when it is given the matrix, for a few heads or queries at a
time, so that the matrix stays in the cache. Training needs the gradient of that matrix, which the
kernel does not compute; there plain products are as fast. In bfloat16, on CPUs with units for it,
products are cheap and sums are not: there prediction uses the additional channels, and the matrix
and its gradient are products with them. Measurements: benchmarks/README.md.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator
from contextvars import ContextVar
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

# Products of queries and keys that a CPU works on at a time: 4 MiB in single precision.
CHUNK_VALUES = 2**20
# Fused kernels take widths, and rows of a matrix, that are multiples of it.
_WIDTH_UNIT = 8
# By measurement on an H100 in bfloat16: windows of 14 x 14 tokens take 0.20 ms with a matrix and
# 0.39 ms with codes; 28 x 28 tokens 0.53 and 0.50 ms, 64 x 64 tokens 5.6 and 2.5 ms.
_MOST_KEYS_OF_A_MATRIX = 256
_ASSUMED_DEVICE: ContextVar[str | None] = ContextVar("assumed_device", default=None)


@contextlib.contextmanager
def as_if_on(device: str) -> Iterator[None]:
    """Choose the form of attention of a device for all tensors, wherever they are.

    Tensors without values (torch's `meta` device) have that of `cuda` otherwise.

    Args:
        device: Type of the device whose form is used within the context, such as `cpu`.

    Yields:
        None.
    """
    token = _ASSUMED_DEVICE.set(device)
    try:
        yield
    finally:
        _ASSUMED_DEVICE.reset(token)


def device_of_form(tensor: Tensor) -> str:
    """Return the type of the device whose form of attention a tensor is given.

    Args:
        tensor: Any tensor.

    Returns:
        Such as `cpu` or `cuda`; see `as_if_on`.
    """
    assumed = _ASSUMED_DEVICE.get()
    if assumed is not None:
        return assumed
    return "cuda" if tensor.is_meta else tensor.device.type


class Positions(NamedTuple):
    """The position terms of N queries for the keys of a window, of M heads of windows.

    Attributes:
        rows: Terms for the h rows of keys, `(M, N, h)`.
        columns: Terms for the w columns of keys, `(M, N, w)`.
        beyond: Terms for one additional key without a place, `(M, N, 1)`; None if there is none.
    """

    rows: Tensor
    columns: Tensor
    beyond: Tensor | None = None

    def terms(self) -> tuple[Tensor, ...]:
        """Return the terms that exist, in the order of the channels of `codes`."""
        if self.beyond is None:
            return self.rows, self.columns
        return self.rows, self.columns, self.beyond

    def codes(self) -> Tensor:
        """Return the channels of the keys that select the terms.

        Returns:
            A tensor `(K, h + w)`, or `(K, h + w + 1)` with the additional key: 1 at each key's row
            and column, 0 elsewhere.
        """
        height, width = self.rows.shape[-1], self.columns.shape[-1]
        return _codes(height, width, self.beyond is not None, self.rows.dtype, self.rows.device)

    def bias(self, unit: int = 1) -> Tensor:
        """Return what is added to the product of each query with each key, `(M, N, K)`.

        Args:
            unit: In memory, each row begins at a multiple of so many values.
        """
        if self._is_faster_as_product():
            terms = [term.to(self.rows.dtype) for term in self.terms()]
            return torch.cat(terms, dim=-1) @ self.codes().T
        height, width = self.rows.shape[-1], self.columns.shape[-1]
        num_keys = height * width + (self.beyond is not None)
        row_length = num_keys + -num_keys % unit
        bias = self.rows.new_empty(*self.rows.shape[:2], row_length)[..., :num_keys]
        inside = bias[..., : height * width].unflatten(-1, (height, width))
        torch.add(self.rows[..., :, None], self.columns[..., None, :], out=inside)
        if self.beyond is not None:
            bias[..., -1:] = self.beyond
        return bias

    def gradients(self, bias_gradient: Tensor) -> tuple[Tensor, ...]:
        """Return the gradients of `terms` from the gradient of `bias`.

        Args:
            bias_gradient: `(M, N, K)`.

        Returns:
            One tensor for each of `terms`, with its shape.
        """
        if self._is_faster_as_product():
            of_terms = bias_gradient @ self.codes()
            return of_terms.split([term.shape[-1] for term in self.terms()], dim=-1)
        height, width = self.rows.shape[-1], self.columns.shape[-1]
        inside = bias_gradient[..., : height * width].unflatten(-1, (height, width))
        of_rows, of_columns = inside.sum(dim=-1), inside.sum(dim=-2)
        if self.beyond is None:
            return of_rows, of_columns
        return of_rows, of_columns, bias_gradient[..., -1:]

    def _is_faster_as_product(self) -> bool:
        return self.rows.dtype == torch.bfloat16

    def part(self, heads: slice, queries: slice = slice(None)) -> Positions:
        """Return the terms of some heads and queries.

        Args:
            heads: Which of the M heads.
            queries: Which of the N queries; all by default.

        Returns:
            Views of the tensors.
        """
        beyond = None if self.beyond is None else self.beyond[heads, queries]
        return Positions(self.rows[heads, queries], self.columns[heads, queries], beyond)


# Never dropped: a recorded CUDA graph of a training step reads them where they are.
@cache
def _codes(
    height: int, width: int, has_beyond: bool, dtype: torch.dtype, device: torch.device
) -> Tensor:
    # If prediction fills the cache first, training must still be able to use the kept tensor.
    with torch.inference_mode(False):
        in_row = torch.eye(height, dtype=dtype, device=device).repeat_interleave(width, dim=0)
        in_column = torch.eye(width, dtype=dtype, device=device).repeat(height, 1)
        codes = torch.cat([in_row, in_column], dim=1)
        return torch.block_diag(codes, codes.new_ones(1, 1)) if has_beyond else codes


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
        return _AttendInChunks.apply(query, key, value, *positions)
    attend_at_once = attend_with_matrix if form == "matrix" else attend_with_codes
    return attend_at_once(query, key, value, positions)


def _has_graph(*tensors: Tensor | None) -> bool:
    """Tell whether the result of some tensors needs a backward pass."""
    is_needed = any(tensor is not None and tensor.requires_grad for tensor in tensors)
    return is_needed and torch.is_grad_enabled()


def attention_form(device: str, num_keys: int) -> str:
    """Choose how attention is computed.

    Args:
        device: Type of the device.
        num_keys: Keys of a window or image.

    Returns:
        `chunks`, with a matrix of positions for some heads at a time; `matrix`, with one for all;
        or `codes`, without any.
    """
    if device == "cpu":
        return "chunks"
    is_small = num_keys <= _MOST_KEYS_OF_A_MATRIX
    return "matrix" if device == "cuda" and is_small else "codes"


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
        ctx.save_for_backward(*terms)
        return Positions(*terms).bias(_WIDTH_UNIT)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, ...]:
        return Positions(*ctx.saved_tensors).gradients(gradient)


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
    wide_query = torch.cat([query * channels**-0.5, *terms], dim=-1)
    wide_key = torch.cat([key, positions.codes().to(key.dtype).expand(len(key), -1, -1)], dim=-1)
    missing = -wide_query.shape[-1] % _WIDTH_UNIT
    wide_query = functional.pad(wide_query, (0, missing))
    wide_key = functional.pad(wide_key, (0, missing))
    # Flash kernels only take queries, keys and values of equal widths.
    wide_value = functional.pad(value, (0, wide_query.shape[-1] - channels))
    heads = functional.scaled_dot_product_attention(
        wide_query[None], wide_key[None], wide_value[None], scale=1.0
    )
    return heads[0, ..., :channels]


class _AttendInChunks(torch.autograd.Function):
    """Attention on CPUs: some heads at a time, and some queries at a time for a large image.

    The softmax weights are kept for the backward pass if those of one head fit into a chunk, as
    those of windows do. For larger images they are computed again, which takes more time and far
    less memory.
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
        positions = Positions(rows, columns, beyond)
        keeps_weights = any(ctx.needs_input_grad) and query.shape[1] * key.shape[1] <= CHUNK_VALUES
        attended, kept = torch.empty_like(query), []
        # Takes the memory of the chunks that tensors without values leave out.
        left_out = _weights_left_out(query, key) if keeps_weights and query.is_meta else None
        for heads in _chunks(query, key):
            k, v = key[heads], value[heads]
            if keeps_weights:
                kept.append(_softmax_weights(query[heads], k, positions.part(heads)))
                torch.bmm(kept[-1], v, out=attended[heads])
                continue
            for queries in _ranges(query, 1, CHUNK_VALUES // key.shape[1]):
                q, bias = query[heads, queries], positions.part(heads, queries).bias()
                fused = functional.scaled_dot_product_attention(
                    q[None], k[None], v[None], bias[None]
                )
                attended[heads, queries] = fused[0]
        ctx.save_for_backward(query, key, value, rows, columns, beyond, attended, left_out, *kept)
        return attended

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, rows, columns, beyond, attended, _, *kept = ctx.saved_tensors
        positions, scale = Positions(rows, columns, beyond), query.shape[-1] ** -0.5
        query_gradient = torch.empty_like(query)
        key_gradient = torch.empty_like(key)
        value_gradient = torch.empty_like(value)
        term_gradients = [torch.empty_like(term) for term in positions.terms()]
        for number, heads in enumerate(_chunks(query, key)):
            part, incoming = positions.part(heads), gradient[heads]
            weights = kept[number] if kept else _softmax_weights(query[heads], key[heads], part)
            torch.bmm(weights.mT, incoming, out=value_gradient[heads])
            # Gradient of a softmax: weights (d - sum(weights d)), where d is the gradient of the
            # weights. That sum equals the product of output and incoming gradient.
            total = (incoming * attended[heads]).sum(dim=-1, keepdim=True)
            of_scores = torch.bmm(incoming, value[heads].mT).sub_(total).mul_(weights)
            torch.bmm(of_scores, key[heads], out=query_gradient[heads]).mul_(scale)
            torch.bmm(of_scores.mT, query[heads], out=key_gradient[heads]).mul_(scale)
            for whole, piece in zip(term_gradients, part.gradients(of_scores), strict=True):
                whole[heads] = piece
        for_beyond = [None] if beyond is None else []
        return query_gradient, key_gradient, value_gradient, *term_gradients, *for_beyond


def _softmax_weights(query: Tensor, key: Tensor, positions: Positions) -> Tensor:
    """Return the share of each value in each query's result, `(M, N, K)`."""
    scores = positions.bias().baddbmm_(query, key.mT, alpha=query.shape[-1] ** -0.5)
    return scores.softmax(dim=-1)


def _chunks(query: Tensor, key: Tensor) -> Iterator[slice]:
    """Yield consecutive heads whose scores fit into a chunk together; always at least one."""
    return _ranges(query, 0, CHUNK_VALUES // (query.shape[1] * key.shape[1]))


def _ranges(tensor: Tensor, dimension: int, size: int) -> Iterator[slice]:
    """Yield slices of a dimension, each of `size`, but at least of 1; the last may be shorter.

    Of a tensor without values only the first: the others would take the same memory after it.
    """
    size = max(1, size)
    slices = (slice(first, first + size) for first in range(0, tensor.shape[dimension], size))
    return itertools.islice(slices, 1) if tensor.is_meta else slices


def _weights_left_out(query: Tensor, key: Tensor) -> Tensor:
    """Return what the softmax weights of all chunks but the first take, `(M', N, K)`."""
    [first] = _chunks(query, key)
    return query.new_empty(len(query[first.stop :]), query.shape[1], key.shape[1])
