"""Volumes to register: a body with a structure, moved and stretched in a known way."""

from __future__ import annotations

import numpy as np
from scipy import ndimage


def make_phantom(
    shape: tuple[int, int, int] = (24, 30, 28),
    shift: tuple[float, float, float] = (0.0, 0.0, 0.0),
    stretch: float = 1.0,
    seed: int = 0,
    with_structure: bool = True,
) -> tuple[np.ndarray, np.ndarray]:
    """Make a body with a structure in it.

    Args:
        shape: Voxels along `(Z, Y, X)`; with one slice, the body is a cylinder.
        shift: What body and structure are moved by, in voxels.
        stretch: What they are enlarged by.
        seed: Of the noise.
        with_structure: Whether the structure is bright, and not only labelled.

    Returns:
        The image `(1, Z, Y, X)`, 0 to 1, and the labels `(Z, Y, X)`: 1 in the structure.
    """
    grid = np.indices(shape).astype(float)
    middle = np.array(shape) / 2 - 0.5 + shift
    places = [(grid[axis] - middle[axis]) / stretch for axis in range(3)]
    size = np.array(shape) if min(shape) > 1 else np.array((1e9, *shape[1:]))
    body = sum((place / length) ** 2 for place, length in zip(places, 0.38 * size, strict=True))
    inner = sum(
        ((place - offset) / length) ** 2
        for place, offset, length in zip(
            places, (0.0, 0.1 * shape[1], -0.08 * shape[2]), 0.15 * size, strict=True
        )
    )
    labels = (inner < 1).astype(np.uint8)
    image = 0.4 * (body < 1) + (0.5 * labels if with_structure else 0)
    image = ndimage.gaussian_filter(image, [min(0.7, length - 1) for length in shape])
    noise = np.random.default_rng(seed).normal(0, 0.01, shape)
    return (image + noise).clip(0, 1)[None].astype(np.float32), labels


def overlap(one: np.ndarray, other: np.ndarray) -> float:
    """Return the Dice of two label maps of one class."""
    return float(2 * (one * other).sum() / (one.sum() + other.sum()))
