"""Lesion-wise scores, of lesions drawn by hand and of any masks."""

from __future__ import annotations

import math

import numpy as np
import pytest
from builders.properties import for_any_input
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import label

from samnet.evaluation.lesions import LesionCounts, count_lesions


def line(*ranges: tuple[int, int], length: int = 40) -> np.ndarray:
    """Return a 2D mask of one row, in which each range of columns is a lesion."""
    mask = np.zeros((1, length), dtype=bool)
    for start, stop in ranges:
        mask[0, start:stop] = True
    return mask


def test_lesions_are_found_missed_and_invented() -> None:
    reference = line((0, 4), (10, 14), (20, 24))
    prediction = line((1, 5), (30, 33))
    assert count_lesions(prediction, reference) == LesionCounts(3, 2, 1)
    scores = LesionCounts(3, 2, 1).scores()
    assert scores["lesion_sensitivity"] == pytest.approx(1 / 3)
    assert scores["lesion_F1"] == pytest.approx(2 / 5)
    assert (scores["lesions_found"], scores["lesions_false"]) == (1, 1)
    assert (scores["lesions_ref"], scores["lesions_pred"]) == (3, 2)


@pytest.mark.parametrize(("stop", "matches"), [(10, 1), (11, 0)])
def test_lesion_is_found_from_an_iou_of_a_tenth(stop: int, matches: int) -> None:
    reference, prediction = line((0, 1)), line((0, stop))  # IoU 1 / stop
    assert count_lesions(prediction, reference).matches == matches


def test_one_large_prediction_finds_one_lesion_at_most() -> None:
    reference = line((0, 5), (6, 11), (12, 17))
    assert count_lesions(line((0, 17)), reference) == LesionCounts(3, 1, 1)
    assert count_lesions(reference, line((0, 17))) == LesionCounts(1, 3, 1)


def test_pairs_of_higher_iou_are_matched_first() -> None:
    # The long prediction overlaps both lesions, but the second one has a better partner.
    reference = line((0, 4), (6, 16))
    prediction = line((2, 7), (8, 16))
    assert count_lesions(prediction, reference) == LesionCounts(2, 2, 2)


def test_lesions_of_a_structure_in_one_map_or_none() -> None:
    nothing, lesion = line(), line((0, 3))
    missed = count_lesions(nothing, lesion).scores()
    assert (missed["lesion_sensitivity"], missed["lesion_F1"]) == (0.0, 0.0)
    invented = count_lesions(lesion, nothing).scores()
    assert math.isnan(invented["lesion_sensitivity"])
    assert (invented["lesion_F1"], invented["lesions_false"]) == (0.0, 1)
    absent = count_lesions(nothing, nothing).scores()
    assert math.isnan(absent["lesion_F1"])
    assert absent["lesions_false"] == absent["lesions_ref"] == 0


@for_any_input()
@given(seed=st.integers(0, 10_000), shape=st.sampled_from([(9, 11), (4, 5, 6)]))
def test_matches_are_the_same_when_the_maps_change_places(
    seed: int, shape: tuple[int, ...]
) -> None:
    generator = np.random.default_rng(seed)
    prediction, reference = generator.random((2, *shape)) < generator.uniform(0.05, 0.5)
    counts = count_lesions(prediction, reference)
    other = count_lesions(reference, prediction)
    assert (counts.reference, counts.prediction) == (other.prediction, other.reference)
    assert counts.matches <= min(counts.reference, counts.prediction)
    itself = count_lesions(reference, reference)
    assert itself.matches == itself.reference == itself.prediction


def test_lesions_match_as_by_comparing_every_pair() -> None:
    generator = np.random.default_rng(0)
    prediction, reference = generator.random((2, 12, 12)) < 0.25
    every = np.ones((3, 3))
    (predicted, num_predicted), (true, num_true) = label(prediction, every), label(reference, every)
    iou = np.zeros((num_true, num_predicted))
    for row in range(num_true):
        for column in range(num_predicted):
            one, other = true == row + 1, predicted == column + 1
            iou[row, column] = (one & other).sum() / (one | other).sum()
    matches = 0
    while iou.size and iou.max() >= 0.1:
        row, column = divmod(int(iou.argmax()), num_predicted)
        iou[row], iou[:, column] = 0, 0
        matches += 1
    assert matches > 2
    assert count_lesions(prediction, reference) == LesionCounts(num_true, num_predicted, matches)
