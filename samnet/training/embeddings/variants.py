"""Variants of slices that never change: a frozen encoder sees each once, its head many times."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from samnet.preprocessing.slice_frame import SliceFrame, tile_starts
from samnet.preprocessing.storage import StoredCase
from samnet.training.augmentation import plain_matrix
from samnet.training.intensity_changes import change_intensities
from samnet.training.placement import Placement, place_image, place_labels
from samnet.training.slice_reader import SampleSpecification, SliceReader

_CLASS_STRIDE = 2  # of the maps that tell which classes a variant shows: that of the finest head


@dataclass(frozen=True)
class SliceVariant:
    """One way to show a slice to the network: all that its image and its target are made from.

    Attributes:
        index: The slice.
        centre: Centre of its `Placement` in slice pixels (rows, columns).
        matrix: Matrix of its `Placement`.
        bend_seed: Bend of its `Placement`, None for none.
        is_reversed: Whether its neighbours have changed places.
        intensity_seed: Seed of the change of intensities, None for none.
        classes: Values of the labels that it shows.
    """

    index: int
    centre: tuple[float, float]
    matrix: tuple[tuple[float, float], tuple[float, float]]
    bend_seed: int | None
    is_reversed: bool
    intensity_seed: int | None
    classes: tuple[int, ...]

    @property
    def placement(self) -> Placement:
        """Where the network's input lies on the slice."""
        return Placement(self.centre, np.array(self.matrix), self.bend_seed)


class VariantReader:
    """Draws the variants of slices by number, and shows them.

    The first variants show the slice as prediction sees it: the whole, or its tiles side by side
    where one input is too small. The others are drawn as training samples are. A draw is fixed by
    case, slice and number alone, not by the seed of the training, its fold or its head: all of them
    can share what an encoder makes of it.

    Attributes:
        reader: The slices.
    """

    def __init__(self, cases: Sequence[StoredCase], specification: SampleSpecification) -> None:
        """Prepare the variants.

        Args:
            cases: Prepared cases in any order.
            specification: What samples are made by.
        """
        self.reader = SliceReader(cases, specification)
        self.configuration = specification.configuration

    @property
    def cases(self) -> list[StoredCase]:
        """The cases, sorted by name."""
        return self.reader.cases

    @property
    def specification(self) -> SampleSpecification:
        """What samples are made by."""
        return self.reader.specification

    @property
    def num_slices(self) -> int:
        """The number of all slices."""
        return sum(self.cases[index].num_slices(axis) for index, axis in self.reader.stacks)

    @property
    def num_tiles_of_all(self) -> int:
        """The number of variants that show every slice once."""
        return sum(
            self.num_tiles(index, axis) * self.cases[index].num_slices(axis)
            for index, axis in self.reader.stacks
        )

    def num_tiles(self, case_index: int, axis: int) -> int:
        """Count the variants that show the whole of a slice once.

        Args:
            case_index: The case.
            axis: The axis across which the slice lies.

        Returns:
            Their number; 1 where the slice fits the input.
        """
        return len(self._corners(self.reader.frame(case_index, axis)))

    def draw(self, case_index: int, axis: int, index: int, number: int) -> SliceVariant:
        """Draw a variant of a slice.

        Args:
            case_index: The case.
            axis: The axis across which the slice lies.
            index: The slice.
            number: The number of the variant, from 0 on.

        Returns:
            The variant.
        """
        labels = self.reader.labels(case_index, axis, index)
        corners = self._corners(self.reader.frame(case_index, axis))
        is_reversed, intensity_seed = False, None
        if number < len(corners):
            frame = self.reader.frame(case_index, axis)
            placement = self._placement_of_tile(frame, corners[number])
        else:
            seed = _seed_of(self.cases[case_index].identifier, axis, index)
            generator = np.random.default_rng([seed, number])
            is_reversed = self.reader.draw_reversal(generator, axis)
            classes = self._known_classes(labels)
            # In turns, so that the variants of a slice that is larger than the input are shared
            # out among its classes.
            wanted = classes[(seed + number) % len(classes)] if classes else None
            placement = self.reader.draw_placement(generator, case_index, axis, labels, wanted)
            if self.reader.profile.intensities:
                intensity_seed = int(generator.integers(2**48))
        return self._describe(index, placement, is_reversed, intensity_seed, labels)

    def _describe(
        self,
        index: int,
        placement: Placement,
        is_reversed: bool,
        intensity_seed: int | None,
        labels: np.ndarray,
    ) -> SliceVariant:
        shown = place_labels(labels, placement, self.configuration.input_size, _CLASS_STRIDE)
        matrix = placement.matrix.tolist()
        return SliceVariant(
            index=index,
            centre=(float(placement.centre[0]), float(placement.centre[1])),
            matrix=((matrix[0][0], matrix[0][1]), (matrix[1][0], matrix[1][1])),
            bend_seed=placement.bend_seed,
            is_reversed=is_reversed,
            intensity_seed=intensity_seed,
            classes=self._known_classes(shown.numpy()),
        )

    def image(self, case_index: int, axis: int, variant: SliceVariant) -> Tensor:
        """Show a variant.

        Args:
            case_index: The case.
            axis: The axis across which the slice lies.
            variant: The variant.

        Returns:
            The network's input `(C, S, S)`.
        """
        is_reversed = variant.is_reversed
        image = self.reader.image(case_index, axis, variant.index, is_reversed=is_reversed)
        placed = place_image(image, variant.placement, self.configuration.input_size)
        if variant.intensity_seed is None:
            return placed
        generator = np.random.default_rng(variant.intensity_seed)
        return torch.from_numpy(change_intensities(placed.numpy(), generator))

    def target(self, case_index: int, axis: int, variant: SliceVariant) -> Tensor:
        """Return the target of a variant.

        Args:
            case_index: The case.
            axis: The axis across which the slice lies.
            variant: The variant.

        Returns:
            What its image shows, as the target of a sample.
        """
        labels = self.reader.labels(case_index, axis, variant.index)
        return self.reader.target(labels, variant.placement)

    def _corners(self, frame: SliceFrame) -> list[tuple[int, int]]:
        size = self.configuration.input_size
        rows, columns = (tile_starts(length, size, overlap=0.0) for length in frame.canvas)
        return list(itertools.product(rows, columns))

    def _placement_of_tile(self, frame: SliceFrame, corner: tuple[int, int]) -> Placement:
        half = self.configuration.input_size / 2
        row, column = (
            (corner[axis] + half - frame.offset(axis)) / frame.scale[axis] for axis in (0, 1)
        )
        return Placement((row, column), plain_matrix(frame.scale))

    def _known_classes(self, labels: np.ndarray) -> tuple[int, ...]:
        ignore_label = self.specification.label_scheme.ignore_label
        return tuple(int(value) for value in np.unique(labels) if value not in (0, ignore_label))


def _seed_of(identifier: str, axis: int, index: int) -> int:
    """Return the seed of a slice."""
    name = f"{identifier}\0{axis}\0{index}"
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:6], "big")
