"""Training samples. Sample i depends on the seed and i alone: not on worker processes, file order or a resumed run."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from samnet.dataset.label_scheme import Regions
from samnet.plan.configuration import Configuration
from samnet.preprocessing.channels import compose_channels, slice_indices
from samnet.preprocessing.intensity import apply_window, window_bounds
from samnet.preprocessing.slice_frame import frame_slice
from samnet.preprocessing.storage import StoredCase
from samnet.training.augmentation import (
    PROFILES,
    Placement,
    change_intensities,
    draw_bend_seed,
    place_image,
    place_labels,
    place_regions,
)


class SliceSamples(Dataset):
    """An endless map from a number to a training sample: image `(C, S, S)`, 0 to 1, and target.

    The target holds the classes, `(S / stride, S / stride)`, or a mask of each region, `(R, S / stride, S / stride)`.
    Slices are drawn by label, with regions too: each is seen at least as often as any of its labels.

    cases: in any order. stride: input pixels for each pixel of the target. ignore_label, regions: as in the plan.
    """

    def __init__(
        self,
        cases: Sequence[StoredCase],
        configuration: Configuration,
        *,
        stride: int,
        seed: int,
        ignore_label: int | None = None,
        regions: Regions | None = None,
    ) -> None:
        self.cases = sorted(cases, key=lambda case: case.identifier)
        self.configuration, self.stride, self.seed = configuration, stride, seed
        self.ignore_label, self.regions = ignore_label, regions
        self.profile = PROFILES[configuration.augmentation]
        self.bounds = [
            window_bounds(configuration.intensity, case.quantiles) for case in self.cases
        ]
        self.stacks = [
            (index, axis) for index in range(len(self.cases)) for axis in configuration.views
        ]
        self.last_slices = np.cumsum(
            [self.cases[index].num_slices(axis) for index, axis in self.stacks]
        )
        self.places_by_class = _places_by_class(self.cases, configuration.views, ignore_label)

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor]:
        generator = np.random.default_rng([self.seed, number])
        return self._draw_sample(generator, *self._draw_slice(generator))

    def _draw_sample(
        self,
        generator: np.random.Generator,
        case_index: int,
        axis: int,
        index: int,
        wanted: int | None,
    ) -> tuple[Tensor, Tensor]:
        """Image and target of a slice, shown in a way that is drawn."""
        case, size = self.cases[case_index], self.configuration.input_size
        image = self._slice_image(
            case_index, axis, index, is_reversed=self._draw_reversal(generator, axis)
        )
        labels = case.label_slice(axis, index)
        placement = self._draw_placement(generator, case, axis, labels, wanted)
        placed = place_image(image, placement, size)
        target = self._place_target(labels, placement)
        if self.profile.intensities:
            placed = torch.from_numpy(change_intensities(placed.numpy(), generator))
        return placed, target

    def _place_target(self, labels: np.ndarray, placement: Placement) -> Tensor:
        size = self.configuration.input_size
        if self.regions is None:
            return place_labels(labels, placement, size, self.stride)
        return place_regions(labels, placement, size, self.stride, self.regions, self.ignore_label)

    def _slice_image(self, case_index: int, axis: int, index: int, *, is_reversed: bool) -> Tensor:
        """A slice `(C, H, W)` with its neighbours, where the layout has them, in the order given; 0 to 1."""
        case, layout = self.cases[case_index], self.configuration.channel_layout
        indices = slice_indices(layout, index, case.num_slices(axis))
        slices = apply_window(
            case.image_slices(axis, indices[::-1] if is_reversed else indices),
            self.bounds[case_index],
        )
        return torch.from_numpy(np.ascontiguousarray(compose_channels(slices, layout)))

    def _draw_reversal(self, generator: np.random.Generator, axis: int) -> bool:
        may_reverse = self.profile.reverses_neighbours and axis in self.configuration.mirror_axes
        return may_reverse and bool(generator.random() < 0.5)

    def _draw_slice(self, generator: np.random.Generator) -> tuple[int, int, int, int | None]:
        """Case, axis, slice, and the class the slice was chosen for."""
        if self.places_by_class and generator.random() < self.configuration.foreground_share:
            wanted = list(self.places_by_class)[generator.integers(len(self.places_by_class))]
            places = self.places_by_class[wanted]
            case_index, axis, indices = places[generator.integers(len(places))]
            return case_index, axis, int(indices[generator.integers(len(indices))]), wanted
        chosen = int(generator.integers(self.last_slices[-1]))
        stack = int(np.searchsorted(self.last_slices, chosen, side="right"))
        case_index, axis = self.stacks[stack]
        return case_index, axis, chosen - int(self.last_slices[stack - 1] if stack else 0), None

    def _draw_placement(
        self,
        generator: np.random.Generator,
        case: StoredCase,
        axis: int,
        labels: np.ndarray,
        wanted: int | None,
    ) -> Placement:
        configuration = self.configuration
        size = (labels.shape[0], labels.shape[1])
        frame = frame_slice(
            size,
            case.in_plane_spacing(axis),
            configuration.in_plane_spacing,
            configuration.zoom,
            configuration.input_size,
        )
        centre = []
        anchor = _random_pixel(generator, labels == wanted) if wanted is not None else None
        for position in (0, 1):
            half = configuration.input_size / frame.scale[position] / 2
            slack = size[position] / 2 - half
            if slack <= 0:  # the slice fits: it stays near the middle
                reach = self.profile.shift * 2 * half
                centre.append(size[position] / 2 + generator.uniform(-1, 1) * reach)
            elif anchor is None:
                centre.append(generator.uniform(half, size[position] - half))
            else:
                around = anchor[position] + generator.uniform(-0.7, 0.7) * half
                centre.append(float(np.clip(around, half, size[position] - half)))
        in_plane = [other for other in range(3) if other != axis]
        mirrored = (
            in_plane[0] in configuration.mirror_axes,
            in_plane[1] in configuration.mirror_axes,
        )
        matrix = self.profile.draw_matrix(generator, frame.scale, mirrored)
        return Placement(
            (centre[0], centre[1]),
            matrix,
            draw_bend_seed(generator) if self.profile.bends else None,
        )


def _random_pixel(generator: np.random.Generator, mask: np.ndarray) -> tuple[float, float]:
    rows, columns = np.nonzero(mask)
    chosen = generator.integers(len(rows))
    return rows[chosen] + 0.5, columns[chosen] + 0.5


def _places_by_class(
    cases: Sequence[StoredCase], views: Sequence[int], ignore_label: int | None
) -> dict[int, list[tuple[int, int, tuple[int, ...]]]]:
    """Class -> the (case, axis, slices) that show it."""
    places: dict[int, list[tuple[int, int, tuple[int, ...]]]] = {}
    for case_index, case in enumerate(cases):
        for axis in views:
            for value, indices in case.record.class_slices[str(axis)].items():
                if int(value) != ignore_label:
                    places.setdefault(int(value), []).append((case_index, axis, indices))
    return dict(sorted(places.items()))
