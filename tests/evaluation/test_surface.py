"""Distances of surfaces, compared with all pairs of border voxels."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from samnet.evaluation.surface import hausdorff_95_in_voxels, surface_scores


def border_by_neighbours(mask: np.ndarray) -> np.ndarray:
    padded = np.pad(mask, 1)
    is_inside = np.ones_like(mask)
    for axis in range(3):
        for step in (-1, 1):
            is_inside &= np.roll(padded, step, axis)[1:-1, 1:-1, 1:-1]
    return mask & ~is_inside


def test_hausdorff_95_agrees_with_the_distances_of_all_pairs_of_border_voxels() -> None:
    generator = np.random.default_rng(3)
    masks = [generator.random((6, 7, 8)) < 0.8 for _ in range(2)]
    points = [np.argwhere(border_by_neighbours(mask)) for mask in masks]
    distances = cdist(*points)
    expected = np.percentile(np.concatenate([distances.min(axis=0), distances.min(axis=1)]), 95)
    assert hausdorff_95_in_voxels(*masks) == pytest.approx(expected)


def test_surface_functions_refuse_empty_masks() -> None:
    full, empty = np.ones((2, 2, 2), bool), np.zeros((2, 2, 2), bool)
    with pytest.raises(ValueError, match="empty"):
        surface_scores(full, empty, (1.0, 1.0, 1.0), 1.0)
    with pytest.raises(ValueError, match="empty"):
        hausdorff_95_in_voxels(empty, full)
