"""Between the pixels of a slice and the pixels of the network's input, in one interpolation each way.

Positions are continuous: pixel i of a slice covers i to i + 1, its centre lies at i + 0.5.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

SQUEEZE = 1.1


@dataclass(frozen=True)
class SliceFrame:
    """Where a slice lies on its canvas, the area the network looks at through one or more square inputs.

    size: rows and columns of the slice. scale: canvas pixels for each slice pixel along them. canvas: rows and columns.
    """

    size: tuple[int, int]
    scale: tuple[float, float]
    canvas: tuple[int, int]

    def offset(self, axis: int) -> float:
        """Where the slice begins on the canvas: it lies in the middle."""
        return (self.canvas[axis] - self.size[axis] * self.scale[axis]) / 2

    def to_canvas(self, slices: Tensor) -> Tensor:
        """Resample slices `(..., H, W)` onto the canvas; outside the slice it is 0, shrinking averages."""
        rows, columns = (self._canvas_matrix(axis).to(slices) for axis in (0, 1))
        return rows @ slices @ columns.T

    def from_canvas(
        self, maps: Tensor, stride: int, rows: slice = slice(None), columns: slice = slice(None)
    ) -> Tensor:
        """Resample maps `(..., Hc / stride, Wc / stride)` that cover the canvas onto the slice's own pixels.

        rows, columns: those of the slice that are wanted.
        """
        (row_weights, on_rows), (column_weights, on_columns) = (
            (self._slice_matrix(axis, stride)[pixels], self.support(axis, stride, pixels))
            for axis, pixels in enumerate((rows, columns))
        )
        return (
            row_weights[:, on_rows].to(maps)
            @ maps[..., on_rows, on_columns]
            @ column_weights[:, on_columns].to(maps).T
        )

    def support(self, axis: int, stride: int, pixels: slice) -> slice:
        """The positions on a map, along an axis, from which `from_canvas` interpolates these pixels of the slice."""
        length = self.canvas[axis] // stride
        first, last = _supports(
            self.size[axis], length, self.scale[axis] / stride, self.offset(axis) / stride
        )
        return slice(min(first[pixels]), max(last[pixels]) + 1)

    def _canvas_matrix(self, axis: int) -> Tensor:
        scale = self.scale[axis]
        return interpolation_matrix(
            self.canvas[axis], self.size[axis], 1 / scale, -self.offset(axis) / scale
        )

    def _slice_matrix(self, axis: int, stride: int) -> Tensor:
        length = self.canvas[axis] // stride
        return interpolation_matrix(
            self.size[axis], length, self.scale[axis] / stride, self.offset(axis) / stride
        )


def frame_slice(
    size: tuple[int, int],
    spacing: tuple[float, float],
    in_plane_spacing: float,
    zoom: float,
    input_size: int,
) -> SliceFrame:
    """The frame of a slice of `size` pixels with `spacing` in mm, shown at the planned scale.

    A slice up to `SQUEEZE` times larger than the input is shrunk to fit it (less than the augmentation varies); a
    larger one gets a canvas of several inputs.
    """
    scale = [length * zoom / in_plane_spacing for length in spacing]
    longest = max(count * factor for count, factor in zip(size, scale, strict=True))
    if input_size < longest <= SQUEEZE * input_size:
        scale = [factor * input_size / longest for factor in scale]
    rows, columns = (
        max(input_size, 16 * math.ceil(round(count * factor, 3) / 16))
        for count, factor in zip(size, scale, strict=True)
    )
    return SliceFrame(size, (scale[0], scale[1]), (rows, columns))


@lru_cache(
    maxsize=16
)  # two matrices each way for every view; those of a large picture take many megabytes each
def interpolation_matrix(num_out: int, num_in: int, step: float, start: float) -> Tensor:
    """Linear interpolation as a matrix `(num_out, num_in)`; where it shrinks, a triangle filter of matching width.

    Output pixel j has its centre at input position `start + (j + 0.5) * step`. Rows sum to 1, or are 0 where that
    centre lies outside the input.
    """
    centres = start + (torch.arange(num_out, dtype=torch.float64) + 0.5) * step
    inputs = torch.arange(num_in, dtype=torch.float64) + 0.5
    weights = (1 - (centres[:, None] - inputs).abs() / max(1.0, step)).clamp_min(0)
    inside = (centres >= -1e-6) & (centres <= num_in + 1e-6)
    weights = weights / weights.sum(1, keepdim=True).clamp_min(1e-12)
    return (weights * inside[:, None]).float()


@lru_cache(maxsize=16)
def _supports(num_out: int, num_in: int, step: float, start: float) -> tuple[list[int], list[int]]:
    """The first and the last input pixel with a weight in each row of an `interpolation_matrix`."""
    weighs = interpolation_matrix(num_out, num_in, step, start) > 0
    first = weighs.int().argmax(1)
    last = num_in - 1 - weighs.flip(1).int().argmax(1)
    return first.tolist(), last.tolist()


def tile_starts(length: int, size: int, overlap: float) -> list[int]:
    """First pixels of inputs of `size` that cover `length`, evenly spread, on whole patches of 16 pixels."""
    if length <= size:
        return [0]
    count = math.ceil((length - size) / (size * (1 - overlap))) + 1
    return sorted(
        {round((length - size) * index / (count - 1) / 16) * 16 for index in range(count)}
    )


@lru_cache(maxsize=16)
def tile_weights(size: int) -> Tensor:
    """Gaussian weights `(size, size)` with a standard deviation of an eighth of the edge, as nnU-Net's, never 0."""
    position = torch.arange(size) - (size - 1) / 2
    profile = torch.exp(-0.5 * (position / (size / 8)) ** 2)
    return (profile[:, None] * profile).clamp_min(1e-3)
