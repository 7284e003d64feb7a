"""The cases to look at first."""

from __future__ import annotations

import pytest
from builders.scores import (
    PROTOCOL,
    absent_scores,
    make_case_scores,
    make_scores,
    summarize_three_cases,
)

from samnet.evaluation.summary import summarize
from samnet.evaluation.worst_cases import format_worst_cases, worst_cases


def test_worst_cases_are_those_of_the_lowest_mean_dice() -> None:
    found = worst_cases(summarize_three_cases(), 2)
    assert [(case.case, case.dice) for case in found] == [("c", 0.0), ("a", pytest.approx(0.4))]
    assert (found[0].worst_class, found[0].finding) == ("left, inner", "missed")
    assert (found[1].worst_class, found[1].class_dice, found[1].finding) == ("right", 0.3, "")


def test_worst_cases_leave_out_cases_without_structures() -> None:
    cases = [
        make_case_scores("a", absent_scores(), absent_scores()),
        make_case_scores("b", make_scores(0.2, n_ref=0), absent_scores()),
    ]
    [only] = worst_cases(summarize(cases, PROTOCOL), 5)
    assert (only.case, only.dice, only.finding) == ("b", 0.2, "spurious")
    nothing = summarize(cases[:1], PROTOCOL)
    assert worst_cases(nothing) == []
    assert format_worst_cases(nothing) == ""


def test_worst_cases_are_shown_in_80_columns() -> None:
    names = [f"{'a name of a case that is long ' * 3}{number}" for number in range(5)]
    cases = [make_case_scores(name, make_scores(0.5), make_scores(0.3)) for name in names]
    lines = format_worst_cases(summarize(cases, PROTOCOL), 2).splitlines()
    assert len(lines) == 3
    assert max(map(len, lines)) <= 80
    assert lines[1].split("  ")[1:] == ["0.4000", "right 0.3000"]
