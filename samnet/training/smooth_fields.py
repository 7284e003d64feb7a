"""Smooth random fields, for bent space, uneven sensitivity and textures.

A field is drawn as few coarse values, apart from its computation at the points where it is needed.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

_REACH = 3  # coarse values along an edge beyond the number of waves: those of a spline's neighbours


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
    return spread_field(draw_coarse_values(generator, cells), size)


def draw_coarse_values(generator: np.random.Generator, cells: int) -> np.ndarray:
    """Draw the values that determine a smooth field.

    Args:
        generator: Draws the values.
        cells: The number of waves along each edge.

    Returns:
        The values `(cells + 3, cells + 3)`, float32.
    """
    shape = (num_coarse_values(cells), num_coarse_values(cells))
    return generator.standard_normal(shape).astype(np.float32)


def num_coarse_values(cells: int) -> int:
    """Return how many coarse values a field has along each edge.

    Args:
        cells: The number of waves along each edge.

    Returns:
        Their number.
    """
    return cells + _REACH


def spread_field(coarse: np.ndarray, size: int) -> np.ndarray:
    """Compute a smooth field from its coarse values.

    Args:
        coarse: Values of `draw_coarse_values`.
        size: The number of points along each edge.

    Returns:
        The field `(size, size)`, float32.
    """
    weights = spline_weights(len(coarse), size)
    return weights @ coarse @ weights.T


@lru_cache(maxsize=256)
def spline_weights(num_values: int, size: int) -> np.ndarray:
    """Return the weight of each coarse value in each point along one axis.

    Args:
        num_values: The number of coarse values along the axis.
        size: The number of points along the axis.

    Returns:
        Weights `(size, num_values)`, float32.
    """
    position = 1 + (np.arange(size) + 0.5) / size * (num_values - _REACH)
    distance = np.abs(position[:, None] - np.arange(num_values)[None])
    near = 2 / 3 - distance**2 + distance**3 / 2
    far = np.clip(2 - distance, 0, None) ** 3 / 6
    weights = np.where(distance < 1, near, far)
    # Smoothing lowers the variance; this restores it to 1.
    weights /= np.sqrt((weights**2).sum(axis=1, keepdims=True))
    return weights.astype(np.float32)
