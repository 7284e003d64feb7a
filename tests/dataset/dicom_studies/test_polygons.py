"""Pixels of polygons, against the same rule applied pixel by pixel."""

from __future__ import annotations

import numpy as np
import pytest

from samnet.dataset.dicom_studies.polygons import fill_polygon

SHAPE = (19, 23)


def even_odd(points: np.ndarray) -> np.ndarray:
    y, x = np.indices(SHAPE)
    crossings = np.zeros(SHAPE, int)
    for start, end in zip(points, np.roll(points, -1, axis=0), strict=True):
        if start[1] == end[1]:
            continue
        is_passed = (start[1] <= y) != (end[1] <= y)
        at = start[0] + (y - start[1]) * (end[0] - start[0]) / (end[1] - start[1])
        crossings += is_passed & (at <= x)
    return crossings % 2 == 1


def distance_to_edges(points: np.ndarray) -> np.ndarray:
    pixels = np.stack(np.indices(SHAPE)[::-1], axis=-1)
    nearest = np.full(SHAPE, np.inf)
    for start, end in zip(points, np.roll(points, -1, axis=0), strict=True):
        along = end - start
        share = np.clip((pixels - start) @ along / (along @ along), 0, 1)
        offset = pixels - start - share[..., None] * along
        nearest = np.minimum(nearest, np.linalg.norm(offset, axis=-1))
    return nearest


@pytest.mark.parametrize("seed", range(40))
def test_any_polygon(seed: int) -> None:
    generator = np.random.default_rng(seed)
    points = generator.uniform(-6, 28, (generator.integers(3, 30), 2))
    filled = fill_polygon(points, SHAPE)
    assert not (filled.inside & filled.on_edge).any()
    off_edge = ~filled.on_edge
    assert np.array_equal(filled.inside[off_edge], even_odd(points)[off_edge])
    distances = distance_to_edges(points)
    assert filled.on_edge[distances < 0.009].all()
    assert (distances[filled.on_edge] < 0.015).all()


def test_corners_on_pixels() -> None:
    filled = fill_polygon(np.array([[2, 3], [7, 3], [7, 9], [2, 9.0]]), SHAPE)
    assert (filled.inside.sum(), filled.closed.sum()) == (4 * 5, 6 * 7)
    assert filled.closed[3:10, 2:8].all()


def test_a_channel_that_is_passed_twice_leaves_no_trace() -> None:
    two_squares = [[1, 1], [4, 1], [4, 4], [1, 4], [1, 1], [10, 10], [14, 10], [14, 14], [10, 14]]
    points = np.array([*two_squares, [10, 10]], float)
    expected = np.zeros(SHAPE, bool)
    expected[1:5, 1:5] = expected[10:15, 10:15] = True
    assert np.array_equal(fill_polygon(points, SHAPE).closed, expected)


def test_a_polygon_beyond_the_slice_has_no_pixel() -> None:
    square = np.array([[0, 0], [3, 0], [3, 3], [0, 3.0]])
    for shift in ((-9, 0), (30, 0), (0, -9), (0, 30)):
        assert not fill_polygon(square + shift, SHAPE).closed.any()
