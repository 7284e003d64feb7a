"""Affines of every orientation."""

from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation

SPACING_XYZ = (0.7, 1.1, 4.5)


def native_affine(
    order: tuple[int, ...], signs: tuple[int, ...], degrees: float = 0.0
) -> np.ndarray:
    """Return an affine whose voxel axis i runs along world axis `order[i]`.

    Then everything is turned by `degrees` about an oblique axis.
    """
    affine = np.eye(4)
    affine[:3, :3] = 0
    for axis in range(3):
        affine[order[axis], axis] = signs[axis] * SPACING_XYZ[axis]
    axis_of_rotation = np.array([1, -2, 3]) / np.sqrt(14)
    turn = Rotation.from_rotvec(np.radians(degrees) * axis_of_rotation).as_matrix()
    affine[:3, :3] = turn @ affine[:3, :3]
    affine[:3, 3] = (-31.5, 8.25, 120.0)
    return affine
