"""Interpolation along one axis as matrices."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import zoom

from samnet.preprocessing.interpolation import interpolation_matrix, zoom_matrix


@pytest.mark.parametrize(
    ("num_out", "num_in", "step", "start"),
    [
        (224, 50, 0.25, -3.0),
        (80, 240, 3.0, 0.0),
        (50, 224, 4.4, 2.0),
        (7, 7, 1.0, 0.0),
        (10, 1, 0.1, 0.0),
    ],
)
def test_interpolation_rows_sum_to_one_inside_and_to_zero_outside(
    num_out: int, num_in: int, step: float, start: float
) -> None:
    matrix = interpolation_matrix(num_out, num_in, step, start)
    centres = start + (torch.arange(num_out) + 0.5) * step
    inside = ((centres >= 0) & (centres <= num_in)).float()
    assert matrix.min() >= 0
    assert torch.allclose(matrix.sum(1), inside, atol=1e-6)


def test_interpolation_without_scaling_is_the_identity() -> None:
    assert torch.equal(interpolation_matrix(9, 9, 1.0, 0.0), torch.eye(9))


@pytest.mark.parametrize("order", [0, 3])
@pytest.mark.parametrize(("num_in", "num_out"), [(50, 224), (333, 96), (96, 96), (1, 5), (7, 1)])
def test_zoom_matrix_is_the_zoom_of_scipy(num_in: int, num_out: int, order: int) -> None:
    values = np.random.default_rng(0).uniform(0, 1, num_in)
    found = zoom_matrix(num_out, num_in, order) @ torch.from_numpy(values).float()
    np.testing.assert_allclose(found, zoom(values, num_out / num_in, order=order), atol=1e-5)
