"""Bootstrap intervals, against known distributions and another way of drawing."""

from __future__ import annotations

import math

import numpy as np
import pytest

from samnet.evaluation.intervals import bootstrap_means, intervals_of, paired_interval


def test_interval_of_many_cases_is_that_of_the_normal_distribution() -> None:
    scores = np.random.default_rng(1).normal(0.7, 0.1, (400, 2))
    low, high = intervals_of(bootstrap_means(scores))
    error = scores.std(axis=0, ddof=1) / math.sqrt(400)
    np.testing.assert_allclose(low, scores.mean(axis=0) - 1.96 * error, atol=0.2 * error.max())
    np.testing.assert_allclose(high, scores.mean(axis=0) + 1.96 * error, atol=0.2 * error.max())


def test_bootstrap_is_the_same_each_time_and_leaves_nan_out() -> None:
    scores = np.random.default_rng(0).random((12, 3))
    scores[:10, 1] = np.nan
    scores[:, 2] = np.nan
    means = bootstrap_means(scores, num_resamples=700)
    np.testing.assert_array_equal(means, bootstrap_means(scores, num_resamples=700))
    assert means.shape == (700, 3)
    known = means[~np.isnan(means[:, 1]), 1]
    # The draws of 12 cases without either of the two known ones: (10 / 12) ** 12 of them.
    assert len(known) / 700 == pytest.approx(1 - (10 / 12) ** 12, abs=0.05)
    assert known.min() == pytest.approx(scores[10:, 1].min())
    assert np.isnan(means[:, 2]).all()


def test_bootstrap_means_are_those_of_drawn_patients() -> None:
    scores = np.array([[1.0], [2.0], [6.0]])
    means = bootstrap_means(scores, ["a", "a", "b"], 500)
    # Two patients are drawn: a a, a b, b b.
    assert set(means[:, 0].round(9)) == {1.5, 3.0, 6.0}
    assert np.mean(means == 3.0) == pytest.approx(0.5, abs=0.08)


def test_interval_of_one_patient_is_unknown() -> None:
    means = bootstrap_means(np.array([[0.5], [0.7]]), ["a", "a"])
    assert np.isnan(intervals_of(means)).all()
    assert np.isnan(bootstrap_means(np.zeros((0, 2)))).all()


def test_paired_interval_is_narrow_where_both_vary_together() -> None:
    generator = np.random.default_rng(0)
    difficulty = generator.uniform(0.2, 0.9, 30)
    better = difficulty + generator.normal(0.02, 0.01, 30)
    result = paired_interval(better, difficulty)
    assert result.mean == pytest.approx((better - difficulty).mean())
    assert 0 < result.low < result.mean < result.high < 0.03
    assert result.is_beyond_noise
    reverse = paired_interval(difficulty, better)
    assert (reverse.low, reverse.high) == pytest.approx((-result.high, -result.low))
    assert reverse.is_beyond_noise


def test_paired_interval_of_equal_scores_is_within_noise() -> None:
    scores = np.linspace(0, 1, 9)
    result = paired_interval(scores, scores)
    assert (result.mean, result.low, result.high) == (0.0, 0.0, 0.0)
    assert not result.is_beyond_noise


def test_paired_interval_counts_cases_with_both_scores() -> None:
    first, second = [0.5, math.nan, 0.9, 0.4], [0.4, 0.3, math.nan, 0.2]
    result = paired_interval(first, second)
    assert result.num_cases == 2
    assert result.mean == pytest.approx(0.15)
    nothing = paired_interval([math.nan], [0.3])
    assert nothing.num_cases == 0
    assert math.isnan(nothing.mean)
    assert not nothing.is_beyond_noise


def test_paired_interval_of_classes_is_that_of_their_mean() -> None:
    generator = np.random.default_rng(3)
    first, second = generator.random((2, 15, 3))
    second[2:, 1] = np.nan  # a class that few cases have counts as much as the others
    result = paired_interval(first, second)
    by_class = np.nanmean(first - second, axis=0)
    assert result.mean == pytest.approx(by_class.mean())
    assert result.low < result.mean < result.high


def test_paired_interval_draws_patients() -> None:
    differences = np.repeat([0.1, -0.1, 0.2, 0.05], 25)
    patients = [name for name in "abcd" for _ in range(25)]
    by_case = paired_interval(differences, np.zeros(100))
    by_patient = paired_interval(differences, np.zeros(100), patients)
    assert by_case.is_beyond_noise
    assert not by_patient.is_beyond_noise


def test_paired_interval_refuses_scores_of_other_cases() -> None:
    with pytest.raises(ValueError, match="cannot be paired"):
        paired_interval([0.1, 0.2], [0.1])
