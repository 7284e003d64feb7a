from __future__ import annotations

import numpy as np
import pytest
from scipy.interpolate import BSpline

from samnet.training.smooth_fields import smooth_field


def test_smooth_field_has_unit_variance_and_is_smooth() -> None:
    fields = np.stack([smooth_field(np.random.default_rng(seed), 6, 128) for seed in range(50)])
    assert fields.std() == pytest.approx(1, abs=0.1)
    assert np.abs(np.diff(fields, axis=1)).max() < 0.5


def test_smooth_field_of_another_size_is_the_same_field() -> None:
    fine, coarse = (smooth_field(np.random.default_rng(0), 5, size) for size in (120, 60))
    means = fine.reshape(60, 2, 60, 2).mean(axis=(1, 3))
    assert np.abs(means - coarse).max() < 0.02


@pytest.mark.parametrize("cells", [1, 2, 5])
def test_smooth_field_is_the_normalised_cubic_b_spline_of_its_values(cells: int) -> None:
    size, number = 40, cells + 3
    coarse = np.random.default_rng(3).standard_normal((number, number)).astype(np.float32)
    basis = BSpline(np.arange(-2, number + 2), np.eye(number), 3)
    weights = basis(1 + (np.arange(size) + 0.5) / size * cells)
    weights /= np.linalg.norm(weights, axis=1, keepdims=True)
    field = smooth_field(np.random.default_rng(3), cells, size)
    assert field.dtype == np.float32
    assert field == pytest.approx(weights @ coarse @ weights.T, abs=1e-5)
