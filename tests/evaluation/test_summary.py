"""Means, medians, deviations and intervals over cases, with values computed by hand."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from builders.scores import (
    PROTOCOL,
    absent_scores,
    make_case_scores,
    make_scores,
    summarize_three_cases,
)

from samnet.evaluation.summary import summarize


@pytest.fixture
def summary() -> dict[str, Any]:
    return summarize_three_cases()


def test_summary_means_leave_nan_out(summary: dict[str, Any]) -> None:
    assert summary["mean"][1]["Dice"] == pytest.approx((0.9 + 0.5 + 0.0) / 3)
    assert summary["mean"][2]["Dice"] == pytest.approx((0.3 + 0.0) / 2)
    assert summary["mean"][2]["HD95"] == pytest.approx(22.0)
    assert summary["foreground_mean"]["Dice"] == pytest.approx((1.4 / 3 + 0.15) / 2)
    assert summary["mean"][1]["TN"] == 4.0


def test_summary_deviations_are_those_over_cases(summary: dict[str, Any]) -> None:
    assert summary["std"][2]["Dice"] == pytest.approx(math.sqrt(2 * 0.15**2))
    # the cases' means over their classes are 0.9, 0.4, 0.0
    mean = 1.3 / 3
    expected = math.sqrt(((0.9 - mean) ** 2 + (0.4 - mean) ** 2 + mean**2) / 2)
    assert summary["foreground_std"]["Dice"] == pytest.approx(expected)
    # of HD95 they are 5, 2, 40
    expected = math.sqrt(((5 - 47 / 3) ** 2 + (2 - 47 / 3) ** 2 + (40 - 47 / 3) ** 2) / 2)
    assert summary["foreground_std"]["HD95"] == pytest.approx(expected)


def test_summary_foreground_leaves_out_a_class_that_no_case_shows() -> None:
    case = make_case_scores("a", make_scores(0.5), absent_scores())
    summary = summarize([case], PROTOCOL)
    assert math.isnan(summary["mean"][2]["Dice"])
    assert summary["foreground_mean"]["Dice"] == 0.5
    assert math.isnan(summary["std"][1]["Dice"])


def test_summary_counts_presence_and_names_cases_without_scores(summary: dict[str, Any]) -> None:
    assert summary["presence"][1] == {"cases": 3, "missed": 1, "spurious": 0, "absent": 0}
    assert summary["presence"][2] == {"cases": 2, "missed": 0, "spurious": 1, "absent": 1}
    assert summary["skipped"] == ["e"]
    assert summary["failed"] == {"d": "truncated"}


def test_summary_has_its_cases_in_the_order_of_their_names(summary: dict[str, Any]) -> None:
    assert [entry["case"] for entry in summary["metric_per_case"]] == ["a", "b", "c"]


def test_summary_of_no_case_has_no_mean() -> None:
    summary = summarize([], PROTOCOL)
    assert math.isnan(summary["foreground_mean"]["Dice"])
    assert summary["metric_per_case"] == []


def test_summary_medians_are_those_over_cases(summary: dict[str, Any]) -> None:
    assert summary["median"][1]["Dice"] == 0.5
    assert summary["median"][2]["HD95"] == pytest.approx(22.0)
    assert summary["foreground_median"]["Dice"] == pytest.approx(0.4)  # of 0.9, 0.4, 0.0


def test_summary_intervals_contain_the_means(summary: dict[str, Any]) -> None:
    # With three cases each draw of one case alone is in 1 of 27: the ends are these cases.
    assert summary["interval"][1]["Dice"] == [0.0, 0.9]
    low, high = summary["foreground_interval"]["Dice"]
    assert low <= summary["foreground_mean"]["Dice"] <= high
    assert summary["num_patients"] == 3


def test_summary_of_one_case_has_no_interval() -> None:
    summary = summarize([make_case_scores("a", make_scores(0.5), make_scores(0.4))], PROTOCOL)
    assert np.isnan(summary["interval"][1]["Dice"]).all()
    assert np.isnan(summary["foreground_interval"]["Dice"]).all()
    assert summary["median"][1]["Dice"] == 0.5


def test_summary_intervals_count_patients_and_not_their_frames() -> None:
    frames = []
    for patient in range(8):
        for frame in range(6):
            scores = make_scores(patient / 8)
            frames.append(make_case_scores(f"patient{patient}_frame{frame}", scores, scores))
    summary = summarize(frames, PROTOCOL)
    assert summary["num_patients"] == 8
    low, high = summary["interval"][1]["Dice"]
    by_frame = summarize(frames, replace(PROTOCOL, patient_key=".*"))
    assert by_frame["num_patients"] == 48
    narrow_low, narrow_high = by_frame["interval"][1]["Dice"]
    assert high - low > 2 * (narrow_high - narrow_low)


def test_summary_takes_scores_that_older_versions_lack_for_unknown() -> None:
    older = make_case_scores("a", make_scores(0.5), make_scores(0.3))
    assert "precision" not in older.metrics[1]
    newer = make_case_scores("b", {**make_scores(0.5), "precision": 0.8}, make_scores(0.3))
    summary = summarize([older, newer], PROTOCOL)
    assert summary["mean"][1]["precision"] == 0.8
    assert math.isnan(summary["mean"][2]["precision"])
