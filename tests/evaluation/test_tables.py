"""The tables of a summary: what they show, and that they fit the screen."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from builders.scores import (
    PROTOCOL,
    absent_scores,
    make_case_scores,
    make_scores,
    summarize_three_cases,
)

from samnet.core.tables import WIDTH
from samnet.dataset.label_scheme import LabelScheme
from samnet.evaluation.centrelines import CLDICE
from samnet.evaluation.summary import Protocol, summarize
from samnet.evaluation.tables import format_overlap, format_table, show_number
from samnet.evaluation.volumes import volume_scores


@pytest.fixture
def tables() -> dict[str, list[str]]:
    """Return the lines of the tables of three cases, by the first word of their titles."""
    return split_tables(summarize_three_cases())


def split_tables(summary: dict[str, Any]) -> dict[str, list[str]]:
    parts = [part.splitlines() for part in format_table(summary).split("\n\n") if "---" in part]
    return {lines[0].split()[0]: lines[1:] for lines in parts}


def test_tables_have_a_row_for_each_class_and_the_foreground(tables: dict[str, list[str]]) -> None:
    for lines in tables.values():
        assert lines[0].split()[0] == "class"
        assert [lines[index].split("  ")[0] for index in (2, 3, -1)] == [
            *("left, inner", "right", "foreground mean"),
        ]
    assert list(tables) == ["overlap", "surfaces", "volumes", "empty", "lesions"]


def test_tables_show_means_and_intervals(tables: dict[str, list[str]]) -> None:
    assert "0.4667  0.0000 to 0.9000" in tables["overlap"][2]
    assert "16.00  2.00 to 40.00" in tables["surfaces"][2]


@pytest.mark.parametrize(("num_cases", "is_warned"), [(1, False), (9, True), (10, False)])
def test_tables_warn_of_intervals_that_rest_on_few_patients(
    num_cases: int, is_warned: bool
) -> None:
    names = [f"case{number}" for number in range(num_cases)]
    cases = [make_case_scores(name, make_scores(0.5), make_scores(0.4)) for name in names]
    summary = summarize(cases, PROTOCOL)
    for text in (format_table(summary), format_overlap(summary)):
        assert text.count(f"rest on {num_cases} patients") == is_warned


def test_tables_count_missed_and_spurious_structures(tables: dict[str, list[str]]) -> None:
    lines = tables["surfaces"]
    assert lines[0].split()[-2:] == ["missed", "spurious"]
    assert [lines[index].split()[-2:] for index in (2, 3, -1)] == [
        ["1", "0"],
        ["0", "1"],
        ["1"] * 2,
    ]


def test_tables_show_a_dash_for_nan() -> None:
    case = make_case_scores("a", make_scores(0.5), absent_scores())
    lines = split_tables(summarize([case], PROTOCOL))["overlap"]
    assert lines[3].split() == ["right", "0", "-", "-", "-", "-", "-"]
    assert lines[2].split()[3:5] == ["0.5000", "-"]  # one case has no interval


def test_sizes_in_pixels_are_whole_numbers() -> None:
    pixels = replace(PROTOCOL, image_unit="pixels", volume_unit="pixels")
    cases = []
    for name, n_pred in (("a", 10), ("b", 400)):
        scores = make_scores(1.0) | volume_scores(n_pred, 4, 1.0)
        cases.append(make_case_scores(name, scores, scores))
    lines = split_tables(summarize(cases, pixels))["areas"]
    assert lines[3].split()[1:-2] == ["4", "205", "201", "6", "to", "396"]


def test_tables_name_the_units() -> None:
    pixels = replace(PROTOCOL, image_unit="pixels", volume_unit="mm2")
    text = format_table(summarize([make_case_scores("a", make_scores(1), make_scores(1))], pixels))
    assert "distances in pixels, NSD within 2 pixels" in text
    assert "areas (mm2 a case)" in text
    assert "empty images (predicted mm2 a case" in text
    one = replace(pixels, nsd_tolerance=1.0)
    text = format_table(summarize([make_case_scores("a", make_scores(1), make_scores(1))], one))
    assert "NSD within 1 pixel)" in text
    legacy = Protocol(PROTOCOL.label_scheme, policy="synapse_legacy")
    assert legacy.distance_unit == "voxels"
    values = dict.fromkeys(legacy.metric_names, 1.0)
    text = format_table(summarize([make_case_scores("a", values, values)], legacy))
    assert "distances in voxels" in text
    assert "NSD" not in text
    assert "lesions" not in text


@pytest.mark.parametrize("value", [0.0, -1e-5, 123.4, -98765.4, 1e9])
def test_tables_fit_the_screen_whatever_the_names_and_numbers(value: float) -> None:
    names = {f"{'a very long name of a class ' * 3}{number}": number for number in (1, 2)}
    protocol = Protocol(
        LabelScheme({"background": 0} | names),
        nsd_tolerance=12.345,
        image_unit="voxels",
        tubes=(1,),
    )
    scores = dict.fromkeys(protocol.metric_names, value)
    unit = ("Dice", "IoU", "NSD", "precision", "recall", "lesion_sensitivity", "lesion_F1", CLDICE)
    scores |= dict.fromkeys(unit, 1.0)
    cases = [make_case_scores(name, scores, scores) for name in "ab"]
    lines = format_table(summarize(cases, protocol)).splitlines()
    assert max(map(len, lines)) <= WIDTH
    assert any(line.startswith("a very") and "..." in line for line in lines)
    assert "centrelines" in lines


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0.00"), (0.00123, "0.00123"), (3.14159, "3.14"), (-12345.6, "-12346"), (2e7, "2e+07")],
)
def test_show_number_shows_small_and_large_numbers(value: float, text: str) -> None:
    assert show_number(value) == text
