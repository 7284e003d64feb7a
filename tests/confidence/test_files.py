"""The tables next to label maps."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from builders.confidence import make_signals

from samnet.confidence.calibration import Expectation
from samnet.confidence.case_table import CaseTable
from samnet.confidence.files import (
    confidence_table,
    read_signals,
    record_confidence,
    record_signals,
    signals_table,
)

SIGNALS = {"left, inner": make_signals(0.1 + 0.2, overlap=1e-17), "right": make_signals(None, 0.0)}


def test_signals_are_exactly_the_same_after_writing_and_reading(tmp_path: Path) -> None:
    record_signals(tmp_path, "b", SIGNALS)
    record_signals(tmp_path, "a", SIGNALS)
    assert read_signals(tmp_path) == {"a": SIGNALS, "b": SIGNALS}


def test_numbers_of_numpy_are_written_as_numbers(tmp_path: Path) -> None:
    of_numpy = replace(SIGNALS["right"], slices=np.float64(0.1), size=np.int64(7))
    record_signals(tmp_path, "a", {"right": of_numpy})
    assert read_signals(tmp_path) == {"a": {"right": of_numpy}}


def test_confidence_has_a_row_for_each_case_and_class(tmp_path: Path) -> None:
    expected = {
        "liver": Expectation(0.61234, 0.5, 0.7, True, 'expected 0.61, "most" 0.9'),
        "tumour": Expectation(None, None, None, False, "not predicted"),
    }
    record_confidence(tmp_path, "a", expected)
    assert (tmp_path / "confidence.csv").read_text() == (
        "case,class,expected_dice,low,high,flag,reason\n"
        'a,liver,0.612,0.500,0.700,yes,"expected 0.61, ""most"" 0.9"\n'
        "a,tumour,,,,no,not predicted\n"
    )


def test_forgotten_cases_leave_the_others_sorted(tmp_path: Path) -> None:
    for case in ("c", "a", "b"):
        record_signals(tmp_path, case, SIGNALS)
    signals_table(tmp_path).forget({"b", "never there"})
    assert [row["case"] for row in signals_table(tmp_path).rows()] == ["a", "a", "c", "c"]
    signals_table(tmp_path).forget({"a", "c"})
    assert not signals_table(tmp_path).file.exists()
    signals_table(tmp_path).forget({"a"})


@pytest.mark.parametrize("damage", ["case,class\n1,2\n", "", "\0\0\0", "no table"])
def test_a_file_of_another_form_is_replaced(tmp_path: Path, damage: str) -> None:
    confidence_table(tmp_path).file.write_text(damage)
    assert confidence_table(tmp_path).rows() == []
    record_confidence(tmp_path, "a", {"liver": Expectation(0.6, 0.5, 0.7, False, "")})
    assert [row["case"] for row in confidence_table(tmp_path).rows()] == ["a"]


def test_rows_that_are_cut_or_no_numbers_are_left_out(tmp_path: Path) -> None:
    record_signals(tmp_path, "a", SIGNALS)
    file = signals_table(tmp_path).file
    first, second = file.read_text().splitlines()[1:]
    lines = [file.read_text().splitlines()[0], first, second.replace("0.0", "many"), first[:20]]
    file.write_text("\n".join(lines))
    assert read_signals(tmp_path) == {"a": {"left, inner": SIGNALS["left, inner"]}}


def test_a_row_after_one_that_was_cut_begins_a_line(tmp_path: Path) -> None:
    table = CaseTable(tmp_path / "table.csv", ("value",))
    table.add("a", [{"value": 1}])
    with table.file.open("a") as handle:
        handle.write("b")  # a process was killed
    table.add("c", [{"value": 3}])
    assert [(row["case"], row["value"]) for row in table.rows()] == [("a", "1"), ("c", "3")]
