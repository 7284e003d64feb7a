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
    """All choices for a decision on a made data set, by name."""

    def find(decision: str, name: str = "lora", **options: Any) -> dict[str, Choice]:
        folder = make_dataset(folders["raw"], **SCAN | options)
        fingerprint = extract_fingerprint(RawDataset.load(folder.name), 0)
        choices = find_choices(
            decision, make_plan(fingerprint, Machine("cpu", 8)), fingerprint, name
        )
        return {choice.name: choice for choice in choices}

    return find


def value(choice: Choice, key: str) -> Any:
    return getattr(choice.plan.configuration("lora"), key)


@pytest.mark.parametrize("decision", DECISIONS)
def test_one_choice_is_the_plans_own_and_the_others_differ(find: Find, decision: str) -> None:
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
def test_the_values_of_a_scan(find: Find, decision: str, key: str, values: list[Any]) -> None:
    assert [value(choice, key) for choice in find(decision).values()] == values


def test_the_next_input_sizes(find: Find) -> None:
    assert [
        value(choice, "input_size") for choice in find("input_size", shape=(8, 90, 80)).values()
    ] == [112, 224, 448]


def test_a_zoom_is_halved_and_doubled(find: Find) -> None:
    half, planned, double = (value(choice, "zoom") for choice in find("zoom").values())
    assert (half / planned, double / planned) == pytest.approx((0.5, 2), rel=1e-3)


def test_what_follows_from_a_choice_is_named(find: Find) -> None:
    larger = find("input_size", shape=(8, 90, 80))["448"]
    assert larger.follows["batch_size"] == value(larger, "batch_size")
    assert "input_size" not in larger.follows
    assert find("augmentation")["none"].follows == {}


def test_the_windows_of_ct_and_of_what_has_no_scale(find: Find) -> None:
    for name, number, planned in (("MRI", 501, "each image"), ("CT", 502, "data set's foreground")):
        choices = find("window", channels=(name,), number=number)
        assert set(choices) == {"data set's foreground", "each image", "full range"}
        assert choices[planned].is_planned


def test_lora_has_ranks_and_a_frozen_encoder_none(find: Find) -> None:
    choices = find("rank")
    assert [value(choices[f"rank {number}"], "lora_rank") for number in (1, 4, 16)] == [1, 4, 16]
    assert value(choices["frozen"], "encoder_tuning") == "frozen"
    assert find("rank", "frozen", number=502) == {}


def test_what_a_configuration_fixes_has_no_other_choice(find: Find) -> None:
    assert find("heads", "samed") == {}


def test_pictures_have_one_view_and_no_neighbours(find: Find) -> None:
    options = {"file_ending": ".png", "shape": (1, 40, 36)}
    assert find("views", **options) == {}
    assert find("channels", **options) == {}
    assert find("mirror", **options)["every axis"].is_planned


def test_a_value_that_no_choice_has_is_added_as_planned(find: Find) -> None:
    choices = find("window", file_ending=".png", shape=(1, 40, 36), channels=("R", "G", "B"))
    assert choices["planned"].is_planned
    assert value(choices["planned"], "intensity")[0].upper == 255


def test_a_configuration_that_is_not_there_is_named(find: Find) -> None:
    with pytest.raises(UserError, match="no configuration 'nothing'"):
        find("zoom", "nothing")
