"""What a rule may look at: the data, the machine, and the decisions before it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from samnet.core.machine import Machine
from samnet.fingerprint.records import Fingerprint
from samnet.planning.memory import WANTED, MemoryLevel

AXIS_NAMES = ("Z", "Y", "X")
CT_NAMES = ("ct", "cta", "cbct", "computed tomography")
_UNLABELLED_DIAMETER = 32.0
_SMALL_PART = 1 / 4  # of the volume; it lies between the data sets of docs/measurements.md


@dataclass(frozen=True)
class Recipe:
    """What a named configuration says of the length of its training, in place of the planned one.

    Attributes:
        passes: Passes through all slices, as a paper gives its epochs; None for the planned steps.
        stops_at: The share of the learning rate's schedule at which the training ends.
    """

    passes: int | None = None
    stops_at: float = 1.0


NO_RECIPE = Recipe()


@dataclass(frozen=True)
class Facts:
    """Everything that a decision may depend on.

    Attributes:
        fingerprint: The statistics of the data.
        machine: The machine to plan for.
        values: The values decided so far, by key.
        recipe: What the configuration says of its length.
        level: What is given up for memory.
    """

    fingerprint: Fingerprint
    machine: Machine
    values: dict[str, Any]
    recipe: Recipe = NO_RECIPE
    level: MemoryLevel = WANTED

    @property
    def is_2d(self) -> bool:
        """Whether the data are 2D images whose spacing says nothing."""
        return self.fingerprint.is_2d

    @property
    def unit(self) -> str:
        """The unit of lengths: `mm`, or `pixels` or `voxels` where no spacing is known."""
        return self.fingerprint.unit

    @property
    def num_channels(self) -> int:
        """Number of image channels."""
        return len(self.fingerprint.channel_names)

    @property
    def flat_axis(self) -> int | None:
        """The axis along which every case is one voxel thick: the data are single slices."""
        shapes = np.array([case.shape for case in self.fingerprint.cases.values()])
        flat = np.flatnonzero((shapes == 1).all(axis=0))
        return int(flat[0]) if len(flat) else None

    @property
    def reason_for_less(self) -> str:
        """Why something is given up: the memory that a step takes otherwise."""
        level = self.level
        return (
            f"a training step of {level.refused_batch} images would take {level.refused:.1f} GiB, "
            f"on {self.machine}"
        )

    @property
    def position_identifies(self) -> bool:
        """Whether structures extend over so much of the volumes that their position tells them."""
        part = self.fingerprint.labelled_part
        return part is not None and part >= _SMALL_PART

    @property
    def labelled_slices(self) -> int:
        """Slices with any foreground, over all cases and views."""
        return sum(self.fingerprint.labelled_slices(axis) for axis in self.values["views"])

    @property
    def all_slices(self) -> int:
        """Slices of all cases and views, labelled or not."""
        total = 0
        for case in self.fingerprint.cases.values():
            total += sum(case.shape[axis] for axis in self.values["views"])
        return total

    def is_ct(self, channel: int) -> bool:
        """Tell whether a channel is computed tomography, by its name or its values.

        Args:
            channel: Its number.

        Returns:
            Whether it is named so, or its values look like Hounsfield units.
        """
        name = self.fingerprint.channel_names[channel]
        is_named = name.strip().lower() in CT_NAMES
        return is_named or _looks_like_hounsfield(*self.intensity_range(channel))

    def intensity_range(self, channel: int) -> tuple[float, float]:
        """Return the lowest and highest intensity of a channel over all cases.

        Args:
            channel: Its number.

        Returns:
            Both, in the images' own units.
        """
        channels = [case.channels[channel] for case in self.fingerprint.cases.values()]
        return min(entry.minimum for entry in channels), max(entry.maximum for entry in channels)

    def slice_extents(self) -> np.ndarray:
        """Return the longer edge of the slices of each case and view.

        Returns:
            Lengths in pixels of the planned in-plane spacing.
        """
        extents = []
        for case in self.fingerprint.cases.values():
            lengths = np.array(case.cropped_shape) * np.array(case.spacing)
            extents += [max(np.delete(lengths, axis)) for axis in self.values["views"]]
        return np.array(extents) / self.values["in_plane_spacing"]

    def smallest_diameter(self) -> tuple[str, float]:
        """Find the class with the smallest 10th-percentile in-plane diameter.

        Returns:
            Its name, and that diameter in planned pixels.
        """
        return self._smallest(self.fingerprint.diameter, 10)

    def thinnest(self) -> tuple[str, float]:
        """Find the class with the smallest median in-plane thickness.

        Returns:
            Its name, and that thickness in planned pixels.
        """
        return self._smallest(self.fingerprint.thickness, 50)

    def _smallest(
        self, measure: Callable[[str, int, float], float | None], percentile: float
    ) -> tuple[str, float]:
        axis = self.values["slicing_axis"]
        sizes: dict[str, float] = {}
        for name in self.fingerprint.label_scheme.class_names:
            size = measure(name, axis, percentile)
            if size is not None:
                sizes[name] = size
        if not sizes:
            return "no labelled class", _UNLABELLED_DIAMETER
        name = min(sizes, key=lambda key: sizes[key])
        return name, sizes[name] / self.values["in_plane_spacing"]


def _looks_like_hounsfield(minimum: float, maximum: float) -> bool:
    """Tell whether a range is that of CT: air far below zero, tissue and bone above."""
    return -5000 <= minimum <= -500 and maximum >= 200


# A rule takes the facts, and returns the value of its key and one sentence with the reason.
Rule = Callable[[Facts], tuple[Any, str]]
