"""The check of values: of each one by its declaration, and of all together."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from builders.tiny import VALUES, add_tiny_backbone

from samnet.core.errors import UserError
from samnet.plan.backbones import BACKBONES, Backbone
from samnet.plan.checks import build_configuration, check_value
from samnet.plan.configuration import PLAN_KEYS, Configuration, IntensityWindow


def window(lower: float, upper: float, scheme: str = "fixed") -> dict[str, Any]:
    """An intensity window as JSON has it."""
    return {"scheme": scheme, "lower": lower, "upper": upper}


WRONG_VALUES = {
    "unknown key, similar": ({"zooom": 3}, "configuration lora: unknown key 'zooom'.*'zoom'"),
    "unknown key": ({"colour": 3}, "configuration lora: unknown key 'colour'; known are"),
    "wrong type": ({"zoom": "3"}, "configuration lora: zoom: expected a number, found '3'"),
    "fraction": ({"batch_size": 2.5}, "batch_size: expected a whole number, found 2.5"),
    "null": ({"steps": None}, "steps: expected a whole number, found None"),
    "no list": ({"views": 0}, "views: expected a list, found 0"),
    "no boolean": ({"mirror_at_prediction": "yes"}, "expected true or false, found 'yes'"),
    "too large": ({"tile_overlap": 1}, "tile_overlap is 1.0; it has to be from 0 to 0.9"),
    "too small": ({"steps": 0}, "steps is 0; it has to be at least 1"),
    "not a number": ({"zoom": float("nan")}, "zoom is nan; it has to be from"),
    "infinite": ({"learning_rate": float("inf")}, "learning_rate is inf"),
    "no multiple of 16": ({"input_size": 500}, "input_size is 500; .* multiple of 16"),
    "wrong choice": ({"head": "cnm"}, "head is 'cnm'; possible are .*mask_decoder"),
    "wrong choice in a list": (
        {"lora_targets": ["q", "w"]},
        "lora_targets is 'w'; possible are q, k, v, projection, mlp",
    ),
    "empty list": (
        {"lora_targets": []},
        r"lora_targets is \[\]; it has to be a list of some of `q`, `k`, `v`",
    ),
    "axis twice": (
        {"views": [0, 0]},
        r"views is \[0, 0\]; it has to be a list of some of the axes 0, 1, 2, each once",
    ),
    "no such axis": (
        {"mirror_axes": [3]},
        r"mirror_axes is \[3\]; it has to be a list of some of the axes 0, 1, 2, each once",
    ),
    "no file of weights": (
        {"initial_weights": "weights.zip"},
        r"initial_weights is 'weights\.zip'; it has to be `pretrained`, `random`, or a file",
    ),
    "no numbers of blocks": (
        {"lora_blocks": "2,five"},
        "lora_blocks is '2,five'; it has to be `all`, `last_half`, `last_quarter`, or numbers",
    ),
    "even number of slices": ({"depth": 4}, "depth is 4; it has to be 1, 3, 5"),
    "no numbers of blocks with adapters": (
        {"depth_blocks": "some"},
        "depth_blocks is 'some'; it has to be `all`, `last_half`, `last_quarter`, or numbers",
    ),
    "stacks for a frozen encoder": (
        {"depth": 3, "encoder_tuning": "frozen"},
        "depth is 3 with a frozen encoder, whose embeddings are those of single slices; use",
    ),
    "copying of no label": (
        {"structure_copying": 0.5, "copied_labels": []},
        r"structure_copying is 0\.5, but copied_labels names no label; add .* copied_labels=\[1\]",
    ),
    "copying of the background": (
        {"copied_labels": [0]},
        "copied_labels is .*; it has to be a list of labels above 0",
    ),
    "views without the slicing axis": ({"views": [1]}, r"views \[1\] lack the slicing_axis 0"),
    "too many windows": (
        {"intensity": [window(0, 1)] * 2},
        "intensity has 2 windows for 1 channels",
    ),
    "window upside down": (
        {"intensity": [window(2, 1)]},
        "intensity goes from 2 to 1; lower has to be below upper",
    ),
    "no percentile": (
        {"intensity": [window(0, 120, "percentiles")]},
        "intensity goes from 0 to 120; .*from 0 to 100",
    ),
    "unknown scheme": (
        {"intensity": [window(0, 1, "z_score")]},
        "intensity has the scheme 'z_score'; possible are fixed",
    ),
    "window without upper": (
        {"intensity": [{"scheme": "fixed", "lower": 0}]},
        r"intensity\[0\]: the key 'upper' is missing",
    ),
    "layout for other channels": ({"channel_layout": "pair_mean"}, "needs 2 channel"),
    "weights that do not exist": (
        {"initial_weights": "pretrained"},
        "the backbone tiny has no pre-trained weights; use random",
    ),
}


@pytest.fixture(autouse=True)
def tiny_backbone(monkeypatch: pytest.MonkeyPatch) -> None:
    add_tiny_backbone(monkeypatch)


@pytest.mark.parametrize("name", WRONG_VALUES)
def test_build_configuration_refuses_a_wrong_value(name: str) -> None:
    changes, message = WRONG_VALUES[name]
    with pytest.raises(UserError, match=message) as caught:
        build_configuration(VALUES | changes, 1, "configuration lora")
    assert str(caught.value).startswith("configuration lora: ")


@pytest.mark.parametrize(
    "name", [name for name in WRONG_VALUES if name != "weights that do not exist"]
)
def test_wrong_value_in_a_plan_is_named_with_its_file_and_key(
    edit: Callable, tmp_path: Path, name: str
) -> None:
    changes, message = WRONG_VALUES[name]
    with pytest.raises(UserError, match=message) as caught:
        edit(lambda content: content["configurations"]["lora"]["decisions"].update(changes))
    assert str(tmp_path / "samnetPlans.json") in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"axis": 0}, "decisions: unknown key 'axis'"),
        ({"views": 0}, "decisions: views: expected a list, found 0"),
        ({"views": [0, 0]}, r"decisions: views is \[0, 0\]"),
        ({"views": [1]}, r"views \[1\] lack the slicing_axis 0"),
        ({"mirror_axes": [3]}, r"decisions: mirror_axes is \[3\]"),
        ({"intensity": [window(0, 1)] * 2}, "intensity has 2 windows for 1 channels"),
        ({"channel_layout": "pair_mean"}, "needs 2 channel"),
    ],
    ids=str,
)
def test_wrong_decision_for_the_data_set_is_named_with_its_file_and_key(
    edit: Callable, tmp_path: Path, changes: dict, message: str
) -> None:
    with pytest.raises(UserError, match=message) as caught:
        edit(lambda content: content["decisions"].update(changes))
    assert str(tmp_path / "samnetPlans.json") in str(caught.value)


@pytest.mark.parametrize("key", PLAN_KEYS)
def test_build_configuration_names_a_missing_key(key: str) -> None:
    values = {name: value for name, value in VALUES.items() if name != key}
    with pytest.raises(UserError, match=f"here: the key '{key}' is missing"):
        build_configuration(values, 1, "here")


@pytest.mark.parametrize(
    ("place", "key"), [("decisions", "views"), ("configuration lora", "zoom")], ids=str
)
def test_missing_key_of_a_plan_is_named(edit: Callable, place: str, key: str) -> None:
    def change(content: dict) -> None:
        lora = content["configurations"]["lora"]["decisions"]
        group = content["decisions"] if place == "decisions" else lora
        del group[key]

    with pytest.raises(UserError, match=rf"samnetPlans\.json: .*the key '{key}' is missing"):
        edit(change)


def test_build_configuration_converts_values_from_json() -> None:
    changes = {"zoom": 3, "views": [0, 1], "intensity": [window(-100, 300)]}
    configuration = build_configuration(VALUES | changes, 1, "here")
    assert isinstance(configuration, Configuration)
    assert isinstance(configuration.zoom, float)
    assert configuration.views == (0, 1)
    assert configuration.intensity == (IntensityWindow("fixed", -100.0, 300.0),)


@pytest.mark.parametrize(
    ("layout", "num_channels"),
    [("neighbours", 1), ("repeat", 1), ("pair_mean", 2), ("as_is", 3), ("stem", 1), ("stem", 7)],
)
def test_build_configuration_takes_layouts_for_their_channels(
    layout: str, num_channels: int
) -> None:
    changes = {"channel_layout": layout, "intensity": [window(0, 1)] * num_channels}
    configuration = build_configuration(VALUES | changes, num_channels, "here")
    assert configuration.channel_layout == layout


def test_check_value_knows_a_backbone_that_was_added(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="backbone is 'mine'; possible are small, vit_b"):
        check_value("backbone", "mine", "here")
    monkeypatch.setitem(BACKBONES, "mine", Backbone("mine", 32, 2, 2, (1,), None))
    assert check_value("backbone", "mine", "here") == "mine"
