"""Which voxels count as true, missed, false, or as another class."""

from __future__ import annotations

import numpy as np

from samnet.dataset.label_scheme import LabelScheme
from samnet.evaluation.overlays.error_maps import (
    CONFUSED,
    FALSE,
    MISSED,
    NOTHING,
    TRUE,
    class_error_map,
    error_map,
)

SCHEME = LabelScheme({"background": 0, "organ": 1, "vessel": 2}, ignore_label=3)


def test_error_map_names_every_kind_of_voxel() -> None:
    reference = np.array([0, 1, 1, 0, 2, 3, 3], np.uint8)
    prediction = np.array([0, 1, 0, 2, 1, 1, 0], np.uint8)
    expected = [NOTHING, TRUE, MISSED, FALSE, CONFUSED, NOTHING, NOTHING]
    assert error_map(prediction, reference, SCHEME).tolist() == expected


def test_error_map_of_a_class_knows_no_other_classes() -> None:
    reference = np.array([0, 1, 1, 2, 3], np.uint8)
    prediction = np.array([1, 1, 2, 1, 1], np.uint8)
    expected = [FALSE, TRUE, MISSED, FALSE, NOTHING]
    assert class_error_map(prediction, reference, (1,), 3).tolist() == expected


def test_error_map_of_regions_takes_labels_of_the_same_regions_for_equal() -> None:
    """Labels 1 and 2 both lie in the outer region alone; 3 also lies in the inner one."""
    regions = LabelScheme({"background": 0, "whole": (1, 2, 3), "core": (3,)}, None, (1, 3))
    reference = np.array([1, 2, 3, 0, 1], np.uint8)
    prediction = np.array([2, 2, 1, 3, 0], np.uint8)
    expected = [TRUE, TRUE, CONFUSED, FALSE, MISSED]
    assert error_map(prediction, reference, regions).tolist() == expected
