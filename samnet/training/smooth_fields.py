"""Smooth random fields, for bent space, uneven sensitivity and textures."""

from __future__ import annotations

from functools import lru_cache

import numpy as np


def smooth_field(generator: np.random.Generator, cells: int, size: int) -> np.ndarray:
    """Draw smooth noise of about unit variance: cubic B-splines over random values.

    The same draw at another size is the same field at other points.

    Args:
        generator: Draws the values.
        cells: The number of waves along each edge, at most size / 2.
        size: The number of points along each edge.

    Returns:
        The field `(size, size)`, float32.
    """
    coarse = generator.standard_normal((cells + 3, cells + 3)).astype(np.float32)
    weights = _spline_weights(cells + 3, size)
    return weights @ coarse @ weights.T


@lru_cache(maxsize=256)
def _spline_weights(num_values: int, size: int) -> np.ndarray:
    """Return `(size, num_values)`: the weight of each coarse value in each point along one axis."""
    position = 1 + (np.arange(size) + 0.5) / size * (num_values - 3)
    distance = np.abs(position[:, None] - np.arange(num_values)[None])
    near = 2 / 3 - distance**2 + distance**3 / 2
    far = np.clip(2 - distance, 0, None) ** 3 / 6
    weights = np.where(distance < 1, near, far)
    # Smoothing lowers the variance; this restores it to 1.
    weights /= np.sqrt((weights**2).sum(axis=1, keepdims=True))
    return weights.astype(np.float32)
