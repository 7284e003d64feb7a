"""Training samples.

Sample i depends on the seed and on i alone: not on worker processes, file order or a resumed run.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from samnet.preprocessing.storage import StoredCase
from samnet.training.copied_structure import CopiedStructure
from samnet.training.intensity_changes import apply_changes
from samnet.training.intensity_draws import IntensityDraws, draw_intensities
from samnet.training.placement import Placement, place_image
from samnet.training.slice_reader import SampleSpecification, SliceReader
from samnet.training.structure_copying import StructureCopier

_ORDER_OF_PASS = 1  # sets the draw of an order apart from other draws
# Class -> the (case, axis, slices) that show it. The slices are in arrays: an object for each would
# be copied into every worker process that draws.
PlacesByClass = dict[int, list[tuple[int, int, np.ndarray]]]


@dataclass(frozen=True)
class SliceChoice:
    """A slice that was drawn.

    Attributes:
        case_index: The number of its case.
        axis: The axis across which it lies.
        index: The slice.
        wanted: The class it was drawn for; None where it was drawn from all slices.
    """

    case_index: int
    axis: int
    index: int
    wanted: int | None


@dataclass(frozen=True)
class SampleDraws:
    """All that is random of a training sample, apart from the pixels that it is applied to.

    Attributes:
        choice: The slice.
        is_reversed: Whether its neighbours change places.
        placement: Where the network's input lies on the slice.
        intensities: How its intensities are changed; None where the augmentation changes none.
        copied: A structure that is copied into the slice and its neighbours; None for none. Its
            place depends on their pixels.
    """

    choice: SliceChoice
    is_reversed: bool
    placement: Placement
    intensities: IntensityDraws | None
    copied: CopiedStructure | None = None


class SliceChooser:
    """Draws slices: a planned share by class, every class equally often, the others from all.

    The others are drawn independently, or in passes that show every slice once.
    """

    def __init__(
        self,
        reader: SliceReader,
        may_show: Callable[[int, int, int, int], bool] | None = None,
    ) -> None:
        """Prepare the draws.

        Args:
            reader: The slices.
            may_show: Tells by class, case, axis and slice whether a slice may be drawn for a class
                that it shows. None where all may.
        """
        self._foreground_share = reader.configuration.foreground_share
        self._in_passes = reader.configuration.slice_order == "passes"
        self._seed = reader.specification.seed
        self._pass: tuple[int, np.ndarray] = (-1, np.empty(0, int))  # the latest one, and its order
        self._stacks = reader.stacks
        lengths = [reader.cases[index].num_slices(axis) for index, axis in self._stacks]
        self._last_slices = np.cumsum(lengths)
        self.places_by_class = _places_by_class(reader)
        if may_show is not None:
            self.places_by_class = _filter_places(self.places_by_class, may_show)

    @property
    def num_slices(self) -> int:
        """The number of all slices."""
        return int(self._last_slices[-1])

    def draw(self, generator: np.random.Generator, number: int) -> SliceChoice:
        """Draw the slice of a sample.

        Args:
            generator: Draws it.
            number: The number of the sample.

        Returns:
            The slice, and the class it was drawn for.
        """
        if self.places_by_class and generator.random() < self._foreground_share:
            wanted = list(self.places_by_class)[generator.integers(len(self.places_by_class))]
            places = self.places_by_class[wanted]
            case_index, axis, indices = places[generator.integers(len(places))]
            index = int(indices[generator.integers(len(indices))])
            return SliceChoice(case_index, axis, index, wanted)
        if self._in_passes:
            chosen = self._slice_of_pass(*divmod(number, self.num_slices))
        else:
            chosen = int(generator.integers(self._last_slices[-1]))
        stack = int(np.searchsorted(self._last_slices, chosen, side="right"))
        case_index, axis = self._stacks[stack]
        first = int(self._last_slices[stack - 1]) if stack else 0
        return SliceChoice(case_index, axis, chosen - first, None)

    def _slice_of_pass(self, number: int, position: int) -> int:
        """Return the slice at a position of a pass, in which every slice comes once."""
        if number != self._pass[0]:
            # The sample itself is drawn with the seed and one number.
            generator = np.random.default_rng([self._seed, number, _ORDER_OF_PASS])
            self._pass = number, generator.permutation(self.num_slices)
        return int(self._pass[1][position])


class SliceSamples(Dataset):
    """An endless map from a number to a training sample.

    A sample is an image `(C, S, S)`, 0 to 1, and its target: classes `(S / stride, S / stride)`, or
    a mask of each region `(R, S / stride, S / stride)`. Slices are drawn by label, with regions
    too: each region is seen at least as often as any of its labels.

    Attributes:
        reader: The slices.
        chooser: Draws them.
        copier: Copies structures into them.
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
        return _apply_draws(self.reader, *self.draw(number))

    def draw(self, number: int) -> tuple[SampleDraws, np.ndarray]:
        """Draw a sample.

        Args:
            number: Its number.

        Returns:
            All that is random of it, and the labels `(H, W)` of its slice, with those of a copied
            structure.
        """
        generator = np.random.default_rng([self.reader.specification.seed, number])
        choice = self.chooser.draw(generator, number)
        stack = choice.case_index, choice.axis
        shown = self.reader.indices(*stack, choice.index)
        copied = self.copier.copy_into(number, stack, choice.index, shown)
        return _draw_appearance(self.reader, generator, choice, copied)


