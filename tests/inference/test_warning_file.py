"""The file that names doubtful predictions next to the label maps."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from samnet.inference.warning_file import WARNING_FILE, read_warnings, record_warnings


def test_warnings_are_kept_by_case_and_replaced(tmp_path: Path) -> None:
    record_warnings(tmp_path, "b", ["one", "two"])
    record_warnings(tmp_path, "a", ["three"])
    assert json.loads((tmp_path / WARNING_FILE).read_text()) == {
        "cases": {"a": ["three"], "b": ["one", "two"]}
    }
    record_warnings(tmp_path, "b", ["four"])
    assert read_warnings(tmp_path) == {"a": ["three"], "b": ["four"]}


def test_file_is_there_only_as_long_as_it_says_something(tmp_path: Path) -> None:
    record_warnings(tmp_path, "a", [])
    assert list(tmp_path.iterdir()) == []
    record_warnings(tmp_path, "a", ["one"])
    record_warnings(tmp_path, "b", [])
    assert read_warnings(tmp_path) == {"a": ["one"]}
    record_warnings(tmp_path, "a", [])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", ["{", "[]", '{"cases": 3}'])
def test_damaged_file_is_replaced(tmp_path: Path, content: str) -> None:
    (tmp_path / WARNING_FILE).write_text(content)
    assert read_warnings(tmp_path) == {}
    record_warnings(tmp_path, "a", ["one"])
    assert read_warnings(tmp_path) == {"a": ["one"]}
