"""Reading slices of prepared cases, and deciding at random how they are shown to the network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from samnet.dataset.label_scheme import LabelScheme
from samnet.plan.configuration import Configuration
from samnet.preprocessing.channels import compose_channels, num_input_channels, slice_indices
from samnet.preprocessing.intensity import apply_window, window_bounds
from samnet.preprocessing.slice_frame import SCALE, SliceFrame, planned_frame
from samnet.preprocessing.storage import StoredCase
from samnet.training.augmentation import PROFILES, draw_bend_seed
from samnet.training.copied_structure import CopiedStructure
from samnet.training.placement import Placement, place_labels, place_regions

_ANCHOR_REACH = 0.7  # largest distance of a chosen pixel from the centre, in halves of the input


@dataclass(frozen=True)
class SampleSpecification:
    """What training samples are made by, apart from the cases.

    Attributes:
        configuration: How slices are cut, shown and augmented.
        label_scheme: The classes or regions of the targets.
        stride: Input pixels for each pixel of a target.
        seed: Fixes every random draw.
    """

    configuration: Configuration
    label_scheme: LabelScheme
    stride: int
    seed: int


class SliceReader:
    """Slices of prepared cases, as images and targets of the network.

    A slice is named by the number of its case, the axis across which it lies, and its index. Where
    slices are stretched to the input, they have the size they have in their file: prepared cases
    are cropped, and the margins are put back.

    Attributes:
        cases: The cases, sorted by name.
        specification: What samples are made by.
        profile: What the configuration's `augmentation` stands for.
        bounds: `window_bounds` `(C, 2)` of each case.
    """

    def __init__(self, cases: Sequence[StoredCase], specification: SampleSpecification) -> None:
        """Prepare the reading.

        Args:
            cases: Prepared cases in any order.
            specification: What samples are made by.
        """
        self.cases = sorted(cases, key=lambda case: case.identifier)
        self.specification = specification
        self.configuration = specification.configuration
        self.profile = PROFILES[self.configuration.augmentation]
        windows = self.configuration.intensity
        self.bounds = [window_bounds(windows, case.quantiles) for case in self.cases]

    @property
    def stacks(self) -> list[tuple[int, int]]:
        """Case number and axis of every stack of slices that the network sees."""
        views = self.configuration.views
        return [(index, axis) for index in range(len(self.cases)) for axis in views]

    @property
    def sample_shape(self) -> tuple[int, int, int]:
        """The shape `(C, S, S)` of the image of a sample."""
        size = self.configuration.input_size
        layout = self.configuration.channel_layout
        return num_input_channels(layout, self.num_channels), size, size

    @property
    def num_channels(self) -> int:
        """The number of image channels of the data set."""
        return len(self.configuration.intensity)

    def image(
        self,
        case_index: int,
        axis: int,
        index: int,
        *,
        is_reversed: bool = False,
        copied: CopiedStructure | None = None,
    ) -> Tensor:
        """Read a slice, with its neighbours where the channel layout has them.

        Args:
            case_index: The case.
            axis: The axis across which the slice lies.
            index: The slice.
            is_reversed: Whether its neighbours change places.
            copied: A structure that is copied into the slices; None for none.

        Returns:
            The image `(C, H, W)` on the slice's own pixels, 0 to 1.
        """
        indices = self.indices(case_index, axis, index, is_reversed=is_reversed)
        raw = self.raw_slices(case_index, axis, indices)
        if copied is not None:
            raw = copied.paste_image(indices, raw)
        slices = apply_window(raw, self.bounds[case_index])
        composed = compose_channels(slices, self.configuration.channel_layout)
        return torch.from_numpy(np.ascontiguousarray(composed))

    def indices(
        self, case_index: int, axis: int, index: int, *, is_reversed: bool = False
    ) -> list[int]:
        """Return the slices from which the image of a slice is composed.

        Args:
            case_index: The case.
            axis: The axis across which the slice lies.
            index: The slice.
            is_reversed: Whether its neighbours change places.

        Returns:
            Their numbers.
        """
        num_slices = self.cases[case_index].num_slices(axis)
        indices = slice_indices(self.configuration.channel_layout, index, num_slices)
        return indices[::-1] if is_reversed else indices

    def raw_slices(self, case_index: int, axis: int, indices: list[int]) -> np.ndarray:
        """Read the intensities of slices as they are stored.

        Args:
            case_index: The case.
            axis: The axis across which the slices lie.
            indices: The slices.

        Returns:
            Raw intensities `(N, C, H, W)` on the slices' own pixels.
        """
        case = self.cases[case_index]
        return self._with_margins(case.image_slices(axis, indices), case, axis)

    def stack(self, case_index: int, axis: int) -> tuple[np.ndarray, np.ndarray]:
        """Read all slices of a stack.

        Args:
            case_index: The case.
            axis: The axis across which the slices lie.

        Returns:
            Raw intensities `(N, C, H, W)` and labels `(N, H, W)`.
        """
        case = self.cases[case_index]
        every = list(range(case.num_slices(axis)))
        labels = np.stack([case.label_slice(axis, index) for index in every])
        return self.raw_slices(case_index, axis, every), self._with_margins(labels, case, axis)

    def labels(self, case_index: int, axis: int, index: int) -> np.ndarray:
        """Read the labels of a slice.

        Args:
            case_index: The case.
            axis: The axis across which the slice lies.
            index: The slice.

        Returns:
            Labels `(H, W)` on the slice's own pixels.
        """
        case = self.cases[case_index]
        return self._with_margins(case.label_slice(axis, index), case, axis)

    def _with_margins(self, slices: np.ndarray, case: StoredCase, axis: int) -> np.ndarray:
        """Put back what was cropped of slices `(..., H, W)`, where they are to be stretched."""
        if self.configuration.frame == SCALE:
            return slices
        margins = [(0, 0)] * (slices.ndim - 2) + list(case.margins(axis))
        return np.pad(slices, margins)

    def frame(self, case_index: int, axis: int) -> SliceFrame:
        """Return where the slices of a stack lie on the network's canvas.

        Args:
            case_index: The case.
            axis: The axis across which the slices lie.

        Returns:
            Their frame, as prediction has it.
        """
        spacing = self.cases[case_index].in_plane_spacing(axis)
        return planned_frame(self.configuration, self.size(case_index, axis), spacing)

    def size(self, case_index: int, axis: int) -> tuple[int, int]:
        """Return the size of the slices of a stack.

        Args:
            case_index: The case.
            axis: The axis across which the slices lie.

        Returns:
            Rows and columns, with the margins where they are put back.
        """
        case = self.cases[case_index]
        lengths = enumerate(case.record.shape)
        rows, columns = (length for other, length in lengths if other != axis)
        if self.configuration.frame != SCALE:
            down, along = case.margins(axis)
            rows, columns = rows + sum(down), columns + sum(along)
        return rows, columns

    def target(self, labels: np.ndarray, placement: Placement) -> Tensor:
        """Bring the labels of a slice to the target of a sample.

        Args:
            labels: Labels `(H, W)` on the slice's own pixels.
            placement: Where the network's input lies on the slice.

        Returns:
            Classes `(S / stride, S / stride)`, or a mask of each region
            `(R, S / stride, S / stride)`.
        """
        scheme = self.specification.label_scheme
        size, stride = self.configuration.input_size, self.specification.stride
        if scheme.regions is None:
            return place_labels(labels, placement, size, stride)
        return place_regions(labels, placement, size, stride, scheme)

    def draw_reversal(self, generator: np.random.Generator, axis: int) -> bool:
        """Decide whether the neighbours of a slice change places, which mirrors across the slices.

        Args:
            generator: Draws the decision.
            axis: The axis across which the slice lies.

        Returns:
            The decision.
        """
        is_mirrored = axis in self.configuration.mirror_axes
        may_reverse = self.profile.reverses_neighbours and is_mirrored
        return may_reverse and bool(generator.random() < 0.5)

    def draw_placement(
        self,
        generator: np.random.Generator,
        case_index: int,
        axis: int,
        labels: np.ndarray,
        wanted: int | None,
    ) -> Placement:
        """Decide where the network's input lies on a slice.

        Args:
            generator: Draws the decision.
            case_index: The case.
            axis: The axis across which the slice lies.
            labels: Labels `(H, W)` of the slice.
            wanted: The class that has to be seen; None for any place.

        Returns:
            The placement.
        """
        frame = self.frame(case_index, axis)
        anchor = _random_pixel(generator, labels == wanted) if wanted is not None else None
        row, column = (self._draw_centre(generator, frame, position, anchor) for position in (0, 1))
        in_plane = [other for other in range(3) if other != axis]
        mirror_axes = self.configuration.mirror_axes
        mirrored = (in_plane[0] in mirror_axes, in_plane[1] in mirror_axes)
        matrix = self.profile.draw_matrix(generator, frame.scale, mirrored)
        bend_seed = draw_bend_seed(generator) if self.profile.bends else None
        return Placement((row, column), matrix, bend_seed)

    def _draw_centre(
        self,
        generator: np.random.Generator,
        frame: SliceFrame,
        position: int,
        anchor: tuple[float, float] | None,
    ) -> float:
        """Decide the centre of the input along rows (0) or columns (1), in slice pixels."""
        length = frame.size[position]
        half = self.configuration.input_size / frame.scale[position] / 2
        fits = length / 2 - half <= 0
        if fits or self.configuration.frame != SCALE:  # then it stays near the middle
            reach = self.profile.shift * 2 * half
            return length / 2 + generator.uniform(-1, 1) * reach
        if anchor is None:
            return generator.uniform(half, length - half)
        around = anchor[position] + generator.uniform(-_ANCHOR_REACH, _ANCHOR_REACH) * half
        return float(np.clip(around, half, length - half))


def _random_pixel(generator: np.random.Generator, mask: np.ndarray) -> tuple[float, float]:
    rows, columns = np.nonzero(mask)
    chosen = generator.integers(len(rows))
    return rows[chosen] + 0.5, columns[chosen] + 0.5
