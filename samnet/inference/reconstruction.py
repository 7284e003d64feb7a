"""Labels on a volume's own voxels from maps at the networks' resolution.

A voxel's values are interpolated: none lies above the largest or below the smallest value of the
map around it. These bounds tell, block by block, which outputs can decide the label: few of many.
Only those are resampled, each in the smallest box around its blocks. The labels are those that all
outputs would give, resampled everywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from samnet.inference.outputs import Outputs, Piece, Subvolume
from samnet.preprocessing.slice_frame import SliceFrame

BLOCK = 32  # edge in voxels: fine enough to leave much out, and coarse enough to cost little
CACHED_BYTES = 4 * 2**20  # of one output at full size: a processor's cache holds it and the best
BYTES_ON_GPU = 64 * 2**20  # of one output at full size: launches count there, not the cache


class View(Protocol):
    """Probabilities of outputs on a volume `(Z, Y, X)`, computed where they are needed."""

    @property
    def device(self) -> torch.device:
        """Where they are computed."""

    def bounds(self, blocks: Sequence[Sequence[slice]]) -> tuple[Tensor, Tensor]:
        """Return the lowest and the highest value that each output can have in blocks of voxels.

        Args:
            blocks: The blocks along Z, Y and X.
        """

    def values(self, output: int, subvolume: Subvolume) -> Tensor:
        """Return one output on the voxels of a part of the volume.

        Args:
            output: Its number.
            subvolume: The part, as ranges along `(Z, Y, X)`.
        """


@dataclass(frozen=True)
class ViewMaps:
    """The maps of the slices across one axis of a volume `(Z, Y, X)`.

    Attributes:
        maps: Probabilities `(K, N, h, w)` of K outputs on N slices; on any device.
        axis: The axis across which the slices lie.
        frame: Where the slices lie on their canvas.
        stride: Canvas pixels for each pixel of a map.
        device: Where to compute.
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
        """Return the lowest and the highest value that each output can have in blocks of voxels.

        Args:
            blocks: The blocks along Z, Y and X.

        Returns:
            Two tensors `(K, blocks of Z, of Y, of X)`.
        """
        rows, columns = self._in_plane
        down = [self.frame.support(0, self.stride, block) for block in blocks[rows]]
        along = [self.frame.support(1, self.stride, block) for block in blocks[columns]]
        extremes = []
        for extreme in (torch.amin, torch.amax):
            # Rows first: what is left is small enough to be moved to the device.
            values = _reduced(self.maps, 2, down, extreme).to(self.device)
            values = _reduced(values, 1, blocks[self.axis], extreme)
            values = _reduced(values, 3, along, extreme)
            places = (self.axis + 1, rows + 1, columns + 1)
            extremes.append(values.float().movedim((1, 2, 3), places))
        return extremes[0], extremes[1]

    def values(self, output: int, subvolume: Subvolume) -> Tensor:
        """Return one output on the voxels of a part of the volume.

        Args:
            output: Its number.
            subvolume: The part, as ranges along `(Z, Y, X)`.

        Returns:
            Probabilities in the part's shape.
        """
        rows, columns = self._in_plane
        maps = self.maps[output, subvolume[self.axis]].to(self.device).float()
        values = self.frame.from_canvas(maps, self.stride, subvolume[rows], subvolume[columns])
        return values.movedim((0, 1, 2), (self.axis, rows, columns))


