"""The comparison of expected with true Dice, on cases that need not exist."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from builders.confidence import held_out_cases, make_signals
from confidence import Row, compare, correlation, describe, lowest_fifth, read_table, write_table

from samnet.core.errors import UserError


def make_rows(fold: str, number: int, seed: int) -> list[Row]:
    """Return cases whose Dice follows from their signals, and not from entropy or agreement."""
    random = np.random.default_rng(seed)
    rows = []
    for case in held_out_cases(number, seed=seed):
        agreement, entropy = random.uniform(size=2)
        numbers = (case.dice, float(agreement), float(entropy))
        rows.append(Row(fold, case.case, "liver", *numbers, case.signals))
    return rows


def test_expected_dice_ranks_the_test_cases() -> None:
    rows = make_rows("fold_0", 40, 0) + make_rows("", 50, 1)
    rows.append(Row("", "absent", "liver", math.nan, math.nan, 0.5, make_signals(0.9)))
    result = compare(rows)
    found = result["classes"]["liver"]
    assert found["number"] == 50
    assert found["spearman"]["expected Dice"] > 0.98
    assert abs(found["spearman"]["pairwise Dice of folds"]) < 0.5
    assert found["worst fifth found"]["expected Dice"] >= 0.9
    assert result["cases"]["spearman"] == found["spearman"]
    assert "liver: 50 test cases" in describe(result)


def test_a_calibration_needs_held_out_cases() -> None:
    with pytest.raises(UserError, match="too few held-out cases"):
        compare(make_rows("", 50, 1))


def test_rows_are_the_same_after_writing_and_reading(tmp_path: Path) -> None:
    rows = make_rows("fold_0", 5, 0)
    write_table(rows, tmp_path / "table.csv")
    assert read_table(tmp_path / "table.csv") == rows


def test_lowest_fifth_holds_one_case_at_least() -> None:
    assert lowest_fifth(np.array([3.0, 1.0, 2.0])).tolist() == [1]
    assert lowest_fifth(np.array([3.0, math.nan, 2.0, 5.0, 4.0, 6.0])).tolist() == [2, 0]


def test_correlation_is_not_defined_for_equal_values() -> None:
    assert correlation(np.arange(4.0), np.arange(4.0) ** 3) == pytest.approx(1)
    assert math.isnan(correlation(np.ones(4), np.arange(4.0)))
    assert math.isnan(correlation(np.array([1, 2, math.nan]), np.arange(3.0)))
