"""Samples of slices without labels: each is shown twice, once hardly changed and once strongly."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from samnet.preprocessing.storage import StoredCase
from samnet.training.intensity_changes import apply_changes
from samnet.training.intensity_draws import ChangeShares, draw_intensities
from samnet.training.placement import place_image
from samnet.training.slice_reader import SampleSpecification, SliceReader

# Changes of the view that the student learns from; more of each kind than labelled slices get.
STRONG_SHARES = ChangeShares(
    curve=0.8,
    unevenness=0.6,
    noise=0.3,
    blur=0.5,
    brightness=0.5,
    contrast=0.5,
    low_resolution=0.2,
    gamma=0.5,
)
# The part of a slice that another one replaces (CutMix, arXiv 1905.04899), as in UniMatch (arXiv
# 2208.09910).
MIXED_SHARE = 0.5  # of the slices
BOX_AREAS = (0.02, 0.4)  # shares of the input
BOX_RATIOS = (0.3, 1 / 0.3)  # of height to width
_STREAM = 2  # sets the draws apart from those of labelled samples


class UnlabelledSamples(Dataset):
    """An endless map from a number to a sample without a label.

    A sample is the weak view `(C, S, S)`, placed as labelled slices are; the strong view of the
    same pixels `(C, S, S)`, with changed intensities; and the box `(4,)` that another slice of the
    batch replaces in the strong view: first and last row, first and last column, in pixels of the
    target. Sample i depends on the seed and on i alone.

    Attributes:
        reader: The slices.
    """

    def __init__(self, cases: Sequence[StoredCase], specification: SampleSpecification) -> None:
        """Prepare the samples.

        Args:
            cases: Prepared cases without labels.
            specification: What samples are made by.
        """
        self.reader = SliceReader(cases, specification)
        self._stacks = self.reader.stacks
        lengths = [self.reader.cases[index].num_slices(axis) for index, axis in self._stacks]
        self._ends = np.cumsum(lengths)

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor, Tensor]:
        """Make a sample.

        Args:
            number: Its number.

        Returns:
            Weak view, strong view, and box.
        """
        reader = self.reader
        specification = reader.specification
        generator = np.random.default_rng([specification.seed, number, _STREAM])
        case_index, axis, index = self._draw_slice(generator)
        is_reversed = reader.draw_reversal(generator, axis)
        no_labels = np.zeros((0, 0), np.uint8)  # the place is drawn without them
        placement = reader.draw_placement(generator, case_index, axis, no_labels, None)
        image = reader.image(case_index, axis, index, is_reversed=is_reversed)
        weak = place_image(image, placement, reader.configuration.input_size)
        draws = draw_intensities(generator, reader.sample_shape, STRONG_SHARES)
        strong = torch.from_numpy(apply_changes(weak.numpy(), draws))
        size = reader.configuration.input_size // specification.stride
        return weak, strong, draw_box(generator, size)

    def _draw_slice(self, generator: np.random.Generator) -> tuple[int, int, int]:
        """Draw case, axis and index of a slice, every slice alike."""
        chosen = int(generator.integers(self._ends[-1]))
        stack = int(np.searchsorted(self._ends, chosen, side="right"))
        case_index, axis = self._stacks[stack]
        first = int(self._ends[stack - 1]) if stack else 0
        return case_index, axis, chosen - first


def draw_box(generator: np.random.Generator, size: int) -> Tensor:
    """Draw the part of a slice that another slice replaces.

    Args:
        generator: Draws it.
        size: Edge of the square target in pixels.

    Returns:
        First row, row behind the last, first column, column behind the last, `(4,)`; all 0 where
        nothing is replaced.
    """
    if generator.random() >= MIXED_SHARE:
        return torch.zeros(4, dtype=torch.long)
    area = generator.uniform(*BOX_AREAS) * size**2
    ratio = float(np.exp(generator.uniform(*np.log(BOX_RATIOS))))
    height = min(size, max(1, round((area * ratio) ** 0.5)))
    width = min(size, max(1, round((area / ratio) ** 0.5)))
    row = int(generator.integers(size - height, endpoint=True))
    column = int(generator.integers(size - width, endpoint=True))
    return torch.tensor([row, row + height, column, column + width])


def mix_pairs(values: Tensor, boxes: Tensor, scale: int = 1) -> Tensor:
    """Replace a box of each row of a batch by the same box of the row next to it.

    Rows 0 and 1 are a pair, rows 2 and 3, and so on; a last row without another stays unchanged.
    So the halves of a batch in two processes are mixed as the whole batch is in one, where they
    have an even number of rows.

    Args:
        values: `(B, ..., H, W)`.
        boxes: The box of each row `(B, 4)`, see `draw_box`.
        scale: Pixels of the values for each pixel of the boxes.

    Returns:
        The mixed batch, of the same shape.
    """
    mixed = values.clone()
    for row, box in enumerate(boxes.tolist()):
        other = row ^ 1
        if other < len(values):
            top, bottom, left, right = (scale * edge for edge in box)
            mixed[row, ..., top:bottom, left:right] = values[other, ..., top:bottom, left:right]
    return mixed
