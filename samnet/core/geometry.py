"""Voxel grids in space, and the way between a file's own axes and samnet's canonical ones.

Inside samnet every volume is an array `(C, Z, Y, X)` whose X axis runs to the patient's right, Y to the front and Z
to the head as nearly as its axes allow (nibabel's RAS+). No voxel is interpolated to get there: axes are permuted and
flipped, so that going back is exact.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from nibabel.orientations import apply_orientation, inv_ornt_aff, io_orientation, ornt_transform

_CANONICAL = np.array([[0, 1], [1, 1], [2, 1]], dtype=float)


@dataclass(frozen=True)
class Grid:
    """The voxel grid of a volume.

    shape: `(Z, Y, X)` in voxels.
    affine: 4 x 4, from voxel indices `(x, y, z)` to millimetres in RAS+.
    """

    shape: tuple[int, int, int]
    affine: np.ndarray

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Distance of neighbouring voxel centres along `(Z, Y, X)` in mm."""
        lengths = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(lengths[2]), float(lengths[1]), float(lengths[0])

    @property
    def direction(self) -> np.ndarray:
        """The affine's 3 x 3 part with columns of length 1: where the axes x, y and z point."""
        return self.affine[:3, :3] / np.linalg.norm(self.affine[:3, :3], axis=0)

    @property
    def origin(self) -> tuple[float, float, float]:
        """The place `(x, y, z)` of the first voxel in mm, in RAS+."""
        x, y, z = self.affine[:3, 3]
        return float(x), float(y), float(z)

    @property
    def shear(self) -> float:
        """By how many degrees the axes miss being perpendicular to each other, at most."""
        cosines = self.direction.T @ self.direction - np.eye(3)
        return float(np.degrees(np.arcsin(min(1.0, np.abs(cosines).max()))))

    def is_close_to(self, other: Grid, tolerance: float = 1e-2) -> bool:
        """Whether both grids have one shape and their voxels lie within `tolerance` voxels of each other."""
        return self.shape == other.shape and self.distance_in_voxels(other) <= tolerance

    def distance_in_voxels(self, other: Grid) -> float:
        """The largest distance between corresponding corner voxels, in units of this grid's smallest spacing."""
        corners = np.array(
            [[x, y, z, 1] for x in (0, 1) for y in (0, 1) for z in (0, 1)], dtype=float
        )
        corners[:, :3] *= np.array(self.shape[::-1]) - 1
        offsets = corners @ (self.affine - other.affine).T
        return float(np.linalg.norm(offsets[:, :3], axis=1).max() / max(min(self.spacing), 1e-9))


def spacing_affine(spacing: tuple[float, float, float]) -> np.ndarray:
    """The affine of an unrotated grid with `(Z, Y, X)` spacing in mm and its first voxel at the origin."""
    return np.diag([spacing[2], spacing[1], spacing[0], 1.0])


@dataclass(frozen=True)
class Reorientation:
    """The permutation and flips between a native grid and its canonical form."""

    native: Grid

    @property
    def _orientation(self) -> np.ndarray:
        return io_orientation(self.native.affine)

    @property
    def canonical_grid(self) -> Grid:
        shape = self.native.shape[::-1]
        affine = self.native.affine @ inv_ornt_aff(self._orientation, shape)
        order = np.argsort(self._orientation[:, 0])
        x, y, z = (int(shape[axis]) for axis in order)
        return Grid((z, y, x), affine)

    def to_canonical(self, array: np.ndarray) -> np.ndarray:
        """A view of a native array `(..., Z, Y, X)` with canonical axes."""
        return _apply(array, self._orientation)

    def to_native(self, array: np.ndarray) -> np.ndarray:
        """A view of a canonical array `(..., Z, Y, X)` with the native axes: the exact inverse."""
        return _apply(array, ornt_transform(_CANONICAL, self._orientation))


def _apply(array: np.ndarray, orientation: np.ndarray) -> np.ndarray:
    # nibabel works on arrays whose first three axes are x, y, z; ours end in z, y, x.
    return apply_orientation(array.transpose(), orientation).transpose()


@dataclass(frozen=True)
class Box:
    """A block of voxels: half-open ranges `start <= index < stop` along `(Z, Y, X)`."""

    start: tuple[int, int, int]
    stop: tuple[int, int, int]

    @property
    def slices(self) -> tuple[slice, slice, slice]:
        z, y, x = (slice(a, b) for a, b in zip(self.start, self.stop, strict=True))
        return z, y, x

    @property
    def shape(self) -> tuple[int, int, int]:
        z, y, x = (b - a for a, b in zip(self.start, self.stop, strict=True))
        return z, y, x


def bounding_box(mask: np.ndarray) -> Box:
    """The smallest box around the true voxels of a mask `(Z, Y, X)`; the whole volume where none is true."""
    if not mask.any():
        return Box((0, 0, 0), mask.shape)
    spans = []
    for axis in range(3):
        others = tuple(other for other in range(3) if other != axis)
        indices = np.flatnonzero(mask.any(axis=others))
        spans.append((int(indices[0]), int(indices[-1]) + 1))
    start, stop = zip(*spans, strict=True)
    return Box(start, stop)


def nonzero_box(array: np.ndarray, labels: np.ndarray | None = None) -> Box:
    """The box of a canonical image `(C, Z, Y, X)` outside of which every channel is 0 and nothing is labelled."""
    occupied = (array != 0).any(axis=0)
    if labels is not None:
        occupied |= labels != 0
    return bounding_box(occupied)
