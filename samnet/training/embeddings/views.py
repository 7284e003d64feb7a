"""Views of slices that never change: a frozen encoder sees each once, its head as often as it likes."""

from __future__ import annotations

import hashlib
import itertools
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from samnet.preprocessing.slice_frame import SliceFrame, frame_slice, tile_starts
from samnet.training.augmentation import (
    Placement,
    change_intensities,
    place_image,
    place_labels,
    plain_matrix,
)
from samnet.training.sampling import SliceSamples

_CLASS_STRIDE = 2  # of the maps that tell which classes a view shows: that of the finest head


@dataclass(frozen=True)
class SliceView:
    """One way to show a slice to the network: all that its image and its target are made from.

    index: of the slice. centre, matrix, bend_seed: of its `Placement`. is_reversed: whether its neighbours have changed
    places. intensity_seed: of the change of intensities, None for none. classes: values of the labels that it shows.
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
        return Placement(self.centre, np.array(self.matrix), self.bend_seed)


class SliceViews(SliceSamples):
    """Draws the views of slices by number, and shows them.

    The first show the slice as prediction sees it: the whole, or its tiles side by side where one input is too small.
    The others are drawn as training samples are. A draw is fixed by case, slice and number alone: not by the training's
    seed, its fold or its head, so that all of them can share what an encoder makes of it.
    """

    def num_tiles(self, case_index: int, axis: int) -> int:
        """How many views show the whole of a slice once."""
        return len(self._corners(self._frame(case_index, axis)))

    def draw_view(self, case_index: int, axis: int, index: int, number: int) -> SliceView:
        frame = self._frame(case_index, axis)
        corners = self._corners(frame)
        is_reversed, intensity_seed = False, None
        labels = self.cases[case_index].label_slice(axis, index)
        if number < len(corners):
            placement = self._placement_of_tile(frame, corners[number])
        else:
            name = f"{self.cases[case_index].identifier}\0{axis}\0{index}"
            slice_seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:6], "big")
            generator = np.random.default_rng([slice_seed, number])
            is_reversed = self._draw_reversal(generator, axis)
            wanted = self._known_classes(labels)
            # In turns, so that views of a slice that is larger than the input are shared out among its classes.
            anchor = wanted[(slice_seed + number) % len(wanted)] if wanted else None
            placement = self._draw_placement(
                generator, self.cases[case_index], axis, labels, anchor
            )
            intensity_seed = int(generator.integers(2**48)) if self.profile.intensities else None
        matrix = placement.matrix.tolist()
        return SliceView(
            index=index,
            centre=(float(placement.centre[0]), float(placement.centre[1])),
            matrix=((matrix[0][0], matrix[0][1]), (matrix[1][0], matrix[1][1])),
            bend_seed=placement.bend_seed,
            is_reversed=is_reversed,
            intensity_seed=intensity_seed,
            classes=self._known_classes(
                place_labels(
                    labels, placement, self.configuration.input_size, _CLASS_STRIDE
                ).numpy()
            ),
        )

    def image(self, case_index: int, axis: int, view: SliceView) -> Tensor:
        """The network's input `(C, S, S)`."""
        image = self._slice_image(case_index, axis, view.index, is_reversed=view.is_reversed)
        placed = place_image(image, view.placement, self.configuration.input_size)
        if view.intensity_seed is None:
            return placed
        return torch.from_numpy(
            change_intensities(placed.numpy(), np.random.default_rng(view.intensity_seed))
        )

    def target(self, case_index: int, axis: int, view: SliceView) -> Tensor:
        """What the image shows, as the target of a sample."""
        return self._place_target(
            self.cases[case_index].label_slice(axis, view.index), view.placement
        )

    def _frame(self, case_index: int, axis: int) -> SliceFrame:
        case, configuration = self.cases[case_index], self.configuration
        rows, columns = (length for other, length in enumerate(case.record.shape) if other != axis)
        return frame_slice(
            (rows, columns),
            case.in_plane_spacing(axis),
            configuration.in_plane_spacing,
            configuration.zoom,
            configuration.input_size,
        )

    def _corners(self, frame: SliceFrame) -> list[tuple[int, int]]:
        rows, columns = (
            tile_starts(length, self.configuration.input_size, overlap=0.0)
            for length in frame.canvas
        )
        return list(itertools.product(rows, columns))

    def _placement_of_tile(self, frame: SliceFrame, corner: tuple[int, int]) -> Placement:
        half = self.configuration.input_size / 2
        row, column = (
            (corner[axis] + half - frame.offset(axis)) / frame.scale[axis] for axis in (0, 1)
        )
        return Placement((row, column), plain_matrix(frame.scale))

    def _known_classes(self, labels: np.ndarray) -> tuple[int, ...]:
        return tuple(
            int(value) for value in np.unique(labels) if value not in (0, self.ignore_label)
        )
