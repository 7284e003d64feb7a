"""Which cases are drawn, in which order."""

from __future__ import annotations

import math

from samnet.evaluation.overlays.choice import choose_cases, name_ranks, spread_cases

SCORES = {f"case{index:02d}": index / 100 for index in range(41)} | {"empty": math.nan}


def test_choice_has_the_worst_cases_and_one_of_each_part_of_the_range() -> None:
    chosen = choose_cases({name: SCORES[name] for name in SCORES if name != "empty"}, 6)
    assert [case.identifier for case in chosen] == [f"case{i:02d}" for i in (0, 1, 2, 10, 20, 40)]
    assert [case.heading for case in chosen] == [
        "worst of 41 cases",
        "2nd worst of 41 cases",
        "3rd worst of 41 cases",
        "lower quartile of 41 cases",
        "median of 41 cases",
        "best of 41 cases",
    ]


def test_choice_from_few_cases_draws_each_once() -> None:
    for count in range(1, 6):
        scores = {str(index): index / 10 for index in range(count)}
        chosen = choose_cases(scores, 6)
        assert [case.identifier for case in chosen] == list(scores)
    assert choose_cases({}, 6) == []
    assert [case.identifier for case in choose_cases(SCORES, 1)] == ["case00"]


def test_cases_without_a_score_come_last() -> None:
    assert choose_cases(SCORES, 3)[-1].identifier == "empty"


def test_given_cases_are_named_by_their_rank() -> None:
    found = name_ranks(SCORES, ["case01", "case00"])
    assert [case.heading for case in found] == ["worst of 42 cases", "2nd worst of 42 cases"]


def test_cases_without_references_are_spread_over_the_names() -> None:
    names = [f"{letter}" for letter in "gfedcba"]
    assert [case.identifier for case in spread_cases(names, 3)] == ["a", "d", "g"]
    assert len(spread_cases(names, 20)) == 7
    assert len(spread_cases(names, 1)) == 1
