"""Training samples of stacks: neighbouring slices, shown in one and the same random way."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from samnet.preprocessing.storage import StoredCase
from samnet.training.copied_structure import CopiedStructure
from samnet.training.intensity_changes import apply_changes
from samnet.training.intensity_draws import draw_intensities
from samnet.training.placement import place_image
from samnet.training.sampling import SliceChoice, SliceChooser
from samnet.training.slice_reader import SampleSpecification, SliceReader
from samnet.training.structure_copying import StructureCopier


class StackSamples(Dataset):
    """An endless map from a number to a training sample of D neighbouring slices.

    A sample is images `(D, C, S, S)`, 0 to 1, and the targets of all of them: classes
    `(D, S / stride, S / stride)`, or a mask of each region `(D, R, S / stride, S / stride)`. The
    slice in the middle is drawn as that of `SliceSamples`. Beyond the first and the last slice of a
    case these are repeated. All slices have the same placement with the same bend, and the same
    change of intensities; only noise differs from slice to slice, and contrast is changed about the
    mean of each. Where the plan mirrors across the slices, half of the stacks are reversed.

    Attributes:
        reader: The slices.
        chooser: Draws those in the middle.
        copier: Copies structures into them, and through all slices of a stack.
    """

    def __init__(self, cases: Sequence[StoredCase], specification: SampleSpecification) -> None:
        """Prepare the samples.

        Args:
            cases: Prepared cases in any order.
            specification: What samples are made by.
        """
        self.reader = SliceReader(cases, specification)
        self.chooser = SliceChooser(self.reader)
        self.copier = StructureCopier(self.reader, self.chooser.places_by_class)

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor]:
        reader = self.reader
        generator = np.random.default_rng([reader.specification.seed, number])
        choice = self.chooser.draw(generator, number)
        case_index, axis = choice.case_index, choice.axis
        is_reversed = reader.draw_reversal(generator, axis)
        indices = self._indices(choice, is_reversed)
        copied = self._copy(number, choice, indices)
        wanted = choice.wanted if copied is None else copied.value
        labels = self._labels(choice, choice.index, copied)
        placement = reader.draw_placement(generator, case_index, axis, labels, wanted)

        images, targets = [], []
        for index in indices:
            images.append(
                reader.image(case_index, axis, index, is_reversed=is_reversed, copied=copied)
            )
            targets.append(reader.target(self._labels(choice, index, copied), placement))
        # As channels of one image, so that they are placed and changed as one.
        placed = place_image(torch.cat(images), placement, reader.configuration.input_size)
        if reader.profile.intensities:
            draws = draw_intensities(generator, tuple(placed.shape))
            placed = torch.from_numpy(apply_changes(placed.numpy(), draws))
        return placed.unflatten(0, (len(images), -1)), torch.stack(targets)

    def _copy(self, number: int, choice: SliceChoice, indices: list[int]) -> CopiedStructure | None:
        stack = choice.case_index, choice.axis
        shown = {other for index in indices for other in self.reader.indices(*stack, index)}
        return self.copier.copy_into(number, stack, choice.index, sorted(shown))

    def _labels(
        self, choice: SliceChoice, index: int, copied: CopiedStructure | None
    ) -> np.ndarray:
        labels = self.reader.labels(choice.case_index, choice.axis, index)
        return labels if copied is None else copied.paste_labels(index, labels)

    def _indices(self, choice: SliceChoice, is_reversed: bool) -> list[int]:
        """Return the slices of the stack around a slice."""
        reach = self.reader.configuration.depth // 2
        last = self.reader.cases[choice.case_index].num_slices(choice.axis) - 1
        around = range(choice.index - reach, choice.index + reach + 1)
        indices = [min(max(index, 0), last) for index in around]
        return indices[::-1] if is_reversed else indices
