"""The alternatives that an ablation finds for each decision of a plan."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from neighbours import DECISIONS, Choice, find_choices

from samnet.core.errors import UserError
from samnet.core.machine import Machine
from samnet.dataset.cases import RawDataset
from samnet.fingerprint.extract import extract_fingerprint
from samnet.planning.planner import make_plan

Find = Callable[..., dict[str, Choice]]
SCAN = {"shape": (16, 40, 36), "num_cases": 3}


@pytest.fixture
def find(make_dataset: Callable[..., Path], folders: dict[str, Path]) -> Find:
    """Finds all choices for a decision on a synthetic data set, by name."""

    def find(decision: str, name: str = "lora", **options: Any) -> dict[str, Choice]:
        folder = make_dataset(folders["raw"], **SCAN | options)
        fingerprint = extract_fingerprint(RawDataset.load(folder.name), 0)
        plan = make_plan(fingerprint, Machine("cpu", 8), requested=[name])
        choices = find_choices(decision, plan, fingerprint, name)
        return {choice.name: choice for choice in choices}

    return find


def value(choice: Choice, key: str) -> Any:
    return getattr(choice.plan.configuration("lora"), key)


@pytest.mark.parametrize("decision", DECISIONS)
def test_choices_differ_and_one_is_the_plans_own(find: Find, decision: str) -> None:
    choices = find(decision)
    configurations = [choice.plan.configuration("lora") for choice in choices.values()]
    assert len(set(configurations)) == len(choices) > 1
    assert sum(choice.is_planned for choice in choices.values()) == 1


@pytest.mark.parametrize(
    ("decision", "key", "values"),
    [
        ("views", "views", [(0,), (1,), (2,), (0, 1, 2)]),
        ("channels", "channel_layout", ["neighbours", "repeat"]),
        ("mirror", "mirror_axes", [(), (2,), (0, 1, 2)]),
        ("input_size", "input_size", [112, 224]),
        ("augmentation", "augmentation", ["planned", "none"]),
    ],
)
def test_choices_for_a_scan(find: Find, decision: str, key: str, values: list[Any]) -> None:
    assert [value(choice, key) for choice in find(decision).values()] == values


def test_input_size_has_the_next_smaller_and_larger_one(find: Find) -> None:
    choices = find("input_size", shape=(8, 90, 80)).values()
    assert [value(choice, "input_size") for choice in choices] == [112, 224, 448]


def test_zoom_is_halved_and_doubled(find: Find) -> None:
    half, planned, double = (value(choice, "zoom") for choice in find("zoom").values())
    assert (half / planned, double / planned) == pytest.approx((0.5, 2), rel=1e-3)


def test_choice_names_the_other_values_that_follow(find: Find) -> None:
    larger = find("input_size", shape=(8, 90, 80))["448"]
    assert larger.follows["batch_size"] == value(larger, "batch_size")
    assert "input_size" not in larger.follows
    assert find("augmentation")["none"].follows == {}


def test_window_has_the_rules_of_ct_and_of_scans_without_a_scale(find: Find) -> None:
    for name, number, planned in (("MRI", 501, "each image"), ("CT", 502, "data set's foreground")):
        choices = find("window", channels=(name,), number=number)
        assert set(choices) == {"data set's foreground", "each image", "full range"}
        assert choices[planned].is_planned


def test_rank_has_choices_for_lora_and_none_for_a_frozen_encoder(find: Find) -> None:
    choices = find("rank")
    assert [value(choices[f"rank {number}"], "lora_rank") for number in (1, 4, 16)] == [1, 4, 16]
    assert value(choices["frozen"], "encoder_tuning") == "frozen"
    assert find("rank", "frozen", number=502) == {}


def test_heads_have_no_choice_where_the_configuration_fixes_the_head(find: Find) -> None:
    assert find("heads", "samed") == {}


def test_2d_images_have_one_view_and_no_neighbours(find: Find) -> None:
    options = {"file_ending": ".png", "shape": (1, 40, 36)}
    assert find("views", **options) == {}
    assert find("channels", **options) == {}
    assert find("mirror", **options)["every axis"].is_planned


def test_choices_include_a_planned_value_that_no_rule_gives(find: Find) -> None:
    choices = find("window", file_ending=".png", shape=(1, 40, 36), channels=("R", "G", "B"))
    assert choices["planned"].is_planned
    assert value(choices["planned"], "intensity")[0].upper == 255


def test_find_choices_names_a_missing_configuration(find: Find) -> None:
    with pytest.raises(UserError, match="no configuration 'nothing'"):
        find("zoom", "nothing")
