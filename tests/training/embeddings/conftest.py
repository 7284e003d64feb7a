"""Fixtures of the tests of embeddings."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from builders.tiny import make_case

from samnet.preprocessing.storage import StoredCase


@pytest.fixture
def cases(tmp_path: Path) -> list[StoredCase]:
    """Return two cases of 6 x 24 x 20 voxels with two classes, whose images show their labels."""
    stored = []
    for seed in range(2):
        generator = np.random.default_rng(seed)
        labels = np.zeros((6, 24, 20), dtype=np.uint8)
        labels[1:5, 4:12, 3:10] = 1
        labels[2, 14:18, 12:17] = 2
        noise = generator.normal(0, 10, labels.shape)
        image = (40 + 60 * labels + noise).clip(1, 255).astype(np.uint8)
        name, views = f"case_{seed}", (0, 1, 2)
        stored.append(make_case(tmp_path / "slices", image[None], labels, name=name, views=views))
    return stored
