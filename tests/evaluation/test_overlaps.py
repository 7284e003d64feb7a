"""Counts of pairs of labels."""

from __future__ import annotations

import numpy as np

from samnet.evaluation.overlaps import count_pairs


def test_count_pairs_has_a_row_for_each_reference_label() -> None:
    pairs = count_pairs(np.array([1, 1, 9]), np.array([0, 0, 1]), 1)
    np.testing.assert_array_equal(pairs, [[0, 2, 0], [0, 0, 1], [0, 0, 0]])
