"""A calibration recovers a relation between signals and Dice, and says where there is none."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from builders.confidence import fit, held_out_cases, make_signals
from scipy.stats import spearmanr

from samnet.confidence.fit import MIN_CASES, HeldOutClass, fit_calibration


def test_fit_recovers_a_known_relation() -> None:
    calibration = fit(held_out_cases(200)).classes["liver"]
    errors = []
    for case in held_out_cases(100, seed=1):
        expected = calibration.expect(case.signals)
        assert expected.dice is not None
        errors.append(abs(expected.dice - case.dice))
    assert np.median(errors) < 0.01


def test_fit_gives_an_interval_that_holds_its_share_of_new_cases() -> None:
    calibration = fit(held_out_cases(200, noise=0.5)).classes["liver"]
    inside = []
    for case in held_out_cases(500, noise=0.5, seed=1):
        expected = calibration.expect(case.signals)
        assert expected.low is not None
        assert expected.high is not None
        inside.append(expected.low <= case.dice <= expected.high)
    assert 0.72 < np.mean(inside) < 0.88


def test_fit_ranks_new_cases_in_spite_of_noise() -> None:
    calibration = fit(held_out_cases(60, noise=0.3)).classes["liver"]
    cases = held_out_cases(100, noise=0.3, seed=1)
    expected = [calibration.expect(case.signals).dice for case in cases]
    assert spearmanr(expected, [case.dice for case in cases]).statistic > 0.6


def test_signals_that_say_nothing_leave_the_mean() -> None:
    random = np.random.default_rng(0)
    cases = [
        replace(case, signals=make_signals(random.uniform(0.6, 0.95)))
        for case in held_out_cases(100, noise=0.3)
    ]
    calibration = fit(cases).classes["liver"]
    sure, unsure = (calibration.expect(make_signals(value)).dice for value in (0.95, 0.6))
    assert sure is not None
    assert unsure is not None
    assert 0 <= sure - unsure < 0.1


def test_certainty_never_lowers_what_is_expected() -> None:
    """Where sure networks were wrong, they are not believed."""
    cases = held_out_cases(100)
    turned = [replace(case, dice=1 - case.dice) for case in cases]
    [weight] = [
        scale.weight
        for name, scale in fit(turned).classes["liver"].weights.items()
        if name == "probability"
    ]
    assert weight == 0


def test_fit_needs_enough_cases() -> None:
    cases = held_out_cases(MIN_CASES)
    few = fit_calibration(cases[1:], ["liver"], ["fold_0"], mirror=False)
    assert few is None
    calibration = fit(cases).classes["liver"]
    expected = calibration.expect(cases[0].signals)
    assert expected.low is not None
    assert expected.high is not None
    assert expected.low < expected.high
    assert calibration.num_cases == MIN_CASES


def test_a_class_with_few_cases_leans_on_the_others() -> None:
    cases = held_out_cases(50) + held_out_cases(3, "tumour")
    calibration = fit(cases, "liver", "tumour")
    liver, tumour = calibration.classes["liver"], calibration.classes["tumour"]
    assert (liver.num_cases, liver.num_predicted) == (50, 50)
    assert (tumour.num_cases, tumour.num_predicted) == (53, 3)
    signals = make_signals(0.9)
    assert tumour.expect(signals).dice == pytest.approx(liver.expect(signals).dice, abs=0.05)


def test_classes_that_are_absent_do_not_count() -> None:
    cases = held_out_cases(30)
    absent = HeldOutClass("other", "liver", make_signals(None, 0.0), math.nan)
    missed = HeldOutClass("missed", "liver", make_signals(None, 0.0), 0.0)
    calibration = fit([*cases, absent, absent, missed]).classes["liver"]
    assert calibration == replace(fit(cases).classes["liver"], num_unpredicted=3, num_missed=1)


def test_cases_of_the_same_dice_give_that_dice() -> None:
    cases = [replace(case, dice=0.9) for case in held_out_cases(20)]
    expected = fit(cases).classes["liver"].expect(make_signals(0.5))
    assert expected.dice == pytest.approx(0.9)
    assert expected.low == pytest.approx(0.9)
    assert expected.high == pytest.approx(0.9)
    assert not expected.is_doubtful


def test_cases_with_the_same_signals_give_the_mean() -> None:
    signals = make_signals(0.9, largest=1.0)
    cases = [replace(case, signals=signals) for case in held_out_cases(20)]
    calibration = fit(cases).classes["liver"]
    assert calibration.weights == {}
    assert calibration.expect(make_signals(0.1)).dice == calibration.expect(signals).dice
