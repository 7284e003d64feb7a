from __future__ import annotations

import numpy as np
import pytest

from samnet.dataset.label_scheme import (
    LabelScheme,
    Regions,
    all_values,
    find_boxes,
    has_regions,
    join_boxes,
    mask_of,
    values_of,
)

CLASSES = LabelScheme({"background": 0, "liver": 1, "tumour": 2})
WITH_IGNORED = LabelScheme({"background": 0, "tumour": 2, "liver": 1}, ignore_label=3)
NESTED = LabelScheme(
    {"background": 0, "whole": (1, 2, 3), "core": (2, 3), "enhancing": 3},
    ignore_label=4,
    regions_class_order=(1, 2, 3),
)


def test_label_scheme_orders_classes_by_value_and_regions_as_given() -> None:
    assert list(LabelScheme({"b": 2, "background": 0, "a": 1}).foreground) == ["a", "b"]
    regions = LabelScheme({"core": 2, "background": 0, "whole": (2, 1)}, None, (2, 1))
    assert list(regions.foreground) == ["core", "whole"]
    assert regions.class_names == ("core", "whole")
    assert regions.label_sets == ((2,), (2, 1))


def test_label_scheme_of_classes() -> None:
    assert WITH_IGNORED.class_names == CLASSES.class_names == ("liver", "tumour")
    assert WITH_IGNORED.label_sets == CLASSES.label_sets == ((1,), (2,))
    assert (CLASSES.num_classes, CLASSES.num_outputs, CLASSES.regions) == (2, 3, None)
    assert (CLASSES.values, CLASSES.highest_value) == ([0, 1, 2], 2)


def test_label_scheme_counts_the_ignore_label_as_no_class_and_no_output() -> None:
    assert (WITH_IGNORED.num_classes, WITH_IGNORED.num_outputs) == (2, 3)
    assert (WITH_IGNORED.values, WITH_IGNORED.highest_value) == ([0, 1, 2], 3)


def test_label_scheme_of_regions_has_no_output_for_the_background() -> None:
    assert NESTED.class_names == ("whole", "core", "enhancing")
    assert NESTED.label_sets == ((1, 2, 3), (2, 3), (3,))
    assert (NESTED.num_classes, NESTED.num_outputs) == (3, 3)
    assert NESTED.regions == Regions(((1, 2, 3), (2, 3), (3,)), (1, 2, 3))
    assert (NESTED.values, NESTED.highest_value) == ([0, 1, 2, 3], 4)


@pytest.mark.parametrize(
    ("scheme", "labelled"),
    [
        (CLASSES, [False, True, True, True, True]),
        (WITH_IGNORED, [False, True, True, False, True]),
        (NESTED, [False, True, True, True, False]),
    ],
    ids=["classes", "with ignore label", "regions"],
)
def test_is_labelled_is_false_for_background_and_ignore_label(
    scheme: LabelScheme, labelled: list[bool]
) -> None:
    label_map = np.arange(5, dtype=np.uint8)[None]
    assert scheme.is_labelled(label_map).tolist() == [labelled]


def test_regions_tell_where_a_label_lies_and_what_is_written_for_it() -> None:
    nested = NESTED.regions
    assert nested is not None
    assert [nested.around(value) for value in (1, 2, 3)] == [(0,), (0, 1), (0, 1, 2)]
    assert [nested.label_written_for(value) for value in (1, 2, 3)] == [1, 2, 3]
    coarse = Regions(((1, 2, 3), (2, 3)), (1, 2))
    assert coarse.label_written_for(3) == 2


def test_values_of_classes_and_regions() -> None:
    assert (values_of(2), values_of((3, 2))) == ((2,), (3, 2))
    assert all_values({"background": 0, "core": 2, "whole": (3, 2, 1)}) == [0, 1, 2, 3]
    assert has_regions({"background": 0, "whole": (1, 2)})
    assert not has_regions({"background": 0, "liver": 1})


def test_mask_of_is_true_at_any_of_the_values() -> None:
    label_map = np.array([[0, 1, 2, 4]], dtype=np.uint8)
    assert mask_of(label_map, (1,)).tolist() == [[False, True, False, False]]
    assert mask_of(label_map, (2, 4)).tolist() == [[False, False, True, True]]


def test_find_boxes_surrounds_the_voxels_of_each_set_of_labels() -> None:
    label_map = np.zeros((4, 9), dtype=np.uint8)
    label_map[1, 2], label_map[2, 5:7], label_map[3, 8] = 1, 2, 4
    assert find_boxes(label_map, [(1,), (1, 2), (3,), (3, 4)]) == [
        (slice(1, 2), slice(2, 3)),
        (slice(1, 3), slice(2, 7)),
        None,
        (slice(3, 4), slice(8, 9)),
    ]


def test_join_boxes_surrounds_those_that_exist() -> None:
    first, second = (slice(1, 2), slice(2, 3)), (slice(3, 4), slice(0, 2))
    assert join_boxes([None, first, second]) == (slice(1, 4), slice(0, 3))
    assert join_boxes([None]) is None
    assert join_boxes([]) is None