def draw_sample(
    reader: SliceReader, generator: np.random.Generator, choice: SliceChoice
) -> tuple[Tensor, Tensor]:
    """Show a slice in a random way.

    Args:
        reader: The slices.
        generator: Draws the way.
        choice: The slice.

    Returns:
        Image and target, as those of `SliceSamples`.
    """
    return _apply_draws(reader, *_draw_appearance(reader, generator, choice))


def _draw_appearance(
    reader: SliceReader,
    generator: np.random.Generator,
    choice: SliceChoice,
    copied: CopiedStructure | None = None,
) -> tuple[SampleDraws, np.ndarray]:
    """Draw the way in which a slice is shown; return it with the labels of the slice."""
    labels = reader.labels(choice.case_index, choice.axis, choice.index)
    wanted = choice.wanted
    if copied is not None:
        labels, wanted = copied.paste_labels(choice.index, labels), copied.value
    is_reversed = reader.draw_reversal(generator, choice.axis)
    placement = reader.draw_placement(generator, choice.case_index, choice.axis, labels, wanted)
    intensities = None
    if reader.profile.intensities:
        intensities = draw_intensities(generator, reader.sample_shape)
    return SampleDraws(choice, is_reversed, placement, intensities, copied), labels


def _apply_draws(
    reader: SliceReader, draws: SampleDraws, labels: np.ndarray
) -> tuple[Tensor, Tensor]:
    choice = draws.choice
    image = reader.image(
        choice.case_index,
        choice.axis,
        choice.index,
        is_reversed=draws.is_reversed,
        copied=draws.copied,
    )
    placed = place_image(image, draws.placement, reader.configuration.input_size)
    if draws.intensities is not None:
        placed = torch.from_numpy(apply_changes(placed.numpy(), draws.intensities))
    return placed, reader.target(labels, draws.placement)


def _places_by_class(reader: SliceReader) -> PlacesByClass:
    ignore_label = reader.specification.label_scheme.ignore_label
    places: PlacesByClass = {}
    for case_index, axis in reader.stacks:
        shown = reader.cases[case_index].record.class_slices[str(axis)]
        for value, indices in shown.items():
            if int(value) != ignore_label:
                slices = np.array(indices, np.int32)
                places.setdefault(int(value), []).append((case_index, axis, slices))
    return dict(sorted(places.items()))


def _filter_places(
    places_by_class: PlacesByClass, may_show: Callable[[int, int, int, int], bool]
) -> PlacesByClass:
    filtered: PlacesByClass = {}
    for value, places in places_by_class.items():
        for case_index, axis, indices in places:
            is_kept = [may_show(value, case_index, axis, int(index)) for index in indices]
            if any(is_kept):
                kept = indices[np.array(is_kept)]
                filtered.setdefault(value, []).append((case_index, axis, kept))
    return filtered
