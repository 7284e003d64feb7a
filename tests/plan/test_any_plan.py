"""Any plan comes back from its file unchanged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from builders.properties import for_any_input
from builders.tiny import OTHER_VALUES, VALUES, make_configuration, make_plan, tiny_backbone
from hypothesis import given
from hypothesis import strategies as st

from samnet.core.files import read_json
from samnet.core.records import from_json, to_json
from samnet.dataset.label_scheme import LabelScheme
from samnet.plan.configuration import Configuration
from samnet.plan.plan import Plan

__all__ = ["tiny_backbone"]
CHANGES = st.sets(st.sampled_from(sorted(OTHER_VALUES))).map(
    lambda keys: {key: OTHER_VALUES[key] for key in keys} | {"slicing_axis": 0}
)
NAMES = st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")), min_size=1)


@for_any_input(25)
@given(
    CHANGES,
    st.floats(1e-6, 1e3),
    st.floats(1e-12, 1),
    st.lists(NAMES, min_size=1, max_size=5, unique=True),
)
def test_any_plan_comes_back_from_its_file(
    tmp_path: Path, changes: dict[str, Any], spacing: float, rate: float, names: list[str]
) -> None:
    if "views" not in changes:
        changes = changes | {"views": VALUES["views"]}
    if changes.get("encoder_tuning") == "frozen":
        changes = changes | {"depth": 1}
    configuration = make_configuration(
        **(changes | {"in_plane_spacing": spacing, "learning_rate": rate})
    )
    labels = {"background": 0} | {f"class {name}": value for value, name in enumerate(names, 1)}
    plan = make_plan(configuration, label_scheme=LabelScheme(labels))
    file = tmp_path / "plan.json"
    plan.save(file)
    loaded = Plan.load(file)
    assert loaded.configuration("lora") == configuration
    assert loaded.label_scheme == plan.label_scheme
    again = tmp_path / "again.json"
    loaded.save(again)
    assert Plan.load(again) == loaded
    assert from_json(Configuration, to_json(configuration), "memory") == configuration
    assert read_json(file)["labels"] == labels


@pytest.mark.parametrize("key", OTHER_VALUES)
def test_every_value_of_a_plan_is_in_its_file(tmp_path: Path, key: str) -> None:
    value = OTHER_VALUES[key]
    changes = {key: value} | ({"views": (1,)} if key == "slicing_axis" else {})
    make_plan(make_configuration(**changes)).save(tmp_path / "plan.json")
    assert getattr(Plan.load(tmp_path / "plan.json").configuration("lora"), key) == value
