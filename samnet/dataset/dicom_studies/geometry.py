"""Where the slices of a series lie, and points of the patient in its voxels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from samnet.core.geometry import Grid
from samnet.dataset.formats.itk import LPS_TO_RAS


@dataclass(frozen=True)
class SeriesGeometry:
    """How the slices of a series lie.

    Attributes:
        grid: The grid that they form.
        positions: Position `(Z, 3)` of the first voxel of each slice in LPS mm, as stated. The
            distances of slices differ a little from those of the grid.
        image_uids: SOPInstanceUID of the image of each slice.
    """

    grid: Grid
    positions: np.ndarray
    image_uids: tuple[str, ...]

    def to_voxels(self, points: np.ndarray) -> np.ndarray:
        """Return points in voxels; those on the plane of slice k have the third coordinate k.

        Args:
            points: Points `(N, 3)` in LPS mm.

        Returns:
            Coordinates `(N, 3)` as x, y and z; the centre of the first voxel is at (0, 0, 0).
        """
        voxels = self._on_grid(points)
        stated = self._on_grid(self.positions)[:, 2]
        if len(stated) > 1:
            voxels[:, 2] = _interpolate(voxels[:, 2], stated)
        return voxels

    def _on_grid(self, points: np.ndarray) -> np.ndarray:
        inverse = np.linalg.inv(self.grid.affine) @ LPS_TO_RAS
        return points @ inverse[:3, :3].T + inverse[:3, 3]


def _interpolate(heights: np.ndarray, stated: np.ndarray) -> np.ndarray:
    """Return heights as numbers of slices, which lie at stated heights; beyond them they are 1."""
    numbers = np.interp(heights, stated, np.arange(len(stated), dtype=float))
    numbers = np.where(heights < stated[0], heights - stated[0], numbers)
    return np.where(heights > stated[-1], heights - stated[-1] + len(stated) - 1, numbers)
