"""SAM's attention over an image or its windows: the same weights, the same numbers, less work.

segment_anything fills up windows at the lower and right edge with zeros after the first norm. These padded tokens go
through every layer, are attended to as keys, all alike, and their own results are thrown away. Here they are never
made: they are one further key of their window. Windows cut at an edge are handled apart from whole ones.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from samnet.models.positional_attention import Positions, attend


class WindowAttention(nn.Module):
    """Takes the place, and the layers, of an `Attention` of segment_anything's together with its block's windows.

    `(B, H, W, C)` to `(B, H, W, C)`. window: edge in tokens; None for attention over the whole image.
    """

    def __init__(self, original: Any, window: int | None) -> None:
        super().__init__()
        self.num_heads, self.window = original.num_heads, window
        self.qkv, self.proj = original.qkv, original.proj
        self.rel_pos_h, self.rel_pos_w = original.rel_pos_h, original.rel_pos_w

    def forward(self, tokens: Tensor) -> Tensor:
        qkv = self.qkv(tokens)
        height, width = tokens.shape[1:3]
        bands = [
            [
                self._attend(qkv[:, top:bottom, left:right], (high, wide))
                for left, right, wide in self._spans(width)
            ]
            for top, bottom, high in self._spans(height)
        ]
        rows = [torch.cat(pieces, dim=2) if len(pieces) > 1 else pieces[0] for pieces in bands]
        return self.proj(torch.cat(rows, dim=1) if len(rows) > 1 else rows[0])

    def _spans(self, length: int) -> list[tuple[int, int, int]]:
        """Begin, end and edge of the whole windows along an axis, then of the one that is cut."""
        if self.window is None:
            return [(0, length, length)]
        whole = length - length % self.window
        spans = [(0, whole, self.window), (whole, length, length - whole)]
        return [span for span in spans if span[1] > span[0]]

    def _attend(self, qkv: Tensor, shape: tuple[int, int]) -> Tensor:
        """Attention within windows of one `shape`, which make up `qkv`, `(B, H, W, 3 C)`: `(B, H, W, C)`."""
        (count, height, width, _), (high, wide) = qkv.shape, shape
        grid = (count, height // high, width // wide, self.num_heads)
        parts = qkv.view(count, grid[1], high, grid[2], wide, 3, self.num_heads, -1)
        query, key, value = (
            parts.permute(5, 0, 1, 3, 6, 2, 4, 7)
            .reshape(3, -1, high * wide, parts.shape[-1])
            .unbind(0)
        )
        by_row, by_column = self._positions(query, shape)
        beyond = None
        if by_row.shape[-1] > high or by_column.shape[-1] > wide:
            beyond = _log_sum_beyond(by_row, by_column, shape)
            by_row, by_column = by_row[..., :high], by_column[..., :wide]
            key, value = (
                self._append_padding(tensor, part, grid) for part, tensor in ((1, key), (2, value))
            )
        attended = attend(query, key, value, Positions(by_row, by_column, beyond))
        parts = attended.view(*grid, high, wide, -1).permute(0, 1, 4, 2, 5, 3, 6)
        return parts.reshape(count, height, width, -1)

    def _positions(self, query: Tensor, shape: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """What queries `(M, h w, D)` have for the rows, and for the columns, of a whole window, `(M, h w, edge)`."""
        high, wide = shape
        placed = query.view(-1, high, wide, query.shape[-1])
        by_row = torch.einsum("mhwc,hkc->mhwk", placed, _by_distance(self.rel_pos_h, high))
        by_column = torch.einsum("mhwc,wkc->mhwk", placed, _by_distance(self.rel_pos_w, wide))
        return by_row.flatten(1, 2), by_column.flatten(1, 2)

    def _append_padding(self, tensor: Tensor, part: int, grid: tuple[int, ...]) -> Tensor:
        """Keys or values `(M, K, D)` with one more: that of a padded token, a zero of which the bias alone is left."""
        padding = self.qkv.bias.to(tensor.dtype).view(3, self.num_heads, 1, -1)[part]
        return torch.cat([tensor, padding.expand(*grid, 1, -1).reshape(len(tensor), 1, -1)], dim=1)


def _by_distance(table: Tensor, count: int) -> Tensor:
    """The rows of a table of distances `(2 E - 1, D)` for the first `count` queries and all E keys: `(count, E, D)`.

    Query i and key k find row i - k + E - 1.
    """
    edge = (len(table) + 1) // 2
    return table.unfold(0, edge, 1)[:count].flip(-1).mT


def _log_sum_beyond(by_row: Tensor, by_column: Tensor, shape: tuple[int, int]) -> Tensor:
    """The position of the key that stands for all padded ones: `(M, N, 1)`, the logarithm of the sum of theirs.

    They are the rows below the window, whole, and what is to the right in the other rows.
    """
    high, wide = shape
    by_row, by_column = by_row.float(), by_column.float()
    pieces = []
    for rows, columns in (
        (by_row[..., high:], by_column),
        (by_row[..., :high], by_column[..., wide:]),
    ):
        if rows.shape[-1] and columns.shape[-1]:
            pieces.append(
                rows.logsumexp(dim=-1, keepdim=True) + columns.logsumexp(dim=-1, keepdim=True)
            )
    return torch.cat(pieces, dim=-1).logsumexp(dim=-1, keepdim=True)
