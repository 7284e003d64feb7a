"""Samples that are drawn but not shown yet: worker processes draw, the device shows.

Every random number is drawn on the CPU, by the generators of the samples of single slices. A GPU
has other generators: with them a run would depend on the device, and could not be resumed
elsewhere. Noise of a whole image is drawn on the CPU too, because later draws follow it in the same
generator; one image in seven has any.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from torch.utils.data import Dataset

from samnet.training.device_batches.intensities import pack_changes
from samnet.training.device_batches.parcel import Parcel
from samnet.training.device_batches.placing import pack_placements
from samnet.training.device_batches.slices import pack_slices
from samnet.training.placement import averaged_size, has_many_values
from samnet.training.sampling import SampleDraws, SliceSamples
from samnet.training.slice_reader import SliceReader


class DrawnSample(NamedTuple):
    """A sample that is drawn.

    Attributes:
        draws: All that is random of it.
        indices: The slices that its image is composed of.
        labels: Labels `(H, W)` of its slice.
        images: Raw intensities `(N, C, H, W)` of these slices; None where they lie on the device.
    """

    draws: SampleDraws
    indices: list[int]
    labels: np.ndarray
    images: np.ndarray | None


class DrawnSamples(Dataset):
    """An endless map from a number to what is drawn of the sample with this number.

    Attributes:
        samples: The samples.
        carries_slices: Whether the pixels are brought along.
    """

    def __init__(self, samples: SliceSamples, *, carries_slices: bool) -> None:
        """Prepare the samples.

        Args:
            samples: The samples.
            carries_slices: Whether the pixels are brought along.
        """
        self.samples, self.carries_slices = samples, carries_slices
        self._stacks = {stack: number for number, stack in enumerate(samples.reader.stacks)}

    @property
    def reader(self) -> SliceReader:
        """The slices."""
        return self.samples.reader

    def __getitem__(self, number: int) -> DrawnSample:
        draws, labels = self.samples.draw(number)
        choice = draws.choice
        case_index, axis = choice.case_index, choice.axis
        indices = self.reader.indices(case_index, axis, choice.index, is_reversed=draws.is_reversed)
        images = None
        if self.carries_slices:
            images = self.reader.raw_slices(case_index, axis, indices)
            if draws.copied is not None:
                images = draws.copied.paste_image(indices, images)
        return DrawnSample(draws, indices, labels, images)

    def collate(self, batch: Sequence[DrawnSample]) -> Parcel:
        """Make a batch of drawn samples.

        Args:
            batch: The B samples.

        Returns:
            For each sample `stack`, `index` and `indices` (the slices), `averaged` (see
            `averaged_size`) and `nearest` (see `has_many_values`); and what `pack_placements`,
            `pack_changes` and, where pixels are brought along, `pack_slices` return.
        """
        draws = [sample.draws for sample in batch]
        stacks = [self._stacks[one.choice.case_index, one.choice.axis] for one in draws]
        averaged = [averaged_size(one.draws.placement, one.labels.shape) for one in batch]
        placements = [one.placement for one in draws]
        arrays = {
            "stack": np.array(stacks),
            "index": np.array([one.choice.index for one in draws]),
            "indices": np.array([sample.indices for sample in batch]),
            "averaged": np.array(averaged),
            "nearest": np.array([has_many_values(sample.labels) for sample in batch]),
        }
        arrays |= pack_placements(placements, self.reader.configuration.input_size)
        arrays |= pack_changes([one.intensities for one in draws])
        if self.carries_slices:
            images = [sample.images for sample in batch if sample.images is not None]
            arrays |= pack_slices(images, [sample.labels for sample in batch])
        return Parcel.pack(arrays)
