"""The images of many samples at once: from raw slices to the inputs of the network."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from samnet.training.device_batches.parcel import Parcel
from samnet.training.device_batches.placing import sample_images
from samnet.training.placement import average_pixels
from samnet.training.slice_reader import SliceReader

_TINY = float(np.finfo(np.float32).tiny)


class ImageMaker:
    """Makes images of batches, as `SliceReader.image` and `place_image` do for one slice."""

    def __init__(self, reader: SliceReader, device: torch.device) -> None:
        """Prepare the tables.

        Args:
            reader: The slices.
            device: Where images are made.
        """
        self._layout = reader.configuration.channel_layout
        bounds = np.stack([reader.bounds[case_index] for case_index, _ in reader.stacks])
        self._bounds = torch.from_numpy(bounds).float().to(device)
        self._has_own_bounds = bool(np.isnan(bounds).any())

    def make(
        self,
        raw: Tensor,
        sizes: list[list[int]],
        here: Parcel,
        there: Parcel,
        grids: Tensor,
    ) -> Tensor:
        """Make the images of a batch.

        Args:
            raw: Raw intensities `(B, N, C, Hp, Wp)`, see `SliceBatch`.
            sizes: Rows and columns of each slice.
            here: What was drawn, in the memory of the CPU.
            there: The same on the device.
            grids: Where the pixels of the images lie, `(B, S, S, 2)`.

        Returns:
            Images `(B, C', S, S)`, 0 to 1.
        """
        slices = self._apply_window(raw, there["stack"]).flatten(1, 2)
        for row, (size, smaller) in enumerate(zip(sizes, here["averaged"].tolist(), strict=True)):
            if size != smaller:
                slices[row] = _shrink(slices[row], size, smaller)
        return self._compose(sample_images(slices, grids, there["averaged"]))

    def _apply_window(self, raw: Tensor, stacks: Tensor) -> Tensor:
        """Scale intensities `(B, N, C, Hp, Wp)` as `apply_window` does, in single precision."""
        bounds = self._bounds[stacks][:, None, :, None, None]
        lower, upper = bounds[..., 0], bounds[..., 1]
        if self._has_own_bounds:
            # What continues a slice repeats its values, and changes neither of these.
            lowest, highest = raw.amin((-2, -1), keepdim=True), raw.amax((-2, -1), keepdim=True)
            lower = torch.where(lower.isnan(), lowest.float(), lower)
            upper = torch.where(upper.isnan(), highest.float(), upper)
        return (raw - lower).div_((upper - lower).clamp_(min=_TINY)).clamp_(0, 1)

    def _compose(self, slices: Tensor) -> Tensor:
        """Compose channels as `compose_channels` does; here of `(B, N * C, S, S)`."""
        if self._layout == "repeat":
            return slices.repeat(1, 3, 1, 1)
        if self._layout == "pair_mean":
            return torch.cat([slices, slices.mean(1, keepdim=True)], dim=1)
        return slices


def _shrink(image: Tensor, size: list[int], smaller: list[int]) -> Tensor:
    """Shrink an image `(C, Hp, Wp)` of a size by averaging, and continue it again."""
    averaged = average_pixels(image[:, : size[0], : size[1]], (smaller[0], smaller[1]))
    rows = torch.arange(image.shape[1], device=image.device).clamp_(max=smaller[0] - 1)
    columns = torch.arange(image.shape[2], device=image.device).clamp_(max=smaller[1] - 1)
    return averaged[:, rows[:, None], columns]
