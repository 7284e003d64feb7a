from __future__ import annotations

import numpy as np
import pytest

from samnet.training.smooth_fields import smooth_field


def test_smooth_field_has_unit_variance_and_is_smooth() -> None:
    fields = np.stack([smooth_field(np.random.default_rng(seed), 6, 128) for seed in range(50)])
    assert fields.std() == pytest.approx(1, abs=0.1)
    assert np.abs(np.diff(fields, axis=1)).max() < 0.5


def test_smooth_field_of_another_size_is_the_same_field() -> None:
    fine, coarse = (smooth_field(np.random.default_rng(0), 5, size) for size in (120, 60))
    means = fine.reshape(60, 2, 60, 2).mean(axis=(1, 3))
    assert np.abs(means - coarse).max() < 0.02
