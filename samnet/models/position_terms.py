"""The position terms of SAM's attention in few operators, with their gradients.

For a key in row r and column c, SAM adds to the product of query and key the products of the query
with two vectors: that for the distance of the rows, and that for the distance of the columns (Li et
al. 2022, arXiv 2112.01526).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

_ROW_UNIT = 8
_HALF = (torch.bfloat16, torch.float16)


def position_terms(
    query: Tensor, by_row: Tensor, by_column: Tensor, shape: tuple[int, int]
) -> tuple[Tensor, Tensor]:
    """Return the products of queries with the vectors of all distances to E rows and E columns.

    Each query is multiplied with the vectors of all 2 E - 1 distances at once. The distances that a
    query has to the E rows are consecutive, so its terms are a part of the product, without a copy.

    Args:
        query: Queries of windows of `shape`, `(M, h w, D)`, row by row.
        by_row: Vectors of the distances of rows, `(2 E - 1, D)`: query row i and key row k have
            vector i - k + E - 1.
        by_column: Vectors of the distances of columns, `(2 E - 1, D)`.
        shape: h and w, each at most E.

    Returns:
        The terms for rows and for columns, two tensors `(M, h, w, E)`. They are views of one tensor
        of about twice their size.
    """
    return _PositionTerms.apply(query, by_row, by_column, shape)


class _PositionTerms(torch.autograd.Function):
    """`position_terms` with the gradients of queries and vectors."""

    @staticmethod
    def forward(
        ctx: Any, query: Tensor, by_row: Tensor, by_column: Tensor, shape: tuple[int, int]
    ) -> tuple[Tensor, Tensor]:
        # In reverse order the distances to the keys 0 to E - 1 rise.
        vectors = torch.cat([by_column, by_row]).flip(0).to(query.dtype)
        missing = -len(vectors) % _ROW_UNIT
        if missing and query.dtype in _HALF:
            # Fast kernels in half precision need rows of this length.
            vectors = functional.pad(vectors, (0, 0, 0, missing))
        queries = query.reshape(-1, query.shape[-1])
        products = queries @ vectors.T
        ctx.shape, ctx.sizes = shape, (len(by_row), len(by_column))
        ctx.types = (by_row.dtype, by_column.dtype)
        needs_queries = any(ctx.needs_input_grad[1:3])
        ctx.save_for_backward(vectors, queries if needs_queries else None)
        return _terms_of_products(products, len(query), shape, ctx.sizes)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        vectors, queries = ctx.saved_tensors
        count, height, width = gradients[0].shape[:3]
        of_products = gradients[0].new_zeros(count * height * width, len(vectors))
        terms = _terms_of_products(of_products, count, ctx.shape, ctx.sizes)
        for part, gradient in zip(terms, gradients, strict=True):
            part.copy_(gradient)
        of_query = of_row = of_column = None
        if ctx.needs_input_grad[0]:
            of_query = (of_products @ vectors).view(count, height * width, -1)
        if queries is not None:
            rows, columns = ctx.sizes
            of_vectors = of_products.T @ queries
            of_row = of_vectors[:rows].flip(0).to(ctx.types[0])
            of_column = of_vectors[rows : rows + columns].flip(0).to(ctx.types[1])
        return of_query, of_row, of_column, None


def _terms_of_products(
    products: Tensor, count: int, shape: tuple[int, int], sizes: tuple[int, int]
) -> tuple[Tensor, Tensor]:
    """Return the parts of products `(M h w, L)` that are terms: two views `(M, h, w, E)`.

    For a query in row i the terms begin at distance E - 1 - i of the reversed distances, so the
    next row begins one earlier.
    """
    (height, width), length = shape, products.shape[1]
    row_edge, column_edge = ((size + 1) // 2 for size in sizes)
    per_window, per_row = height * width * length, width * length
    in_rows = products.as_strided(
        (count, height, width, row_edge), (per_window, per_row - 1, length, 1), row_edge - 1
    )
    in_columns = products.as_strided(
        (count, height, width, column_edge),
        (per_window, per_row, length - 1, 1),
        sizes[0] + column_edge - 1,
    )
    return in_rows, in_columns
