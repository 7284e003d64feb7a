"""The connected components of a mask."""

from __future__ import annotations

import numpy as np


def label_components(mask: np.ndarray) -> tuple[np.ndarray, int]:
    """Number the connected components of a mask.

    Voxels that share a face, an edge or a corner are connected: 26 neighbours in 3D, 8 in 2D.

    Args:
        mask: Booleans `(Z, Y, X)` or `(Y, X)`.

    Returns:
        The number of the component of each voxel, from 1 up, 0 outside of the mask; and how many
        components there are.
    """
    from scipy import ndimage  # slow to load, and not needed by every worker

    neighbourhood = np.ones((3,) * mask.ndim, dtype=bool)
    labelled, count = ndimage.label(mask, structure=neighbourhood)
    return labelled, int(count)


def component_sizes(labelled: np.ndarray, count: int) -> np.ndarray:
    """Count the voxels of each component.

    Args:
        labelled: Numbers of components, as `label_components` returns them.
        count: How many components there are.

    Returns:
        Voxels `(count,)` of the components 1 to `count`.
    """
    return np.bincount(labelled.reshape(-1), minlength=count + 1)[1:]
