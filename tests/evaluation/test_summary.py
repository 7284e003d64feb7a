"""Means and deviations over cases, and the table of them, with values computed by hand."""

from __future__ import annotations

import math
from typing import Any

import pytest
from builders.scores import (
    PROTOCOL,
    absent_scores,
    make_case_scores,
    make_scores,
    summarize_three_cases,
)

from samnet.evaluation.summary import Protocol, format_table, summarize


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


def test_table_has_a_row_for_each_class_and_the_foreground(summary: dict[str, Any]) -> None:
    lines = format_table(summary).splitlines()
    assert lines[0].split("  ")[0] == "class"
    for heading in ("HD95 (mm)", "ASSD (mm)", "NSD (2 mm)", "missed", "spurious"):
        assert heading in lines[0]
    assert lines[2].startswith("left, inner")
    assert "0.4667 +- 0.4509" in lines[2]
    assert lines[2].split()[-2:] == ["1", "0"]
    assert lines[-1].startswith("foreground mean")
    assert lines[-1].split()[-2:] == ["1", "1"]


def test_table_shows_a_dash_for_nan() -> None:
    case = make_case_scores("a", make_scores(0.5), absent_scores())
    lines = format_table(summarize([case], PROTOCOL)).splitlines()
    assert lines[3].split() == ["right", "0", "-", "-", "-", "-", "-", "0", "0"]
    assert "+-" not in lines[2]


def test_table_names_the_unit_of_distances() -> None:
    legacy = Protocol(PROTOCOL.label_scheme, policy="synapse_legacy")
    assert legacy.distance_unit == "voxels"
    assert Protocol(PROTOCOL.label_scheme, image_unit="pixels").distance_unit == "pixels"
    values = dict.fromkeys(legacy.metric_names, 1.0)
    table = format_table(summarize([make_case_scores("a", values, values)], legacy))
    assert "HD95 (voxels)" in table
    assert "NSD" not in table
