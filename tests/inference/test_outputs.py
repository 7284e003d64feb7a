"""What outputs of a network stand for: which can decide a label, and the labels themselves."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from builders.numerics import assert_close_to_norm
from builders.tiny import TWO_CLASSES

from samnet.dataset.label_scheme import LabelScheme
from samnet.inference.outputs import Outputs, Piece, outputs_for

CPU = torch.device("cpu")
REGIONS = LabelScheme({"background": 0, "whole": (3, 7), "core": (7,)}, regions_class_order=(3, 7))
CLASS_OUTPUTS, REGION_OUTPUTS = outputs_for(TWO_CLASSES), outputs_for(REGIONS)


def pieces_of(*rows: list[float]) -> list[Piece]:
    """Return the values of every output along one row of voxels."""
    everywhere = (slice(None), slice(None), slice(None))
    return [(output, everywhere, torch.tensor([[row]])) for output, row in enumerate(rows)]


def test_probabilities_of_classes_add_up_to_one_and_those_of_regions_are_independent() -> None:
    logits = torch.tensor([[[[0.0]], [[1.0]], [[2.0]]]], dtype=torch.float64)
    powers = torch.tensor([1.0, np.e, np.e**2], dtype=torch.float64)
    assert_close_to_norm(CLASS_OUTPUTS.probabilities(logits).flatten(), powers / powers.sum())
    assert_close_to_norm(REGION_OUTPUTS.probabilities(logits).flatten(), powers / (1 + powers))


def test_only_background_holds_where_nothing_was_predicted() -> None:
    assert [CLASS_OUTPUTS.probability_outside(output) for output in range(3)] == [1.0, 0.0, 0.0]
    assert [REGION_OUTPUTS.probability_outside(output) for output in range(2)] == [0.0, 0.0]


def test_class_may_decide_where_no_other_is_larger_for_sure() -> None:
    lowest = torch.tensor([[0.5, 0.1], [0.2, 0.1], [0.0, 0.3]])
    highest = torch.tensor([[0.9, 0.2], [0.4, 0.6], [0.5, 0.4]])
    expected = [[True, False], [False, True], [True, True]]
    assert CLASS_OUTPUTS.may_decide(lowest, highest).tolist() == expected


@pytest.mark.parametrize(
    ("below", "count", "expected"),
    [(0.9e-5, 1, True), (1.5e-5, 1, False), (1.5e-5, 2, True), (3e-5, 2, False)],
)
def test_class_may_decide_within_the_rounding_of_the_predictions(
    below: float, count: int, expected: bool
) -> None:
    bounds = torch.tensor([0.5, 0.5 - below], dtype=torch.float64)
    assert CLASS_OUTPUTS.may_decide(bounds, bounds, count).tolist() == [True, expected]
    if count == 1:
        assert CLASS_OUTPUTS.may_decide(bounds, bounds).tolist() == [True, expected]


@pytest.mark.parametrize(
    ("total", "count", "expected"),
    [
        (0.5 - 0.9e-5, 1, True),
        (0.5 - 1.5e-5, 1, False),
        (1.0 - 1.5e-5, 2, True),
        (1.0 - 3e-5, 2, False),
    ],
)
def test_region_may_decide_above_half_of_the_predictions(
    total: float, count: int, expected: bool
) -> None:
    highest = torch.tensor([total, 0.0], dtype=torch.float64)
    lowest = torch.zeros(2, dtype=torch.float64)
    assert REGION_OUTPUTS.may_decide(lowest, highest, count).tolist() == [expected, False]
    if count == 1:
        assert REGION_OUTPUTS.may_decide(lowest, highest).tolist() == [expected, False]


def test_label_is_the_first_class_of_the_largest_probability() -> None:
    pieces = pieces_of([0.6, 0.2, 0.4, 0.0], [0.3, 0.7, 0.4, 0.0], [0.1, 0.1, 0.2, 0.0])
    labels = CLASS_OUTPUTS.label_map(pieces, (1, 1, 4), 3, CPU)
    assert labels.tolist() == [[[0, 1, 0, 0]]]


def test_label_of_a_class_is_written_only_where_its_probability_is_known() -> None:
    everywhere, right = (slice(0, 1),) * 2 + (slice(0, 3),), (slice(0, 1),) * 2 + (slice(1, 3),)
    pieces = [(0, everywhere, torch.full((1, 1, 3), 0.3)), (2, right, torch.full((1, 1, 2), 0.7))]
    assert CLASS_OUTPUTS.label_map(pieces, (1, 1, 3), 3, CPU).tolist() == [[[0, 2, 2]]]


@pytest.mark.parametrize("count", [1, 3])
def test_label_of_a_region_is_written_above_half_of_the_predictions(count: int) -> None:
    whole, core = [0.5, 0.6, 0.6, 0.1], [0.1, 0.4, 0.7, 0.9]
    pieces = [(region, place, count * total) for region, place, total in pieces_of(whole, core)]
    labels = REGION_OUTPUTS.label_map(pieces, (1, 1, 4), 2, CPU, count)
    assert labels.tolist() == [[[0, 3, 7, 7]]]
    if count == 1:
        assert np.array_equal(REGION_OUTPUTS.label_map(pieces, (1, 1, 4), 2, CPU), labels)


@pytest.mark.parametrize(
    ("highest", "label_type", "computed"),
    [(2, np.uint8, np.uint8), (255, np.uint8, np.uint8), (256, np.uint16, np.int32)],
)
def test_labels_have_the_narrowest_type_that_holds_the_highest(
    highest: int, label_type: type, computed: type
) -> None:
    regions = LabelScheme(
        {"background": 0, "a": (1, highest), "b": (highest,)}, regions_class_order=(1, highest)
    )
    for outputs, count in ((CLASS_OUTPUTS, highest + 1), (outputs_for(regions), 2)):
        assert outputs.highest_label(count) == highest
        assert outputs.label_type(count) is label_type
        last: list[Piece] = [(count - 1, (slice(0, 1),) * 3, torch.ones(1, 1, 1))]
        labels = outputs.label_map(last, (1, 1, 1), count, CPU)
        assert labels.dtype == computed
        assert labels.tolist() == [[[highest]]]


@pytest.mark.parametrize("outputs", [CLASS_OUTPUTS, REGION_OUTPUTS], ids=["classes", "regions"])
def test_labels_are_computed_on_the_given_device(outputs: Outputs) -> None:
    pieces = pieces_of([0.1], [0.9])
    with torch.device("meta"):  # the default for new tensors, which hold no values there
        labels = outputs.label_map(pieces, (1, 1, 1), 2, CPU)
    assert labels.any()
