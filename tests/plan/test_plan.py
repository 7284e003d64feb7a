"""The plan file: it survives, it may be edited, and a bad edit is named."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from samnet.core.errors import UserError
from samnet.core.machine import Machine
from samnet.dataset.label_scheme import Regions
from samnet.fingerprint.records import Fingerprint
from samnet.plan.configuration import IntensityWindow
from samnet.plan.plan import BY_HAND, Plan, decisions_key
from samnet.planning.explain import explain
from samnet.planning.planner import make_plan

Make = Callable[..., Fingerprint]


@pytest.fixture
def plan(make_fingerprint: Make) -> Plan:
    return make_plan(make_fingerprint(), Machine("cuda", 16))


@pytest.fixture
def edit(plan: Plan, tmp_path: Path) -> Callable[[Callable[[dict], Any]], Plan]:
    """Save the plan, change the parsed JSON with a function, and load it again."""

    def change(editing: Callable[[dict], Any]) -> Plan:
        file = tmp_path / "samnetPlans.json"
        plan.save(file)
        content = json.loads(file.read_text())
        editing(content)
        file.write_text(json.dumps(content))
        return Plan.load(file)

    return change


def lora(content: dict) -> dict:
    return content["configurations"]["lora"]["decisions"]


@pytest.mark.parametrize("machine", [Machine("cpu", 7.6), Machine("cuda", 80.0)], ids=str)
@pytest.mark.parametrize(
    "channels", [("CT",), ("T1", "T2"), ("R", "G", "B"), tuple("abcdefg")], ids=len
)
def test_a_plan_survives_its_file(
    make_fingerprint: Make, tmp_path: Path, machine: Machine, channels: tuple
) -> None:
    plan = make_plan(make_fingerprint(channels=channels, diameters={"a": 5.0, "b": None}), machine)
    plan.save(tmp_path / "plan.json")
    loaded = Plan.load(tmp_path / "plan.json")
    assert loaded == plan
    assert decisions_key(loaded) == loaded.planned_key
    loaded.save(tmp_path / "again.json")
    assert (tmp_path / "again.json").read_text() == (tmp_path / "plan.json").read_text()


def test_a_value_may_be_written_bare(edit: Callable) -> None:
    def editing(content: dict) -> None:
        lora(content)["zoom"] = 3
        lora(content)["lora_targets"] = {"value": ["q", "k", "v"]}
        lora(content)["head"] = {"value": "cnn", "because": "I like it"}
        content["decisions"]["intensity"] = [{"scheme": "fixed", "lower": -100, "upper": 300}]

    loaded = edit(editing)
    values = loaded.configuration("lora")
    assert (values.zoom, values.lora_targets, values.head) == (3.0, ("q", "k", "v"), "cnn")
    assert values.intensity == (IntensityWindow("fixed", -100.0, 300.0),)
    decisions = loaded.configurations["lora"].decisions
    assert {decisions[key].rule for key in ("zoom", "lora_targets", "head")} == {BY_HAND}
    assert decisions["head"].because == "I like it"
    assert decisions_key(loaded) != loaded.planned_key


def test_a_new_configuration_inherits(edit: Callable, plan: Plan) -> None:
    def editing(content: dict) -> None:
        content["configurations"]["wide"] = {"inherit": "lora", "decisions": {"lora_rank": 16}}
        content["configurations"]["wider"] = {
            "inherit": "wide",
            "decisions": {"lora_rank": 32, "views": [0, 1]},
        }
        content["configurations"]["copy"] = {"inherit": "wide"}

    loaded = edit(editing)
    ranks = [loaded.configuration(name).lora_rank for name in ("lora", "wide", "wider", "copy")]
    assert ranks == [4, 16, 32, 16]
    assert loaded.configuration("wider").views == (0, 1)
    assert loaded.configuration("wide").zoom == plan.configuration("lora").zoom


BAD_EDITS = {
    "unknown key, similar": (
        lambda c: lora(c).update(zooom=3),
        "configuration lora: unknown key 'zooom'.*'zoom'",
    ),
    "unknown key": (
        lambda c: lora(c).update(colour=3),
        "configuration lora: unknown key 'colour'; known are",
    ),
    "unknown key of the data set": (
        lambda c: c["decisions"].update(axis=0),
        "decisions: unknown key 'axis'",
    ),
    "split key in a configuration": (lambda c: lora(c).update(folds=3), "unknown key 'folds'"),
    "unknown entry": (lambda c: c.update(configuration={}), "unknown key 'configuration'"),
    "unknown entry of a decision": (
        lambda c: lora(c)["zoom"].update(note=1),
        "zoom: unknown key 'note'",
    ),
    "no value": (lambda c: lora(c)["zoom"].pop("value"), "zoom: the key 'value' is missing"),
    "wrong type": (
        lambda c: lora(c).update(zoom="3"),
        "configuration lora: zoom: expected a number, found '3'",
    ),
    "fraction": (
        lambda c: lora(c).update(batch_size=2.5),
        "batch_size: expected a whole number, found 2.5",
    ),
    "null": (lambda c: lora(c).update(steps=None), "steps: expected a whole number, found None"),
    "no list": (
        lambda c: c["decisions"].update(views=0),
        "decisions: views: expected a list, found 0",
    ),
    "no boolean": (
        lambda c: lora(c).update(mirror_at_prediction="yes"),
        "expected true or false, found 'yes'",
    ),
    "too large": (
        lambda c: lora(c).update(tile_overlap=1),
        "tile_overlap is 1.0; it has to be from 0 to 0.9",
    ),
    "too small": (lambda c: lora(c).update(steps=0), "steps is 0; it has to be at least 1"),
    "not a number": (lambda c: lora(c).update(zoom=float("nan")), "zoom is nan; it has to be from"),
    "infinite": (lambda c: lora(c).update(learning_rate=float("inf")), "learning_rate is inf"),
    "no multiple of 16": (
        lambda c: lora(c).update(input_size=500),
        "input_size is 500; .* multiple of 16",
    ),
    "wrong choice": (
        lambda c: lora(c).update(head="cnm"),
        "head is 'cnm'; possible are .*mask_decoder",
    ),
    "wrong choice in a list": (
        lambda c: lora(c).update(lora_targets=["q", "w"]),
        "lora_targets is 'w'; possible are",
    ),
    "empty list": (lambda c: lora(c).update(lora_targets=[]), "lora_targets is empty"),
    "axis twice": (
        lambda c: c["decisions"].update(views=[0, 0]),
        r"views is \[0, 0\]; it lists some of the axes",
    ),
    "no such axis": (lambda c: c["decisions"].update(mirror_axes=[3]), r"mirror_axes is \[3\]"),
    "views without the slicing axis": (
        lambda c: c["decisions"].update(views=[1]),
        r"views \[1\] lack the slicing_axis 0",
    ),
    "missing key": (lambda c: lora(c).pop("zoom"), "configuration lora: the key 'zoom' is missing"),
    "missing key of the data set": (
        lambda c: c["decisions"].pop("views"),
        "the key 'views' is missing",
    ),
    "too many windows": (
        lambda c: c["decisions"].update(
            intensity=[{"scheme": "fixed", "lower": 0, "upper": 1}] * 2
        ),
        "intensity has 2 windows for 1 channels",
    ),
    "window upside down": (
        lambda c: c["decisions"].update(intensity=[{"scheme": "fixed", "lower": 2, "upper": 1}]),
        "intensity goes from 2 to 1; lower has to be below upper",
    ),
    "no percentile": (
        lambda c: c["decisions"].update(
            intensity=[{"scheme": "percentiles", "lower": 0, "upper": 120}]
        ),
        "intensity goes from 0 to 120; .*from 0 to 100",
    ),
    "unknown scheme": (
        lambda c: c["decisions"].update(intensity=[{"scheme": "z_score", "lower": 0, "upper": 1}]),
        "intensity has the scheme 'z_score'; possible are fixed",
    ),
    "window without upper": (
        lambda c: c["decisions"].update(intensity=[{"scheme": "fixed", "lower": 0}]),
        r"intensity\[0\]: the key 'upper' is missing",
    ),
    "layout for other channels": (
        lambda c: c["decisions"].update(channel_layout="pair_mean"),
        "needs 2 channel",
    ),
    "inherits in a circle": (
        lambda c: c["configurations"].update(a={"inherit": "b"}, b={"inherit": "a"}),
        "inherit in a circle: a -> b -> a",
    ),
    "inherits from itself": (
        lambda c: c["configurations"].update(a={"inherit": "a"}),
        "in a circle: a -> a",
    ),
    "inherits from nothing known": (
        lambda c: c["configurations"].update(mine={"inherit": "lore"}),
        "no configuration 'lore', from which 'mine' is to inherit; it has .*lora",
    ),
    "configuration of another kind": (
        lambda c: c["configurations"].update(a=3),
        "configurations.a: expected an object",
    ),
    "decisions of another kind": (
        lambda c: c.update(decisions=[]),
        "decisions: expected an object",
    ),
    "patients": (
        lambda c: c["decisions"]["patient_key"].update(value="p"),
        "patient_key is part of the splits: set patient_key in dataset.json",
    ),
    "another schema": (
        lambda c: c.update(schema_version=99),
        "schema version 1.*samnet_plan --overwrite",
    ),
}


@pytest.mark.parametrize("name", BAD_EDITS)
def test_a_bad_edit_is_named_with_its_file_and_key(
    edit: Callable, tmp_path: Path, name: str
) -> None:
    editing, message = BAD_EDITS[name]
    with pytest.raises(UserError, match=message) as caught:
        edit(editing)
    assert str(tmp_path / "samnetPlans.json") in str(caught.value)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '"plan"'])
def test_a_file_that_is_no_plan_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "plan.json").write_text(text)
    with pytest.raises(UserError, match=re.escape(str(tmp_path / "plan.json"))):
        Plan.load(tmp_path / "plan.json")


def test_an_unknown_configuration_is_answered_with_the_known_ones(plan: Plan) -> None:
    with pytest.raises(UserError, match=r"no configuration 'lorra'; it has .*lora"):
        plan.configuration("lorra")


def test_the_plan_of_one_configuration_needs_nothing_else(edit: Callable, tmp_path: Path) -> None:
    loaded = edit(
        lambda content: content["configurations"].update(
            wide={"inherit": "lora", "decisions": {"zoom": 2}}
        )
    )
    loaded.only("wide").save(tmp_path / "model.json")
    alone = Plan.load(tmp_path / "model.json")
    assert list(alone.configurations) == ["wide"]
    assert alone.configuration("wide") == loaded.configuration("wide")
    assert alone.description.channel_names == ("MRI",)


def test_values_set_for_a_run_are_checked(plan: Plan) -> None:
    changed = plan.with_values("lora", {"steps": 7, "views": [0]}, "for this run")
    assert (changed.configuration("lora").steps, changed.configuration("lora").views) == (7, (0,))
    assert plan.configuration("lora").steps != 7
    with pytest.raises(UserError, match="configuration lora: steps is 0"):
        plan.with_values("lora", {"steps": 0}, "for this run")


def test_the_explanation_holds_every_value_and_of_further_configurations_what_differs(
    plan: Plan, make_fingerprint: Make
) -> None:
    text = explain(plan, make_fingerprint())
    assert text.startswith("Dataset500_Synthetic, planned for cuda with 16 GiB")
    sections = re.split(r"^configuration ", text, flags=re.MULTILINE)
    assert sections[1].startswith("lora")
    for key, decision in (plan.decisions | plan.configuration_decisions("lora")).items():
        assert len(re.findall(rf"^  {key} = ", sections[0] + sections[1], re.MULTILINE)) == 1
        assert f"[{decision.rule}]" in text
    scratch = next(section for section in sections if section.startswith("scratch"))
    assert "as lora, but for" in scratch
    assert "initial_weights = random" in scratch
    assert "lora_rank = " not in scratch


@pytest.fixture
def nested(make_fingerprint: Make) -> Fingerprint:
    """A region within another."""
    labels = {"background": 0, "whole tumour": (1, 2), "core": 2}
    fingerprint = make_fingerprint(diameters={"whole tumour": 30.0, "core": 6.0})
    return dataclasses.replace(
        fingerprint, labels=labels, ignore_label=3, regions_class_order=(1, 2)
    )


def test_a_plan_of_regions_survives_its_file_and_says_what_is_written_for_them(
    nested: Fingerprint, tmp_path: Path
) -> None:
    nested.save(tmp_path / "fingerprint.json")
    plan = make_plan(Fingerprint.load(tmp_path / "fingerprint.json"), Machine("cuda", 16))
    plan.save(tmp_path / "plan.json")
    assert Plan.load(tmp_path / "plan.json") == plan
    content = json.loads((tmp_path / "plan.json").read_text())
    assert content["labels"] == {"background": 0, "whole tumour": [1, 2], "core": 2}
    assert content["regions_class_order"] == [1, 2]
    assert plan.regions == plan.description.regions == Regions(((1, 2), (2,)), (1, 2))
    assert (plan.num_classes, plan.num_outputs, plan.description.ignore_label) == (2, 2, 3)
    text = explain(plan, nested)
    assert "  whole tumour = 1, 2, written as 1\n  core = 2, written as 2\n" in text
    assert "because binary cross-entropy and Dice of each region" in text
    assert "the smallest class 'core'" in text


def test_a_plan_from_before_there_were_regions_is_read(
    plan: Plan, edit: Callable, make_fingerprint: Make
) -> None:
    assert edit(lambda content: content.pop("regions_class_order")) == plan
    assert "written as" not in explain(plan, make_fingerprint())
