"""Smooth random fields: how space is bent, how uneven a sensitivity is, what a texture looks like."""

from __future__ import annotations

from functools import lru_cache

import numpy as np


def smooth_field(generator: np.random.Generator, cells: int, size: int) -> np.ndarray:
    """Smooth noise `(size, size)`, float32, of about unit variance: cubic B-splines over random values.

    cells: how many waves fit, at most size / 2. The same draw at another size is the same field at other points.
    """
    coarse = generator.standard_normal((cells + 3, cells + 3)).astype(np.float32)
    weights = _spline_weights(cells + 3, size)
    return weights @ coarse @ weights.T


@lru_cache(maxsize=256)
def _spline_weights(cells: int, size: int) -> np.ndarray:
    """`(size, cells)`: what each coarse value contributes to each pixel along one axis."""
    at = 1 + (np.arange(size) + 0.5) / size * (cells - 3)
    distance = np.abs(at[:, None] - np.arange(cells)[None])
    near = 2 / 3 - distance**2 + distance**3 / 2
    far = np.clip(2 - distance, 0, None) ** 3 / 6
    weights = np.where(distance < 1, near, far)
    # unit variance again after the smoothing
    weights /= np.sqrt((weights**2).sum(axis=1, keepdims=True))
    return weights.astype(np.float32)
