"""The position terms of attention and their gradients."""

from __future__ import annotations

import pytest
import torch
from builders.numerics import DOUBLE, assert_gradients_close, relative_error
from torch import Tensor

from samnet.models.position_terms import position_terms

SHAPES = [((4, 4), (4, 4)), ((3, 4), (4, 4)), ((4, 1), (4, 4)), ((2, 5), (3, 7)), ((1, 1), (1, 1))]


def formula(
    query: Tensor, by_row: Tensor, by_column: Tensor, shape: tuple[int, int]
) -> tuple[Tensor, Tensor]:
    """Look up the vector of each pair of a query and a row or column."""
    height, width = shape
    edges = [(len(table) + 1) // 2 for table in (by_row, by_column)]
    rows = torch.arange(height).repeat_interleave(width)
    columns = torch.arange(width).repeat(height)
    row_vectors = by_row[rows[:, None] - torch.arange(edges[0]) + edges[0] - 1]
    column_vectors = by_column[columns[:, None] - torch.arange(edges[1]) + edges[1] - 1]
    in_rows = torch.einsum("mnd,nkd->mnk", query, row_vectors)
    in_columns = torch.einsum("mnd,nkd->mnk", query, column_vectors)
    return in_rows.unflatten(1, shape), in_columns.unflatten(1, shape)


@pytest.mark.parametrize(("shape", "edges"), SHAPES)
def test_terms_and_gradients_are_those_of_a_lookup(
    shape: tuple[int, int], edges: tuple[int, int]
) -> None:
    sizes = [(3, shape[0] * shape[1], 6), (2 * edges[0] - 1, 6), (2 * edges[1] - 1, 6)]
    tensors = [torch.randn(*size, dtype=torch.float64, requires_grad=True) for size in sizes]
    found, expected = position_terms(*tensors, shape), formula(*tensors, shape)
    weights = [torch.randn_like(part) for part in expected]
    for part, other in zip(found, expected, strict=True):
        assert relative_error(part, other) < DOUBLE

    def gradients(parts: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        products = [(part * weight).sum() for part, weight in zip(parts, weights, strict=True)]
        return torch.autograd.grad(sum(products[1:], products[0]), tensors)

    assert_gradients_close(gradients(found), gradients(expected))


def test_frozen_vectors_leave_the_gradient_of_the_queries() -> None:
    query = torch.randn(2, 12, 6, dtype=torch.float64, requires_grad=True)
    tables = [torch.randn(7, 6, dtype=torch.float64) for _ in range(2)]
    [found] = torch.autograd.grad(position_terms(query, *tables, (3, 4))[0].sum(), query)
    [expected] = torch.autograd.grad(formula(query, *tables, (3, 4))[0].sum(), query)
    assert_gradients_close([found], [expected])


def test_terms_have_the_type_of_the_queries() -> None:
    query = torch.randn(2, 4, 6, dtype=torch.bfloat16)
    tables = [torch.randn(3, 6) for _ in range(2)]
    rows, columns = position_terms(query, *tables, (2, 2))
    assert rows.dtype == columns.dtype == torch.bfloat16
    expected = formula(query.float(), *tables, (2, 2))
    assert relative_error(rows, expected[0]) < 0.02  # bfloat16 rounds to 1 / 256
