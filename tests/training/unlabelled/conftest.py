"""Fixtures of the tests of learning from slices without labels."""

from __future__ import annotations

from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest
from builders.tiny import make_case

from samnet.preprocessing.storage import StoredCase


class CaseWithoutLabels(StoredCase):
    """A case whose labels must not be read."""

    def label_slice(self, axis: int, index: int) -> NoReturn:
        raise AssertionError("labels of a case without labels were read")


@pytest.fixture
def without_labels(tmp_path: Path) -> StoredCase:
    """Return a case of 6 x 24 x 20 voxels with two bright places, whose labels nobody may read."""
    image = np.random.default_rng(1).normal(30, 5, (6, 24, 20))
    image[:, 5:15, 4:10] += 100
    image[:, 9:19, 12:18] += 200
    labels = np.zeros((6, 24, 20), np.uint8)
    stored = make_case(tmp_path / "without", image.clip(1, 255).astype(np.uint8)[None], labels)
    return CaseWithoutLabels(stored.folder, stored.record)
