"""The maps of a volume that a model has predicted, seen from the axes of the image's file.

Models may need other axes than each other (the plan's `orientation`). The axes of the file are the
ones that all share.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from samnet.core.geometry import Box, Reorientation
from samnet.inference.outputs import Subvolume
from samnet.inference.reconstruction import View, ViewMaps
from samnet.preprocessing.case import PreparedVolume


@dataclass(frozen=True)
class VolumeMaps:
    """All views of a volume by one model, at the resolution of its networks' outputs.

    The image itself is not held.

    Attributes:
        views: The views, on the model's axes.
        reorientation: The way from the axes of the file to those.
        box: The part of the volume that is predicted, on the model's axes.
    """

    views: tuple[ViewMaps, ...]
    reorientation: Reorientation
    box: Box

    @classmethod
    def of(cls, volume: PreparedVolume, views: Sequence[ViewMaps]) -> VolumeMaps:
        """Take the maps of a volume.

        Args:
            volume: The volume.
            views: Its views.

        Returns:
            The maps with their place on the grid of the file.
        """
        return cls(tuple(views), volume.reorientation, volume.box)

    @property
    def num_outputs(self) -> int:
        """The number of outputs of the networks."""
        return len(self.views[0].maps)

    @property
    def native_box(self) -> Box:
        """The part of the volume that is predicted, on the axes of the file."""
        starts, stops = [], []
        whole = self.reorientation.native.shape
        for native, (axis, is_reversed) in enumerate(self.reorientation.native_axes):
            part = slice(self.box.start[axis], self.box.stop[axis])
            if is_reversed:
                part = _reversed(part, whole[native])
            starts.append(part.start)
            stops.append(part.stop)
        return Box((starts[0], starts[1], starts[2]), (stops[0], stops[1], stops[2]))

    def native_views(self, device: torch.device) -> list[View]:
        """Return the views on the axes of the file.

        Args:
            device: Where to compute.

        Returns:
            One for each view. Positions count from the first voxel of `native_box`.
        """
        axes = self.reorientation.native_axes
        shape = self.native_box.shape
        return [NativeView(replace(view, device=device), axes, shape) for view in self.views]


@dataclass(frozen=True)
class NativeView:
    """A view on the axes of the image's file.

    Attributes:
        view: The view on the axes of the model.
        axes: See `Reorientation.native_axes`.
        shape: Number of voxels along the file's `(Z, Y, X)`.
    """

    view: ViewMaps
    axes: tuple[tuple[int, bool], ...]
    shape: tuple[int, int, int]

    @property
    def device(self) -> torch.device:
        """Where probabilities are computed."""
        return self.view.device

    def bounds(self, blocks: Sequence[Sequence[slice]]) -> tuple[Tensor, Tensor]:
        """Return the lowest and the highest value that each output can have in blocks of voxels.

        Args:
            blocks: The blocks along the file's Z, Y and X.

        Returns:
            Two tensors `(K, blocks of Z, of Y, of X)`.
        """
        turned: list[Sequence[slice]] = [(), (), ()]
        for native, (axis, is_reversed) in enumerate(self.axes):
            along = blocks[native]
            if is_reversed:
                length = self.shape[native]
                along = [_reversed(block, length) for block in reversed(along)]
            turned[axis] = along
        lowest, highest = self.view.bounds(turned)
        return self._to_native(lowest), self._to_native(highest)

    def values(self, output: int, subvolume: Subvolume) -> Tensor:
        """Return one output on the voxels of a part of the volume.

        Args:
            output: Its number.
            subvolume: The part, as ranges along the file's `(Z, Y, X)`.

        Returns:
            Probabilities in the part's shape.
        """
        turned = [slice(0)] * 3
        for native, (axis, is_reversed) in enumerate(self.axes):
            part = subvolume[native]
            turned[axis] = _reversed(part, self.shape[native]) if is_reversed else part
        return self._to_native(self.view.values(output, (turned[0], turned[1], turned[2])))

    def _to_native(self, values: Tensor) -> Tensor:
        """Bring values `(..., Z, Y, X)` on the axes of the model to those of the file."""
        first = values.ndim - 3
        order = [first + axis for axis, _ in self.axes]
        moved = values.permute(*range(first), *order)
        flips = [first + native for native, (_, is_reversed) in enumerate(self.axes) if is_reversed]
        return moved.flip(flips)


def _reversed(part: slice, length: int) -> slice:
    """Return a range as it is counted from the other end of an axis."""
    return slice(length - part.stop, length - part.start)
