"""SAM's attention over an image or over its windows: same weights, same results, less work.

segment_anything pads the windows at the lower and right edge with zeros after the block's first
norm. The padded tokens pass through every layer and are attended to as keys, and their own results
are thrown away. All padded tokens of a window are equal, so they are not computed here: one
additional key stands for all of them. Windows that an edge of the image cuts are computed
separately from whole windows.

A GPU takes longer for several small computations than for a larger one. There windows are filled up
after the layer for queries, keys and values, where a padded token is that layer's bias.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from samnet.models.attention_form import device_of_form
from samnet.models.position_terms import position_terms
from samnet.models.positional_attention import attend
from samnet.models.positions import Positions

_MOST_PADDED = 2  # times the tokens of the image; by measurement 1.7 gains, more was not tried


class WindowAttention(nn.Module):
    """Replaces an `Attention` of segment_anything together with the windows of its block.

    Attributes:
        num_heads: Number of attention heads.
        window: Edge of a window in tokens; None for attention over the whole image.
        qkv: The original's linear layer for queries, keys and values.
        proj: The original's output projection.
        rel_pos_h: Relative positions along the rows, `(2 E - 1, D)` for windows of E tokens.
        rel_pos_w: Relative positions along the columns, `(2 E - 1, D)`.
    """

    def __init__(self, original: Any, window: int | None) -> None:
        """Take over the layers of an attention.

        Args:
            original: The `Attention` of segment_anything.
            window: Edge of a window in tokens; None for attention over the whole image.
        """
        super().__init__()
        self.num_heads, self.window = original.num_heads, window
        self.qkv, self.proj = original.qkv, original.proj
        self.rel_pos_h, self.rel_pos_w = original.rel_pos_h, original.rel_pos_w

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the attention's output for the tokens of some images.

        Args:
            tokens: `(B, H, W, C)`.

        Returns:
            A tensor `(B, H, W, C)`.
        """
        qkv = self.qkv(tokens)
        height, width = tokens.shape[1:3]
        if fills_windows(device_of_form(qkv), (height, width), self.window):
            return self.proj(self._attend_filled(qkv))
        rows = []
        for top, bottom, window_height in self._window_ranges(height):
            pieces = []
            for left, right, window_width in self._window_ranges(width):
                is_whole = (bottom - top, right - left) == (height, width)
                piece = qkv if is_whole else qkv[:, top:bottom, left:right]
                pieces.append(self._attend(piece, (window_height, window_width)))
            rows.append(torch.cat(pieces, dim=2) if len(pieces) > 1 else pieces[0])
        return self.proj(torch.cat(rows, dim=1) if len(rows) > 1 else rows[0])

    def _attend_filled(self, qkv: Tensor) -> Tensor:
        """Attend within windows that are filled up: `(B, H, W, 3 C)` to `(B, H, W, C)`."""
        assert self.window is not None
        count, height, width, _ = qkv.shape
        filled_height, filled_width = (_filled(length, self.window) for length in (height, width))
        padding = self.qkv.bias.to(qkv.dtype)
        filled = padding.expand(count, filled_height, filled_width, -1).clone()
        filled[:, :height, :width] = qkv
        attended = self._attend(filled, (self.window, self.window))
        return attended[:, :height, :width]

    def _window_ranges(self, length: int) -> list[tuple[int, int, int]]:
        """Return (start, stop, window edge) of an axis' whole windows, then of its cut window."""
        if self.window is None:
            return [(0, length, length)]
        whole = length - length % self.window
        ranges = [(0, whole, self.window), (whole, length, length - whole)]
        return [(start, stop, edge) for start, stop, edge in ranges if stop > start]

    def _attend(self, qkv: Tensor, shape: tuple[int, int]) -> Tensor:
        """Attend within windows of one shape `(h, w)`: `(B, H, W, 3 C)` to `(B, H, W, C)`."""
        (count, height, width, _), (high, wide) = qkv.shape, shape
        grid = (count, height // high, width // wide, self.num_heads)
        parts = qkv.view(count, grid[1], high, grid[2], wide, 3, self.num_heads, -1)
        channels = parts.shape[-1]
        # The heads of all windows become the first dimension.
        heads = parts.permute(5, 0, 1, 3, 6, 2, 4, 7).reshape(3, -1, high * wide, channels)
        query, key, value = heads.unbind(0)
        by_row, by_column = position_terms(query, self.rel_pos_h, self.rel_pos_w, shape)
        beyond = None
        if by_row.shape[-1] > high or by_column.shape[-1] > wide:
            # The terms beyond are kept for the backward pass: without what they are views of.
            by_row, by_column = by_row.contiguous(), by_column.contiguous()
            beyond = _padding_position(by_row, by_column, shape)
            by_row, by_column = by_row[..., :high], by_column[..., :wide]
            key = self._append_padding(key, 1, grid)
            value = self._append_padding(value, 2, grid)
        attended = attend(query, key, value, Positions(by_row, by_column, beyond))
        parts = attended.view(*grid, high, wide, -1).permute(0, 1, 4, 2, 5, 3, 6)
        return parts.reshape(count, height, width, -1)

    def _append_padding(self, tensor: Tensor, part: int, grid: tuple[int, ...]) -> Tensor:
        """Append the padded token to keys (part 1) or values (part 2) `(M, K, D)`.

        The layer's output for a padded token, which is zero, is its bias alone.
        """
        padding = self.qkv.bias.to(tensor.dtype).view(3, self.num_heads, 1, -1)[part]
        return torch.cat([tensor, padding.expand(*grid, 1, -1).reshape(len(tensor), 1, -1)], dim=1)


def fills_windows(device: str, shape: tuple[int, int], window: int | None) -> bool:
    """Tell whether windows that an edge of the image cuts are filled up with padded tokens.

    Args:
        device: Type of the device.
        shape: Rows and columns of tokens.
        window: Edge of a window in tokens; None for attention over the whole image.

    Returns:
        True on CUDA devices, where some windows are cut and filling them up adds no more tokens
        than the image has.
    """
    if window is None or device != "cuda":
        return False
    height, width = shape
    filled = _filled(height, window) * _filled(width, window)
    return height * width < filled <= _MOST_PADDED * height * width


def _filled(length: int, window: int) -> int:
    """Return the length of an axis whose last window is filled up."""
    return length + -length % window


def _padding_position(by_row: Tensor, by_column: Tensor, shape: tuple[int, int]) -> Tensor:
    """Return the position term of the key that stands for all padded tokens: `(M, h, w, 1)`.

    It is the logarithm of the sum of the exponentials of the padded tokens' own terms. The padded
    tokens are all tokens of the rows below, and those to the right in the other rows.
    """
    high, wide = shape
    # Half precision would not do for sums of exponentials.
    precision = torch.promote_types(by_row.dtype, torch.float32)
    by_row, by_column = by_row.to(precision), by_column.to(precision)
    blocks = [
        (by_row[..., high:], by_column),
        (by_row[..., :high], by_column[..., wide:]),
    ]
    pieces = []
    for rows, columns in blocks:
        if rows.shape[-1] and columns.shape[-1]:
            row_sum = rows.logsumexp(dim=-1, keepdim=True)
            pieces.append(row_sum + columns.logsumexp(dim=-1, keepdim=True))
    return torch.cat(pieces, dim=-1).logsumexp(dim=-1, keepdim=True)
