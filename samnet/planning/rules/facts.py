"""What a rule may look at."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from samnet.core.machine import Machine
from samnet.dataset.images import is_picture
from samnet.fingerprint.records import Fingerprint

AXIS_NAMES = ("Z", "Y", "X")


@dataclass(frozen=True)
class Facts:
    """fingerprint and machine, and the values decided so far by key."""

    fingerprint: Fingerprint
    machine: Machine
    values: dict[str, Any]

    @property
    def is_picture(self) -> bool:
        """Whether the data are 2D pictures whose spacing says nothing."""
        return is_picture(self.fingerprint.file_ending)

    @property
    def unit(self) -> str:
        return "pixels" if self.is_picture else "mm"

    @property
    def flat_axis(self) -> int | None:
        """The axis along which every case is a single voxel: whatever its spacing, the data are single slices."""
        shapes = np.array([case.shape for case in self.fingerprint.cases.values()])
        flat = np.flatnonzero((shapes == 1).all(axis=0))
        return int(flat[0]) if len(flat) else None

    @property
    def labelled_slices(self) -> int:
        return sum(self.fingerprint.labelled_slices(axis) for axis in self.values["views"])

    def slice_extents(self) -> np.ndarray:
        """The longer edge of each case's slices, in pixels of the planned in-plane spacing, over all views."""
        extents = []
        for case in self.fingerprint.cases.values():
            lengths = np.array(case.cropped_shape) * np.array(case.spacing)
            extents += [max(np.delete(lengths, axis)) for axis in self.values["views"]]
        return np.array(extents) / self.values["in_plane_spacing"]

    def smallest_diameter(self) -> tuple[str, float]:
        """The class with the smallest 10th-percentile in-plane diameter, and that in planned pixels."""
        return self._smallest(self.fingerprint.diameters, 10)

    def thinnest(self) -> tuple[str, float]:
        """The class with the smallest median in-plane thickness, and that in planned pixels."""
        return self._smallest(self.fingerprint.thicknesses, 50)

    def _smallest(self, measure: Callable[[str, int], np.ndarray], percentile: float) -> tuple[str, float]:
        axis = self.values["slicing_axis"]
        measured = {name: measure(name, axis) for name in self.fingerprint.class_names}
        sizes = {name: float(np.percentile(size, percentile)) for name, size in measured.items() if size.size}
        if not sizes:
            return "no labelled class", 32.0
        name = min(sizes, key=lambda key: sizes[key])
        return name, sizes[name] / self.values["in_plane_spacing"]


Rule = Callable[[Facts], tuple[Any, str]]
