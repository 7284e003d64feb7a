"""What a rule may look at."""

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


@dataclass(frozen=True)
class Recipe:
    """What a named configuration says of the length of its training, in place of the planned one.

    passes: through all slices, as a paper gives its epochs. stops_at: the share of the learning rate's schedule at
    which the training ends.
    """

    passes: int | None = None
    stops_at: float = 1.0


NO_RECIPE = Recipe()


@dataclass(frozen=True)
class Facts:
    """fingerprint and machine, the values decided so far by key, the recipe of the configuration, and the level of the
    memory's ladder that is decided on."""

    fingerprint: Fingerprint
    machine: Machine
    values: dict[str, Any]
    recipe: Recipe = NO_RECIPE
    level: MemoryLevel = WANTED

    @property
    def is_2d_image(self) -> bool:
        return self.fingerprint.is_2d_image

    @property
    def unit(self) -> str:
        return "pixels" if self.is_2d_image else "mm"

    @property
    def flat_axis(self) -> int | None:
        """The axis along which every case is a single voxel: whatever its spacing, the data are single slices."""
        shapes = np.array([case.shape for case in self.fingerprint.cases.values()])
        flat = np.flatnonzero((shapes == 1).all(axis=0))
        return int(flat[0]) if len(flat) else None

    @property
    def too_much(self) -> str:
        """Why something is given up: what a step takes otherwise."""
        level = self.level
        return f"a training step of {level.refused_batch} images would take {level.refused:.1f} GiB, on {self.machine}"

    @property
    def labelled_slices(self) -> int:
        return sum(self.fingerprint.labelled_slices(axis) for axis in self.values["views"])

    @property
    def all_slices(self) -> int:
        """Slices of all cases, labelled or not."""
        return sum(
            case.shape[axis]
            for case in self.fingerprint.cases.values()
            for axis in self.values["views"]
        )

    def is_ct(self, channel: int) -> bool:
        """Whether a channel is computed tomography, by its name or by values that look like Hounsfield units."""
        name = self.fingerprint.channel_names[channel]
        return name.strip().lower() in CT_NAMES or _looks_like_hounsfield(
            *self.intensity_range(channel)
        )

    def intensity_range(self, channel: int) -> tuple[float, float]:
        """The lowest and highest intensity of a channel over all cases."""
        channels = [case.channels[channel] for case in self.fingerprint.cases.values()]
        return min(entry.minimum for entry in channels), max(entry.maximum for entry in channels)

    def slice_extents(self) -> np.ndarray:
        """The longer edge of each case's slices, in pixels of the planned in-plane spacing, over all views."""
        extents = []
        for case in self.fingerprint.cases.values():
            lengths = np.array(case.cropped_shape) * np.array(case.spacing)
            extents += [max(np.delete(lengths, axis)) for axis in self.values["views"]]
        return np.array(extents) / self.values["in_plane_spacing"]

    def smallest_diameter(self) -> tuple[str, float]:
        """The class with the smallest 10th-percentile in-plane diameter, and that in planned pixels."""
        return self._smallest(self.fingerprint.diameter, 10)

    def thinnest(self) -> tuple[str, float]:
        """The class with the smallest median in-plane thickness, and that in planned pixels."""
        return self._smallest(self.fingerprint.thickness, 50)

    def _smallest(
        self, measure: Callable[[str, int, float], float | None], percentile: float
    ) -> tuple[str, float]:
        axis = self.values["slicing_axis"]
        measured = {name: measure(name, axis, percentile) for name in self.fingerprint.class_names}
        sizes = {name: size for name, size in measured.items() if size is not None}
        if not sizes:
            return "no labelled class", 32.0
        name = min(sizes, key=lambda key: sizes[key])
        return name, sizes[name] / self.values["in_plane_spacing"]


def _looks_like_hounsfield(minimum: float, maximum: float) -> bool:
    """Whether a range of intensities is that of computed tomography: air far below zero, tissue and bone above."""
    return -5000 <= minimum <= -500 and maximum >= 200


Rule = Callable[[Facts], tuple[Any, str]]
