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


def test_hd95_is_the_95th_percentile_of_the_surface() -> None:
    """On a bar stands a tower with 5.6 % of the surface: its lowest part decides."""
    bar = np.zeros((14, 3, 204), bool)
    bar[1, 1, 2:202] = True
    tower = bar.copy()
    tower[2:14, 1, 100] = True
    assert surface_scores(tower, bar, (1.0, 1.0, 1.0), 1.0).hd95 == pytest.approx(1.0)
