"""The best of several candidates is seldom better than the others by chance alone."""

from __future__ import annotations

import math

import numpy as np
import pytest

from samnet.selection.chance import MOST_CHANCE, chances_of_best

NUM_SETS = 400
NUM_CANDIDATES = 12


def names(count: int) -> list[str]:
    return [str(number) for number in range(count)]


def without_effect(generator: np.random.Generator, num_cases: int) -> np.ndarray:
    """Return differences of candidates that are as often good as bad, for two structures.

    As with rules: each changes some of the cases only, and some of them change nearly the same.
    """
    size = (NUM_CANDIDATES, num_cases, 2)
    noise = generator.standard_t(3, size) + generator.standard_t(3, (1, *size[1:]))
    is_changed = generator.random(size) < generator.uniform(0.2, 1, (NUM_CANDIDATES, 1, 1))
    return 0.01 * noise * is_changed


def test_without_an_effect_candidates_are_seldom_taken() -> None:
    """By its own standard error, some candidate would be taken in one of four data sets."""
    num_cases = 9
    generator = np.random.default_rng(0)
    taken = taken_by_their_errors = 0
    for _ in range(NUM_SETS):
        differences = without_effect(generator, num_cases)
        taken += chances_of_best(differences, names(num_cases)).min() <= MOST_CHANCE
        of_cases = differences.mean(axis=2)
        errors = of_cases.std(axis=1) / math.sqrt(num_cases)
        taken_by_their_errors += (of_cases.mean(axis=1) > 2 * errors).any()
    assert taken / NUM_SETS < 0.05 + 0.02  # of so many sets, the error is about 0.01
    assert taken_by_their_errors / NUM_SETS > 0.25


def test_an_effect_is_found_among_candidates_without_one() -> None:
    differences = without_effect(np.random.default_rng(0), 20)
    differences[3] = np.abs(differences[3]) + 0.01
    chances = chances_of_best(differences, names(20))
    assert chances[3] < 0.001
    assert np.delete(chances, 3).min() > MOST_CHANCE


def test_more_candidates_need_a_larger_effect() -> None:
    differences = without_effect(np.random.default_rng(1), 12)
    differences[0] += 0.008
    alone, among_all = (
        chances_of_best(differences[:1], names(12)),
        chances_of_best(differences, names(12)),
    )
    assert alone[0] < among_all[0]


def test_few_patients_cannot_tell() -> None:
    """All signs are equal by chance once in 2^n times."""
    differences = np.full((1, 6, 1), 0.1)
    for count in (3, 4, 5, 6):
        assert chances_of_best(differences[:, :count], names(count))[0] == pytest.approx(0.5**count)
    patients = ["a", "a", "b", "b", "c", "c"]
    assert chances_of_best(differences, patients)[0] == pytest.approx(1 / 8)


def test_scores_that_are_missing_do_not_count() -> None:
    generator = np.random.default_rng(2)
    differences = without_effect(generator, 9)
    differences[:, :, 1] = math.nan
    expected = chances_of_best(differences[..., :1], names(9))
    assert np.array_equal(chances_of_best(differences, names(9)), expected)
    differences[5] = 0  # a rule that changes nothing
    assert chances_of_best(differences, names(9))[5] == pytest.approx(1)
