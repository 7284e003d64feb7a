"""Labels on a volume's own voxels from maps at the networks' resolution, each output only where it can matter.

A voxel's values are interpolated: none lies above the largest or below the smallest value of the map around it. Block
by block, these bounds tell which outputs can decide the label, few of many. Only those are resampled, each in the
smallest box around its blocks. The labels are those that all outputs would give, resampled everywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np
import torch
from torch import Tensor

from samnet.inference.outputs import Outputs, Piece, Window
from samnet.preprocessing.slice_frame import SliceFrame

BLOCK = 32  # edge in voxels: fine enough to leave much out, and coarse enough to cost little
CACHED_BYTES = (
    4 * 2**20
)  # of one output at full size: a processor's cache holds it beside the best so far


@dataclass(frozen=True)
class ViewMaps:
    """The maps `(K, N, h, w)` of the slices across one axis of a volume `(Z, Y, X)`.

    frame: of the slices. stride: canvas pixels for each pixel of a map. device: to compute on; the maps may lie
        elsewhere.
    """

    maps: Tensor
    axis: int
    frame: SliceFrame
    stride: int
    device: torch.device

    @property
    def _in_plane(self) -> tuple[int, int]:
        rows, columns = (index for index in range(3) if index != self.axis)
        return rows, columns

    def bounds(self, blocks: Sequence[Sequence[slice]]) -> tuple[Tensor, Tensor]:
        """The lowest and the highest that each output can be in blocks of voxels.

        blocks: along Z, Y and X. Returns: two tensors `(K, blocks of Z, of Y, of X)`.
        """
        rows, columns = self._in_plane
        down, along = (
            [self.frame.support(place, self.stride, block) for block in blocks[axis]]
            for place, axis in enumerate((rows, columns))
        )
        extremes = []
        for extreme in (torch.amin, torch.amax):
            values = _reduced(self.maps, 2, down, extreme).to(self.device)
            values = _reduced(_reduced(values, 1, blocks[self.axis], extreme), 3, along, extreme)
            extremes.append(
                values.float().movedim((1, 2, 3), (self.axis + 1, rows + 1, columns + 1))
            )
        return extremes[0], extremes[1]

    def values(self, output: int, window: Window) -> Tensor:
        """One output on the voxels of a window, in the window's shape."""
        rows, columns = self._in_plane
        maps = self.maps[output, window[self.axis]].to(self.device).float()
        values = self.frame.from_canvas(maps, self.stride, window[rows], window[columns])
        return values.movedim((0, 1, 2), (self.axis, rows, columns))


def label_slices(outputs: Outputs, view: ViewMaps, labels: np.ndarray) -> None:
    """Fill the labels `(Z, Y, X)` of all slices of a view across Z, few at a time."""
    num_slices, height, width = labels.shape
    for slices in cut(slice(0, num_slices), CACHED_BYTES // (4 * height * width)):
        for rows in cut(slice(0, height), CACHED_BYTES // (4 * width)):
            window = (slices, rows, slice(0, width))
            labels[slices, rows] = label_window(outputs, [view], window, (1, BLOCK, BLOCK))


def label_window(
    outputs: Outputs, views: Sequence[ViewMaps], window: Window, block: tuple[int, int, int]
) -> np.ndarray:
    """The labels of a window of a volume, by the mean of its views.

    block: edges along Z, Y and X, in voxels, of the blocks in which outputs are weighed.
    """
    blocks = [cut(part, edge) for part, edge in zip(window, block, strict=True)]
    bounds = [view.bounds(blocks) for view in views]
    lowest, highest = (reduce(torch.add, values) for values in zip(*bounds, strict=True))
    decisive = outputs.may_decide(lowest, highest, len(views)).cpu().numpy()

    def pieces() -> Iterator[Piece]:
        for output, box in _boxes(decisive, blocks):
            z, y, x = (
                slice(b.start - w.start, b.stop - w.start) for b, w in zip(box, window, strict=True)
            )
            yield output, (z, y, x), reduce(torch.add, (view.values(output, box) for view in views))

    shape = tuple(part.stop - part.start for part in window)
    return outputs.label_map(pieces(), shape, len(decisive), views[0].device, len(views))


def cut(part: slice, edge: int) -> list[slice]:
    """Ranges of `edge` and a shorter one that together are `part`; single ones where the edge is below 1."""
    edge = max(1, edge)
    return [
        slice(start, min(start + edge, part.stop)) for start in range(part.start, part.stop, edge)
    ]


def _reduced(
    values: Tensor, dim: int, ranges: Sequence[slice], extreme: Callable[..., Tensor]
) -> Tensor:
    """An extreme over each of several ranges along a dimension."""
    pieces = [
        extreme(values.narrow(dim, part.start, part.stop - part.start), dim=dim) for part in ranges
    ]
    return torch.stack(pieces, dim)


def _boxes(decisive: np.ndarray, blocks: Sequence[Sequence[slice]]) -> Iterator[tuple[int, Window]]:
    """For each output that may decide somewhere, in their order, the smallest window of whole blocks around it."""
    for output, present in enumerate(decisive):
        found = [np.flatnonzero(present.any(axis=axes)) for axes in ((1, 2), (0, 2), (0, 1))]
        if len(found[0]):
            z, y, x = (
                slice(along[rows[0]].start, along[rows[-1]].stop)
                for rows, along in zip(found, blocks, strict=True)
            )
            yield output, (z, y, x)
