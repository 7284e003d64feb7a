"""The order of unlabelled cases, by what is known of them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence

import numpy as np
import pytest
from builders.confidence import make_signals

from samnet.annotation.candidate import Candidate
from samnet.annotation.ranking import RankedCase, rank
from samnet.annotation.strategies import STRATEGIES, LabelledCase
from samnet.confidence.calibration import Expectation
from samnet.core.errors import UserError


def expected(dice: float | None, *, is_doubtful: bool = False, reason: str = "") -> Expectation:
    return Expectation(dice, dice, dice, is_doubtful, reason)


def at(name: str, *numbers: float, dice: float = 0.9) -> Candidate:
    """Return a case with features, and an expected Dice of its one class."""
    return Candidate(name, {"liver": expected(dice)}, features=np.array(numbers, float))


def labelled(name: str, *numbers: float) -> LabelledCase:
    return LabelledCase(name, np.array(numbers, float))


def names(ranked: Sequence[RankedCase]) -> list[str]:
    return [case.identifier for case in ranked]


# Two groups of near duplicates, and a case between them.
GROUPS = [at("a1", 0, 0), at("a2", 0, 0.1), at("b1", 9, 0), at("b2", 9, 0.1), at("mid", 5, 0)]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_case_is_ranked_once_whatever_their_order(strategy: str) -> None:
    ranked = rank(GROUPS, strategy, seed=3, labelled=[labelled("known", 0, 0)])
    assert sorted(names(ranked)) == ["a1", "a2", "b1", "b2", "mid"]
    assert [case.rank for case in ranked] == [1, 2, 3, 4, 5]
    assert all(case.why for case in ranked)
    reversed_cases = list(reversed(GROUPS))
    assert rank(reversed_cases, strategy, seed=3, labelled=[labelled("known", 0, 0)]) == ranked


def test_random_order_depends_on_the_seed() -> None:
    cases = [Candidate(f"case_{number:02d}") for number in range(30)]
    orders = {tuple(names(rank(cases, "random", seed))) for seed in range(4)}
    assert len(orders) == 4
    assert rank(cases, "random", 1) == rank(cases, "random", 1)
    assert rank(cases, "random")[0].score is None


def test_foreground_shows_rare_classes_more_often_than_chance() -> None:
    common = [Candidate(f"common_{n:02d}", {"liver": expected(0.9)}) for n in range(90)]
    rare = [Candidate(f"rare_{n}", {"tumour": expected(0.5)}) for n in range(10)]
    found = [rank([*common, *rare], "foreground", seed)[:10] for seed in range(20)]
    shares = [" ".join(names(first)).count("rare") / 10 for first in found]
    # A third is drawn at random, half of the rest by the rare class; by chance it is a tenth.
    assert 0.25 < np.mean(shares) < 0.5
    assert any("show tumour" in case.why for case in found[0])


def test_doubtful_begins_with_the_lowest_expected_dice() -> None:
    reason = "expected 0.40, most cases 0.85: in several parts"
    cases = [
        Candidate("good", {"liver": expected(0.9), "tumour": expected(0.8)}),
        Candidate("poor", {"liver": expected(0.9), "tumour": expected(0.4, reason=reason)}),
        Candidate("missed", {"liver": expected(0.9), "tumour": expected(None, is_doubtful=True)}),
        Candidate("absent", {"liver": expected(0.9), "tumour": expected(None)}),
    ]
    ranked = rank(cases, "doubtful")
    assert names(ranked) == ["missed", "poor", "good", "absent"]
    assert [case.score for case in ranked] == pytest.approx([0.55, 0.35, 0.15, 0.1])
    assert ranked[1].why == f"tumour: {reason}"


def test_doubtful_compares_signals_where_the_model_is_not_calibrated() -> None:
    cases = []
    for number, probability in enumerate((0.9, 0.6, 0.95, 0.8)):
        signals = make_signals(probability, size=100.0 + number, overlap=probability)
        cases.append(Candidate(f"case_{number}", signals={"liver": signals}))
    cases.append(Candidate("missed", signals={"liver": make_signals(None, 0.0, overlap=0.0)}))
    ranked = rank(cases, "doubtful")
    assert names(ranked)[:3] == ["missed", "case_1", "case_3"]
    assert ranked[0].why == "liver: not predicted"
    assert "low probability within it" in ranked[1].why


def test_class_that_few_predictions_show_is_not_doubtful_where_it_is_absent() -> None:
    sure, unsure = make_signals(0.95, overlap=0.95), make_signals(0.6, overlap=0.6)
    absent = make_signals(None, 0.0, overlap=0.0)
    cases = [
        Candidate("shows", signals={"liver": sure, "tumour": unsure}),
        *(Candidate(f"not_{n}", signals={"liver": sure, "tumour": absent}) for n in range(4)),
        Candidate("unsure", signals={"liver": unsure, "tumour": absent}),
    ]
    scores = {case.identifier: case.score for case in rank(cases, "doubtful")}
    assert scores["unsure"] == max(scores.values())
    assert scores["not_0"] == pytest.approx(scores["shows"])


def test_unlike_begins_far_from_labelled_cases_and_takes_no_near_duplicates() -> None:
    ranked = rank(GROUPS, "unlike", labelled=[labelled("known", 0, 0.05)])
    assert names(ranked)[0] in ("b1", "b2")
    assert names(ranked)[1] == "mid"
    assert "from known, the nearest" in ranked[0].why
    scores = [case.score for case in ranked]
    assert scores == sorted(scores, reverse=True)


def test_unlike_begins_in_the_middle_while_nothing_is_labelled() -> None:
    ranked = rank(GROUPS, "unlike")
    assert names(ranked)[0] == "mid"
    assert "nothing is labelled yet" in ranked[0].why


def test_typical_prefers_a_group_to_a_case_that_is_like_none() -> None:
    cases = [at(f"group_{n}", 5, 0.1 * n) for n in range(5)] + [at("odd", -9, 0)]
    ranked = rank(cases, "typical", labelled=[labelled("known", 0, 0)])
    assert names(ranked)[:2] == ["group_2", "odd"]
    assert ranked[0].why.startswith("5 unlabelled cases are nearer to it")
    assert names(rank(cases, "unlike", labelled=[labelled("known", 0, 0)]))[0] == "odd"


def test_mixed_weighs_doubt_against_distance_and_takes_no_near_duplicates() -> None:
    cases = [
        at("left", -6, 0, dice=0.9),
        at("right", 5, 0, dice=0.5),
        at("right_again", 5, 0.1, dice=0.5),
        at("near", 0.1, 0, dice=0.4),
    ]
    ranked = rank(cases, "mixed", labelled=[labelled("known", 0, 0)])
    assert names(ranked)[0] in ("right", "right_again")
    assert names(ranked)[1] == "left"
    assert "expected Dice 0.50" in ranked[0].why
    assert "from known" in ranked[0].why


def test_equal_images_are_ranked_too() -> None:
    cases = [at(name, 1, 1) for name in "abc"]
    ranked = rank(cases, "unlike", labelled=[labelled("known", 1, 1)])
    assert [(case.identifier, case.score) for case in ranked] == [("a", 0), ("b", 0), ("c", 0)]


def test_cases_of_which_too_little_is_known_are_last() -> None:
    cases = [Candidate("broken"), at("sure", 0, dice=0.9), at("unsure", 1, dice=0.2)]
    ranked = rank(cases, "doubtful")
    assert names(ranked) == ["unsure", "sure", "broken"]
    assert ranked[-1].why == "there is no usable prediction"
    assert names(rank(cases, "unlike"))[-1] == "broken"
    with pytest.raises(UserError, match="no usable prediction of any of 1 cases"):
        rank(cases[:1], "doubtful")


def test_predictions_of_different_models_are_not_compared() -> None:
    cases = [at("calibrated", 0), Candidate("other", signals={"liver": make_signals()})]
    with pytest.raises(UserError, match="calibrated has an expected Dice and no signals"):
        rank(cases, "doubtful")


def test_unknown_strategy_is_refused_with_the_names_of_all() -> None:
    with pytest.raises(UserError, match="choose from random, foreground, doubtful"):
        rank(GROUPS, "best")


def test_ranking_loads_no_torch() -> None:
    program = "import sys, samnet.annotation.ranking, samnet.annotation.table\n"
    program += "assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True)
