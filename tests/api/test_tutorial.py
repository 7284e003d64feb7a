"""The tutorial notebook, run cell by cell."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from builders.tiny import add_tiny_backbone

NOTEBOOK = Path(__file__).parents[2] / "docs" / "tutorial.ipynb"
SETTINGS = "quick = {"  # of the plan
TINY = '"backbone": "tiny", "input_size": 64, "batch_size": 2, '
CELLS = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]


def test_tutorial_is_stored_without_outputs() -> None:
    code = [cell for cell in CELLS if cell["cell_type"] == "code"]
    assert code
    for cell in code:
        assert cell["outputs"] == []
        assert cell["execution_count"] is None


def test_tutorial_leads_from_scans_to_a_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Without a kernel: the cells hold plain Python, and what they show is printed. A tiny network
    # on small inputs takes seconds in place of minutes.
    monkeypatch.chdir(tmp_path)
    add_tiny_backbone(monkeypatch)
    names: dict[str, Any] = {"__name__": "__main__"}
    for number, cell in enumerate(CELLS):
        if cell["cell_type"] == "code":
            source = "".join(cell["source"]).replace(SETTINGS, f"{SETTINGS}{TINY}")
            code = compile(source, f"{NOTEBOOK.name}, cell {number}", "exec")
            exec(code, names)  # the code of our own notebook
    assert names["page"].file.is_file()
    assert set(names["predicted"].files) == {"demo_004", "demo_005"}
    assert (names["of_array"] == names["labels"].get_fdata()).all()
    assert 0 <= names["scores"].dice <= 1
    assert names["plan"].configurations["lora"]["backbone"] == "tiny"
