"""Changes of the mask of one structure: its largest component, small components, holes.

Voxels are connected where they share a face, an edge or a corner. Holes are what a structure
encloses so that no way over faces leads out.
"""

from __future__ import annotations

import numpy as np

from samnet.core.components import component_sizes, label_components


def largest_component(mask: np.ndarray) -> np.ndarray:
    """Keep the largest component of a mask.

    Args:
        mask: Booleans `(Z, Y, X)`.

    Returns:
        Booleans of the same shape. Of components of one size the first is kept.
    """
    components, count = label_components(mask)
    if count <= 1:
        return mask
    return components == 1 + int(component_sizes(components, count).argmax())


def without_small_components(mask: np.ndarray, fewest_voxels: float) -> np.ndarray:
    """Leave out the components that are smaller than some number of voxels.

    Args:
        mask: Booleans `(Z, Y, X)`.
        fewest_voxels: The number of voxels from which on a component is kept.

    Returns:
        Booleans of the same shape.
    """
    components, count = label_components(mask)
    is_large = component_sizes(components, count) >= fewest_voxels
    return mask if is_large.all() else np.append(False, is_large)[components]


def with_filled_holes(mask: np.ndarray, flat_axes: tuple[int, ...] = ()) -> np.ndarray:
    """Add what a mask encloses.

    Args:
        mask: Booleans `(Z, Y, X)`, a part of a volume.
        flat_axes: The axes along which the volume has one voxel. Holes are then those in the plane.

    Returns:
        Booleans of the same shape.
    """
    from scipy.ndimage import binary_fill_holes

    return np.expand_dims(binary_fill_holes(np.squeeze(mask, flat_axes)), flat_axes)
