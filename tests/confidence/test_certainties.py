"""Signals on scales that grow with certainty."""

from __future__ import annotations

import math

import pytest
from builders.confidence import make_signals

from samnet.confidence.certainties import certainties, from_dice, to_dice


def test_certainties_grow_with_what_tells_of_a_good_prediction() -> None:
    poor = {"overlap": 0.6, "mirrors": 0.7, "largest": 0.8, "slices": 0.5}
    good = dict.fromkeys(poor, 0.95)
    low = certainties(make_signals(0.6, contrast=0.1, spread=0.9, **poor), math.log(1000))
    high = certainties(make_signals(0.9, contrast=0.8, spread=0.2, **good), math.log(1000))
    assert all(low[name] < high[name] for name in (*poor, "probability", "contrast", "spread"))


@pytest.mark.parametrize(
    ("size", "small", "large"),
    [(1000.0, 0, 0), (100.0, -math.log(10), 0), (10000.0, 0, -math.log(10))],
)
def test_being_smaller_and_being_larger_are_two_signals(
    size: float, small: float, large: float
) -> None:
    found = certainties(make_signals(size=size), math.log(1000))
    assert (found["small"], found["large"]) == pytest.approx((small, large))


def test_signals_that_do_not_exist_are_left_out() -> None:
    assert certainties(make_signals(None, 0.0), 0.0) == {}


@pytest.mark.parametrize("dice", [0.0, 0.3, 0.9, 1.0])
def test_a_dice_is_the_same_after_the_way_there_and_back(dice: float) -> None:
    assert to_dice(from_dice(dice)) == pytest.approx(dice)


def test_a_hundredth_counts_near_1_and_hardly_elsewhere() -> None:
    assert from_dice(0.98) - from_dice(0.97) > 5 * (from_dice(0.8) - from_dice(0.79))


def test_values_beyond_the_scale_are_0_and_1() -> None:
    assert (to_dice(-9.0), to_dice(9.0)) == (0.0, 1.0)