def label_slices(
    outputs: Outputs, view: ViewMaps, labels: np.ndarray, part_bytes: int | None = None
) -> None:
    """Compute the labels of all slices of a view, few at a time.

    Args:
        outputs: What the outputs stand for.
        view: Maps of slices across Z.
        labels: Labels `(Z, Y, X)` to be filled.
        part_bytes: What an output takes at full size in the part that is computed at a time; None
            for what suits the device.
    """
    if part_bytes is None:
        part_bytes = CACHED_BYTES if view.device.type == "cpu" else BYTES_ON_GPU
    num_slices, height, width = labels.shape
    for slices in cut(slice(0, num_slices), part_bytes // (4 * height * width)):
        for rows in cut(slice(0, height), part_bytes // (4 * width)):
            subvolume = (slices, rows, slice(0, width))
            labels[slices, rows] = label_subvolume(outputs, [view], subvolume, (1, BLOCK, BLOCK))


def label_subvolume(
    outputs: Outputs,
    views: Sequence[View],
    subvolume: Subvolume,
    block: tuple[int, int, int],
    weights: Sequence[float] | None = None,
) -> np.ndarray:
    """Compute the labels of a part of a volume, by the mean of its views.

    Args:
        outputs: What the outputs stand for.
        views: Maps of slices across one or more axes, of one or more models.
        subvolume: The part, as ranges along `(Z, Y, X)`.
        block: Edges along Z, Y and X, in voxels, of the blocks in which bounds are computed.
        weights: The weight of each view, above 0; None for equal ones.

    Returns:
        Labels in the part's shape.
    """
    count = len(views) if weights is None else sum(weights)
    blocks = [cut(part, edge) for part, edge in zip(subvolume, block, strict=True)]
    bounds = [view.bounds(blocks) for view in views]
    lowest, highest = (weighted_sum(values, weights) for values in zip(*bounds, strict=True))
    decisive = outputs.may_decide(lowest, highest, count).cpu().numpy()

    def pieces() -> Iterator[Piece]:
        for output, box in _boxes(decisive, blocks):
            total = weighted_sum((view.values(output, box) for view in views), weights)
            yield output, _relative(box, subvolume), total

    shape = tuple(part.stop - part.start for part in subvolume)
    return outputs.label_map(pieces(), shape, len(decisive), views[0].device, count)


def weighted_sum(values: Iterable[Tensor], weights: Sequence[float] | None = None) -> Tensor:
    """Add up tensors, of which two exist at a time.

    Args:
        values: Tensors of one shape.
        weights: The weight of each; None for 1.

    Returns:
        The sum.
    """
    if weights is not None:
        values = (weight * value for weight, value in zip(weights, values, strict=True))
    return reduce(torch.add, values)


def cut(part: slice, edge: int) -> list[slice]:
    """Cut a range into ranges of one length and a shorter last one.

    Args:
        part: The range.
        edge: The length; single indices where it is below 1.

    Returns:
        The ranges, which together are `part`.
    """
    edge = max(1, edge)
    starts = range(part.start, part.stop, edge)
    return [slice(start, min(start + edge, part.stop)) for start in starts]


def _relative(box: Subvolume, subvolume: Subvolume) -> Subvolume:
    """Return a box in coordinates of a part of the volume."""
    z, y, x = (
        slice(inner.start - outer.start, inner.stop - outer.start)
        for inner, outer in zip(box, subvolume, strict=True)
    )
    return z, y, x


def _reduced(
    values: Tensor, dim: int, ranges: Sequence[slice], extreme: Callable[..., Tensor]
) -> Tensor:
    """Return an extreme over each of several ranges along a dimension."""
    first = ranges[0].start
    if list(ranges) == cut(slice(first, first + len(ranges)), 1):
        return values.narrow(dim, first, len(ranges))  # of single values, one after the other
    pieces = []
    for part in ranges:
        pieces.append(extreme(values.narrow(dim, part.start, part.stop - part.start), dim=dim))
    return torch.stack(pieces, dim)


def _boxes(
    decisive: np.ndarray, blocks: Sequence[Sequence[slice]]
) -> Iterator[tuple[int, Subvolume]]:
    """Yield each output that may decide somewhere, and the smallest box of whole blocks around it.

    The outputs come in their order.
    """
    for output, present in enumerate(decisive):
        found = [np.flatnonzero(present.any(axis=axes)) for axes in ((1, 2), (0, 2), (0, 1))]
        if not len(found[0]):
            continue
        z, y, x = (
            slice(along[indices[0]].start, along[indices[-1]].stop)
            for indices, along in zip(found, blocks, strict=True)
        )
        yield output, (z, y, x)
