"""Numbers about the structures of a label map, and about the image in and around them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from samnet.dataset.label_scheme import find_boxes, mask_of

# Of larger boxes, every second voxel along each axis is looked at, or fewer.
MAX_VOXELS = 2**22
Box = tuple[slice, ...]
_UNKNOWN = dict.fromkeys(("largest", "slices", "contrast", "spread"))


class StructureMeasure:
    """Measures the structures of a label map, and the image in and around them."""

    def __init__(
        self, labels: np.ndarray, image: np.ndarray, slicing_axis: int, voxel_size: float
    ) -> None:
        """Take a case.

        Args:
            labels: Label map `(Z, Y, X)`.
            image: The image `(C, Z, Y, X)`.
            slicing_axis: The axis across which slices lie.
            voxel_size: Size of a voxel, in the unit in which structures are measured.
        """
        self._labels, self._slicing_axis = labels, slicing_axis
        self._voxel_size = voxel_size
        step = _step(labels.size)
        self._channels = []
        for channel in image:
            deviation = float(channel[::step, ::step, ::step].std(dtype=float))
            if deviation > 0:
                self._channels.append((channel, deviation))

    def signals(self, label_sets: Sequence[Sequence[int]]) -> list[dict[str, Any]]:
        """Measure structures.

        Args:
            label_sets: The values of each structure in the label map.

        Returns:
            For each structure, the numbers of `ClassSignals` that it determines, by name.
        """
        boxes = find_boxes(self._labels, label_sets)
        return [
            self._signals_in(box, values) for box, values in zip(boxes, label_sets, strict=True)
        ]

    def _signals_in(self, box: Box | None, values: Sequence[int]) -> dict[str, Any]:
        if box is None:
            return {"size": 0.0} | _UNKNOWN
        # With the voxels around it: what lies across the border counts.
        wider = [slice(max(0, part.start - 1), part.stop + 1) for part in box]
        step = _step(math.prod(part.stop - part.start for part in wider))
        place = tuple(slice(part.start, part.stop, step) for part in wider)
        mask = mask_of(self._labels[place], values)
        sizes = _part_sizes(mask)
        if not sizes.size:  # it lies between the voxels that are looked at
            return {"size": self._voxel_size} | _UNKNOWN
        contrast, spread = self._intensities(mask, place)
        return {
            "size": float(sizes.sum() * step**3) * self._voxel_size,
            "largest": float(sizes.max() / sizes.sum()),
            "slices": _agreement_of_slices(np.moveaxis(mask, self._slicing_axis, 0)),
            "contrast": contrast,
            "spread": spread,
        }

    def _intensities(self, mask: np.ndarray, place: Box) -> tuple[float | None, float | None]:
        """Return contrast and spread of the channel with the largest contrast."""
        best: tuple[float | None, float | None] = (None, None)
        for channel, deviation in self._channels:
            part = channel[place]
            contrast = _border_contrast(mask, part) / deviation
            if best[0] is None or contrast > best[0]:
                best = (contrast, float(part[mask].std(dtype=float)) / deviation)
        return best


def _border_contrast(mask: np.ndarray, channel: np.ndarray) -> float:
    """Return the difference of the mean intensities on both sides of a border, 0 without one."""
    difference, count = 0.0, 0
    for axis in range(mask.ndim):
        along = np.moveaxis(mask, axis, 0)
        steps = np.diff(np.moveaxis(channel, axis, 0).astype(np.float32), axis=0)
        enters, leaves = along[1:] & ~along[:-1], along[:-1] & ~along[1:]
        difference += float(steps[enters].sum(dtype=float) - steps[leaves].sum(dtype=float))
        count += int(np.count_nonzero(enters) + np.count_nonzero(leaves))
    return abs(difference) / count if count else 0.0


def _agreement_of_slices(mask: np.ndarray) -> float | None:
    """Return the Dice of a structure with itself one slice further; None in a single slice.

    Slices before the first and after the last that show it do not count.
    """
    shown = np.flatnonzero(mask.any(axis=(1, 2)))
    if len(shown) < 2:
        return None
    mask = mask[shown[0] : shown[-1] + 1]
    shared = np.count_nonzero(mask[1:] & mask[:-1])
    return float(2 * shared / (np.count_nonzero(mask[1:]) + np.count_nonzero(mask[:-1])))


def _part_sizes(mask: np.ndarray) -> np.ndarray:
    """Return the number of voxels of each connected part."""
    from scipy.ndimage import label  # slow to load, and needed only where something is predicted

    parts, _ = label(mask)
    return np.bincount(parts.ravel())[1:]


def _step(num_voxels: int) -> int:
    """Return the distance of the voxels that are looked at."""
    return max(1, math.ceil((num_voxels / MAX_VOXELS) ** (1 / 3)))
