"""Conversion between the pixels of a slice and those of the network's input.

Each direction is a single interpolation. Positions are continuous: pixel i of a slice covers i to
i + 1, and its centre lies at i + 0.5.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from samnet.core.geometry import Margins
from samnet.plan.backbones import PATCH
from samnet.plan.configuration import Configuration
from samnet.preprocessing.interpolation import interpolation_matrix, zoom_matrix

SQUEEZE = 1.1
SCALE = "scale"  # the plan's `frame` that shows all slices at one scale
SAMED_SLICES = 224  # edge in pixels of the slices that SAMed was trained on
NO_MARGINS: Margins = ((0, 0), (0, 0))


@dataclass(frozen=True)
class SliceFrame:
    """The place of a slice on its canvas.

    The canvas is the area that the network sees through one or more square inputs.

    Attributes:
        size: Rows and columns of the slice.
        scale: Canvas pixels for each slice pixel, along rows and columns.
        canvas: Rows and columns of the canvas.
        is_centred: Whether the slice lies in the middle of the canvas. Otherwise it begins in the
            upper left corner.
    """

    size: tuple[int, int]
    scale: tuple[float, float]
    canvas: tuple[int, int]
    is_centred: bool = True

    @property
    def enlarges_logits(self) -> bool:
        """Whether maps are made from logits enlarged to the input, one for each of its pixels."""
        return False

    def offset(self, axis: int) -> float:
        """Return where the slice begins on the canvas.

        Args:
            axis: 0 for rows, 1 for columns.

        Returns:
            The position in canvas pixels.
        """
        if not self.is_centred:
            return 0.0
        return (self.canvas[axis] - self.size[axis] * self.scale[axis]) / 2

    def whole_slices(self, slices: np.ndarray) -> np.ndarray:
        """Return slices as `to_canvas` needs them: unchanged, unless they are stretched.

        Args:
            slices: Raw intensities `(..., H, W)`.

        Returns:
            The slices.
        """
        return slices

    def to_canvas(self, slices: Tensor) -> Tensor:
        """Resample slices onto the canvas. Where this shrinks them, it averages.

        Args:
            slices: Slices `(..., H, W)`, see `whole_slices`.

        Returns:
            The canvas `(..., Hc, Wc)`; 0 outside the slice.
        """
        rows = self._canvas_matrix(0).to(slices)
        columns = self._canvas_matrix(1).to(slices)
        return rows @ slices @ columns.T

    def from_canvas(
        self, maps: Tensor, stride: int, rows: slice = slice(None), columns: slice = slice(None)
    ) -> Tensor:
        """Resample maps that cover the canvas onto the pixels of the slice.

        Args:
            maps: Maps `(..., Hc / stride, Wc / stride)`.
            stride: Canvas pixels for each pixel of the maps.
            rows: The rows of the slice to return.
            columns: The columns of the slice to return.

        Returns:
            The maps `(..., H, W)` on these rows and columns.
        """
        map_rows = self.support(0, stride, rows)
        map_columns = self.support(1, stride, columns)
        row_weights = self._slice_matrix(0, stride)[rows, map_rows].to(maps)
        column_weights = self._slice_matrix(1, stride)[columns, map_columns].to(maps)
        return row_weights @ maps[..., map_rows, map_columns] @ column_weights.T

    def support(self, axis: int, stride: int, pixels: slice) -> slice:
        """Return the positions on a map from which `from_canvas` interpolates pixels of the slice.

        Args:
            axis: 0 for rows, 1 for columns.
            stride: Canvas pixels for each pixel of the map.
            pixels: Rows or columns of the slice.

        Returns:
            Rows or columns of the map.
        """
        first, last = _supports(self, axis, stride)
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


@dataclass(frozen=True)
class StretchedFrame(SliceFrame):
    """The place of a slice that is stretched to the canvas, whatever its size and shape.

    Attributes:
        margins: Pixels by which the whole slice is larger than `size`, before and behind, of rows
            and of columns. Prepared images are cropped; it is the whole slice that is stretched.
    """

    margins: Margins = NO_MARGINS

    def offset(self, axis: int) -> float:
        """Return where the slice begins on the canvas.

        Args:
            axis: 0 for rows, 1 for columns.

        Returns:
            The position in canvas pixels.
        """
        return self.margins[axis][0] * self.scale[axis]

    def whole_slices(self, slices: np.ndarray) -> np.ndarray:
        """Return slices as `to_canvas` needs them: with their margins, of intensity 0.

        Args:
            slices: Raw intensities `(..., H, W)`.

        Returns:
            The whole slices.
        """
        return np.pad(slices, [(0, 0)] * (slices.ndim - 2) + list(self.margins))

    def _whole(self, axis: int) -> int:
        return self.size[axis] + sum(self.margins[axis])

    def _canvas_matrix(self, axis: int) -> Tensor:
        return interpolation_matrix(
            self.canvas[axis], self._whole(axis), 1 / self.scale[axis], start=0.0
        )


@dataclass(frozen=True)
class SplineFrame(StretchedFrame):
    """The place of a stretched slice, with the resampling of SAMed's code (arXiv 2304.13785).

    Slices come to the canvas by cubic splines. A pixel of the slice takes the value of the nearest
    pixel of the input. Both align the centres of the outermost pixels, as `scipy.ndimage.zoom`.

    Attributes:
        through: Edge in pixels to which slices are resampled first; None for the canvas at once.
    """

    through: int | None = None

    @property
    def enlarges_logits(self) -> bool:
        """Whether maps are made from logits enlarged to the input, one for each of its pixels."""
        return True

    def _canvas_matrix(self, axis: int) -> Tensor:
        size, length = self._whole(axis), self.canvas[axis]
        if self.through is None:
            return zoom_matrix(length, size, order=3)
        first = zoom_matrix(self.through, size, order=3)
        return zoom_matrix(length, self.through, order=3) @ first

    def _slice_matrix(self, axis: int, stride: int) -> Tensor:
        first = self.margins[axis][0]
        nearest = zoom_matrix(self._whole(axis), self.canvas[axis] // stride, order=0)
        return nearest[first : first + self.size[axis]]


def planned_frame(
    configuration: Configuration,
    size: tuple[int, int],
    spacing: tuple[float, float],
    margins: Margins = NO_MARGINS,
) -> SliceFrame:
    """Place a slice on its canvas as a configuration says.

    Args:
        configuration: Its `frame`, `input_size`, `in_plane_spacing` and `zoom` count.
        size: Rows and columns of the slice in pixels.
        spacing: Spacing of its rows and columns in mm.
        margins: What was cropped of it, see `StretchedFrame`. At one scale it does not matter.

    Returns:
        The frame.
    """
    edge = configuration.input_size
    if configuration.frame == SCALE:
        return frame_slice(size, spacing, configuration.in_plane_spacing, configuration.zoom, edge)
    rows, columns = (count + sum(ends) for count, ends in zip(size, margins, strict=True))
    scale, canvas = (edge / rows, edge / columns), (edge, edge)
    if configuration.frame == "stretch":
        return StretchedFrame(size, scale, canvas, margins=margins)
    through = SAMED_SLICES if configuration.frame == "splines_224" else None
    return SplineFrame(size, scale, canvas, margins=margins, through=through)


def frame_slice(
    size: tuple[int, int],
    spacing: tuple[float, float],
    in_plane_spacing: float,
    zoom: float,
    input_size: int,
) -> SliceFrame:
    """Place a slice on its canvas at the planned scale.

    A slice up to `SQUEEZE` times larger than the input is shrunk to fit it; the augmentation varies
    sizes more than that. A larger slice gets a canvas of several inputs.

    Args:
        size: Rows and columns of the slice in pixels.
        spacing: Spacing of its rows and columns in mm.
        in_plane_spacing: The planned pixel spacing in mm.
        zoom: Canvas pixels for each pixel of that spacing.
        input_size: Edge of the network's input in pixels.

    Returns:
        The frame.
    """
    scale = [length * zoom / in_plane_spacing for length in spacing]
    lengths = [count * factor for count, factor in zip(size, scale, strict=True)]
    longest = max(lengths)
    if input_size < longest <= SQUEEZE * input_size:
        scale = [factor * input_size / longest for factor in scale]
    rows, columns = (
        _canvas_length(count * factor, input_size)
        for count, factor in zip(size, scale, strict=True)
    )
    return SliceFrame(size, (scale[0], scale[1]), (rows, columns))


def _canvas_length(length: float, input_size: int) -> int:
    """Return the edge of a canvas in whole patches; rounding errors of the length add no patch."""
    return max(input_size, PATCH * math.ceil(round(length, 3) / PATCH))


@lru_cache(maxsize=16)
def _supports(frame: SliceFrame, axis: int, stride: int) -> tuple[list[int], list[int]]:
    """Return the first and last position on a map with a weight in each pixel of the slice."""
    has_weight = frame._slice_matrix(axis, stride) > 0
    num_in = has_weight.shape[1]
    first = has_weight.int().argmax(1)
    last = num_in - 1 - has_weight.flip(1).int().argmax(1)
    return first.tolist(), last.tolist()


def tile_starts(length: int, size: int, overlap: float) -> list[int]:
    """Return the first pixels of inputs that cover a canvas along one axis, evenly spread.

    Args:
        length: Edge of the canvas in pixels.
        size: Edge of the input in pixels.
        overlap: Smallest overlap of neighbouring inputs, as a share of their edge.

    Returns:
        Positions in ascending order, on whole patches of 16 pixels.
    """
    if length <= size:
        return [0]
    count = math.ceil((length - size) / (size * (1 - overlap))) + 1
    even = [(length - size) * index / (count - 1) for index in range(count)]
    on_patches = {round(start / PATCH) * PATCH for start in even}
    return sorted(on_patches)


@lru_cache(maxsize=16)
def tile_weights(size: int) -> Tensor:
    """Return Gaussian weights with a standard deviation of an eighth of the edge, as nnU-Net's.

    Args:
        size: Edge of the tile in pixels.

    Returns:
        Weights `(size, size)`, all above 0.
    """
    position = torch.arange(size) - (size - 1) / 2
    profile = torch.exp(-0.5 * (position / (size / 8)) ** 2)
    return (profile[:, None] * profile).clamp_min(1e-3)
