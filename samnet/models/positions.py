"""SAM's decomposed relative positions in attention, as a matrix or as additional channels.

For a key in row r and column c, a query adds two terms to the scaled product of query and key: its
term for row r and its term for column c (Li et al. 2022, arXiv 2112.01526). Their sums for all
queries and keys are a matrix. Instead, the terms can be written as additional channels: the query
holds its terms for all rows and columns; the key holds 1 at its row and at its column, and 0
elsewhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor


class Positions(NamedTuple):
    """The position terms of N queries for the keys of a window, of M heads of windows.

    The N queries of a head may have one axis or several: `...` is `N`, or `h w` for a window of
    h rows and w columns of queries.

    Attributes:
        rows: Terms for the h rows of keys, `(M, ..., h)`.
        columns: Terms for the w columns of keys, `(M, ..., w)`.
        beyond: Terms for one additional key without a place, `(M, ..., 1)`; None if there is none.
    """

    rows: Tensor
    columns: Tensor
    beyond: Tensor | None = None

    def terms(self) -> tuple[Tensor, ...]:
        """Return the terms that exist, in the order of the channels of `codes`."""
        if self.beyond is None:
            return self.rows, self.columns
        return self.rows, self.columns, self.beyond

    def codes(self, missing: int = 0) -> Tensor:
        """Return the channels of the keys that select the terms.

        Args:
            missing: Number of further channels, which are 0.

        Returns:
            A tensor `(K, h + w + missing)`, or `(K, h + w + 1 + missing)` with the additional key:
            1 at each key's row and column, 0 elsewhere.
        """
        return _codes(self._sizes(), missing, self.rows.dtype, self.rows.device)

    def bias(self, unit: int = 1) -> Tensor:
        """Return what is added to the product of each query with each key, `(M, N, K)`.

        Args:
            unit: In memory, each row begins at a multiple of so many values.
        """
        heads, *queries, height = self.rows.shape
        width = self.columns.shape[-1]
        num_keys = height * width + (self.beyond is not None)
        if _is_faster_as_product(self.rows.dtype):
            terms = torch.cat([term.to(self.rows.dtype) for term in self.terms()], dim=-1)
            return (terms.flatten(0, -2) @ self.codes().T).view(heads, -1, num_keys)
        in_row, in_column = self.rows[..., :, None], self.columns[..., None, :]
        if unit == 1 and self.beyond is None:
            return (in_row + in_column).reshape(heads, -1, num_keys)
        row_length = num_keys + -num_keys % unit
        bias = self.rows.new_empty(heads, *queries, row_length)
        inside = bias[..., : height * width].unflatten(-1, (height, width))
        torch.add(in_row, in_column, out=inside)
        if self.beyond is not None:
            bias[..., num_keys - 1 : num_keys] = self.beyond
        return bias.view(heads, -1, row_length)[..., :num_keys]

    def gradients(self, bias_gradient: Tensor) -> tuple[Tensor, ...]:
        """Return the gradients of `terms` from the gradient of `bias`.

        Args:
            bias_gradient: `(M, N, K)`.

        Returns:
            One tensor for each of `terms`, with its shape.
        """
        return gradients_of_terms(bias_gradient, [term.shape for term in self.terms()])

    def _sizes(self) -> tuple[int, ...]:
        return tuple(term.shape[-1] for term in self.terms())


def gradients_of_terms(bias_gradient: Tensor, shapes: Sequence[torch.Size]) -> tuple[Tensor, ...]:
    """Return the gradients of the terms of positions from the gradient of their `bias`.

    Args:
        bias_gradient: `(M, N, K)`.
        shapes: The shapes of the terms, `(M, ..., h)` and `(M, ..., w)`, and `(M, ..., 1)` where
            there is an additional key.

    Returns:
        One tensor for each shape.
    """
    places, sizes = shapes[0][:-1], tuple(shape[-1] for shape in shapes)
    if _is_faster_as_product(bias_gradient.dtype):
        codes = _codes(sizes, 0, bias_gradient.dtype, bias_gradient.device)
        of_terms = (bias_gradient.flatten(0, 1) @ codes).view(*places, -1)
        return of_terms.split(sizes, dim=-1)
    height, width, *beyond = sizes
    if not beyond:
        inside = bias_gradient.view(*places, height, width)
        return inside.sum(dim=-1), inside.sum(dim=-2)
    by_place = bias_gradient.view(*places, -1)
    inside = by_place[..., :-1].unflatten(-1, (height, width))
    return inside.sum(dim=-1), inside.sum(dim=-2), by_place[..., -1:]


def _is_faster_as_product(dtype: torch.dtype) -> bool:
    """Tell whether sums of terms take longer than products with codes."""
    # On CPUs with units for bfloat16, products are cheap in it and sums are not.
    return dtype == torch.bfloat16


# Never dropped: a recorded CUDA graph of a training step reads them where they are.
@cache
def _codes(
    sizes: tuple[int, ...], missing: int, dtype: torch.dtype, device: torch.device
) -> Tensor:
    height, width, *beyond = sizes
    # If prediction fills the cache first, training must still be able to use the kept tensor.
    with torch.inference_mode(False):
        in_row = torch.eye(height, dtype=dtype, device=device).repeat_interleave(width, dim=0)
        in_column = torch.eye(width, dtype=dtype, device=device).repeat(height, 1)
        codes = torch.cat([in_row, in_column], dim=1)
        if beyond:
            codes = torch.block_diag(codes, codes.new_ones(1, 1))
        return torch.cat([codes, codes.new_zeros(len(codes), missing)], dim=1)
