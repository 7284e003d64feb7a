from __future__ import annotations

import numpy as np

from samnet.dataset.label_scheme import (
    Regions,
    all_values,
    find_boxes,
    foreground,
    join_boxes,
    mask_of,
)

NESTED = Regions(((1, 2, 3), (2, 3), (3,)), (1, 2, 3))


def test_which_regions_a_label_lies_in_and_what_is_written_for_it() -> None:
    assert [NESTED.around(value) for value in (1, 2, 3)] == [(0,), (0, 1), (0, 1, 2)]
    assert [NESTED.label_written_for(value) for value in (1, 2, 3)] == [1, 2, 3]
    coarse = Regions(((1, 2, 3), (2, 3)), (1, 2))
    assert coarse.label_written_for(3) == 2


def test_classes_are_ordered_by_value_and_regions_as_they_are_given() -> None:
    assert list(foreground({"b": 2, "background": 0, "a": 1})) == ["a", "b"]
    assert list(foreground({"core": 2, "background": 0, "whole": (2, 1)})) == ["core", "whole"]
    assert all_values({"background": 0, "core": 2, "whole": (3, 2, 1)}) == [0, 1, 2, 3]


def test_masks_and_boxes_of_sets_of_labels() -> None:
    labels = np.zeros((4, 9), dtype=np.uint8)
    labels[1, 2], labels[2, 5:7], labels[3, 8] = 1, 2, 4
    assert np.array_equal(mask_of(labels, (1,)), labels == 1)
    assert np.array_equal(mask_of(labels, (2, 4)), labels >= 2)
    boxes = find_boxes(labels, [(1,), (1, 2), (3,), (3, 4)])
    assert boxes == [
        (slice(1, 2), slice(2, 3)),
        (slice(1, 3), slice(2, 7)),
        None,
        (slice(3, 4), slice(8, 9)),
    ]
    assert join_boxes([None, boxes[0], boxes[3]]) == (slice(1, 4), slice(2, 9))
    assert join_boxes([None]) is None
