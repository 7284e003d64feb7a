"""The plan file: it is read back as it was written, may be edited, and a wrong edit is named."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from builders.fingerprint import make_fingerprint

from samnet.core.errors import UserError
from samnet.core.machine import Machine
from samnet.dataset.label_scheme import LabelScheme, Regions
from samnet.fingerprint.records import Fingerprint
from samnet.plan.configuration import PLAN_KEYS, IntensityWindow
from samnet.plan.plan import BY_HAND, Plan, decisions_key
from samnet.planning.planner import make_plan


def lora(content: dict) -> dict:
    """The decisions of `lora` in a parsed plan."""
    return content["configurations"]["lora"]["decisions"]


def add_configurations(content: dict, **entries: dict) -> None:
    content["configurations"].update(entries)


@pytest.mark.parametrize(
    "machine", [Machine("cpu", 7.6), Machine("cpu", 7.6, True), Machine("cuda", 80.0)], ids=str
)
@pytest.mark.parametrize(
    "channels", [("CT",), ("T1", "T2"), ("R", "G", "B"), tuple("abcdefg")], ids=len
)
def test_plan_is_read_back_as_it_was_written(
    tmp_path: Path, machine: Machine, channels: tuple
) -> None:
    plan = make_plan(make_fingerprint(channels=channels, diameters={"a": 5.0, "b": None}), machine)
    plan.save(tmp_path / "plan.json")
    loaded = Plan.load(tmp_path / "plan.json")
    assert loaded == plan
    assert decisions_key(loaded) == loaded.planned_key
    loaded.save(tmp_path / "again.json")
    assert (tmp_path / "again.json").read_text() == (tmp_path / "plan.json").read_text()


def test_plan_of_before_units_for_bfloat16_is_for_a_cpu_without(edit: Callable) -> None:
    def change(content: dict) -> None:
        content["machine"] = {"device": "cpu", "memory": 16.0}

    assert edit(change).machine == Machine("cpu", 16.0, False)


def test_plan_may_hold_bare_values(edit: Callable) -> None:
    def change(content: dict) -> None:
        lora(content)["zoom"] = 3
        lora(content)["lora_targets"] = {"value": ["q", "k", "v"]}
        lora(content)["head"] = {"value": "cnn", "because": "I like it"}
        content["decisions"]["intensity"] = [{"scheme": "fixed", "lower": -100, "upper": 300}]

    loaded = edit(change)
    values = loaded.configuration("lora")
    assert (values.zoom, values.lora_targets, values.head) == (3.0, ("q", "k", "v"), "cnn")
    assert values.intensity == (IntensityWindow("fixed", -100.0, 300.0),)
    decisions = loaded.configurations["lora"].decisions
    assert {decisions[key].rule for key in ("zoom", "lora_targets", "head")} == {BY_HAND}
    assert decisions["head"].because == "I like it"
    assert decisions_key(loaded) != loaded.planned_key


def test_new_configuration_inherits(edit: Callable, plan: Plan) -> None:
    def change(content: dict) -> None:
        add_configurations(
            content,
            wide={"inherit": "lora", "decisions": {"lora_rank": 16}},
            wider={"inherit": "wide", "decisions": {"lora_rank": 32, "views": [0, 1]}},
            copy={"inherit": "wide"},
        )

    loaded = edit(change)
    ranks = [loaded.configuration(name).lora_rank for name in ("lora", "wide", "wider", "copy")]
    assert ranks == [4, 16, 32, 16]
    assert loaded.configuration("wider").views == (0, 1)
    assert loaded.configuration("wide").zoom == plan.configuration("lora").zoom


def test_decisions_of_a_configuration_are_in_the_declared_order(plan: Plan) -> None:
    assert list(plan.configuration_decisions("lora")) == list(PLAN_KEYS)


STACKS = ("depth", "depth_blocks", "depth_adapters")
WRONG_EDITS = {
    "unknown entry": (lambda c: c.update(configuration={}), "unknown key 'configuration'"),
    "unknown entry of a decision": (
        lambda c: lora(c)["zoom"].update(note=1),
        "zoom: unknown key 'note'",
    ),
    "no value": (lambda c: lora(c)["zoom"].pop("value"), "zoom: the key 'value' is missing"),
    "split key in a configuration": (lambda c: lora(c).update(folds=3), "unknown key 'folds'"),
    "inherits in a circle": (
        lambda c: add_configurations(c, a={"inherit": "b"}, b={"inherit": "a"}),
        "inherit in a circle: a -> b -> a",
    ),
    "inherits from itself": (
        lambda c: add_configurations(c, a={"inherit": "a"}),
        "in a circle: a -> a",
    ),
    "inherits from nothing known": (
        lambda c: add_configurations(c, mine={"inherit": "lore"}),
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


@pytest.mark.parametrize("name", WRONG_EDITS)
def test_wrong_edit_of_a_plan_is_named_with_its_file(
    edit: Callable, tmp_path: Path, name: str
) -> None:
    change, message = WRONG_EDITS[name]
    with pytest.raises(UserError, match=message) as caught:
        edit(change)
    assert str(tmp_path / "samnetPlans.json") in str(caught.value)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '"plan"'])
def test_file_that_is_no_plan_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "plan.json").write_text(text)
    with pytest.raises(UserError, match=re.escape(str(tmp_path / "plan.json"))):
        Plan.load(tmp_path / "plan.json")


def test_unknown_configuration_is_answered_with_the_known_ones(plan: Plan) -> None:
    with pytest.raises(UserError, match=r"no configuration 'lorra'; it has .*lora"):
        plan.configuration("lorra")


def test_plan_of_one_configuration_needs_nothing_else(edit: Callable, tmp_path: Path) -> None:
    def change(content: dict) -> None:
        add_configurations(content, wide={"inherit": "lora", "decisions": {"zoom": 2}})

    loaded = edit(change)
    loaded.only("wide").save(tmp_path / "model.json")
    alone = Plan.load(tmp_path / "model.json")
    assert list(alone.configurations) == ["wide"]
    assert alone.single_name == "wide"
    assert alone.single_configuration == loaded.configuration("wide")
    assert alone.description.channel_names == ("MRI",)


def test_values_set_for_a_run_are_checked(plan: Plan) -> None:
    changed = plan.with_values("lora", {"steps": 7, "views": [0]}, "for this run")
    assert (changed.configuration("lora").steps, changed.configuration("lora").views) == (7, (0,))
    assert plan.configuration("lora").steps != 7
    with pytest.raises(UserError, match="configuration lora: steps is 0"):
        plan.with_values("lora", {"steps": 0}, "for this run")


def test_plan_of_regions_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    scheme = LabelScheme({"background": 0, "whole tumour": (1, 2), "core": 2}, 3, (1, 2))
    fingerprint = make_fingerprint(diameters={"whole tumour": 30.0, "core": 6.0})
    fingerprint = dataclasses.replace(fingerprint, label_scheme=scheme)
    fingerprint.save(tmp_path / "fingerprint.json")
    plan = make_plan(Fingerprint.load(tmp_path / "fingerprint.json"), Machine("cuda", 16))
    plan.save(tmp_path / "plan.json")
    assert Plan.load(tmp_path / "plan.json") == plan
    content = json.loads((tmp_path / "plan.json").read_text())
    assert content["labels"] == {"background": 0, "whole tumour": [1, 2], "core": 2}
    assert content["regions_class_order"] == [1, 2]
    assert plan.label_scheme == plan.description.label_scheme == scheme
    assert plan.label_scheme.regions == Regions(((1, 2), (2,)), (1, 2))
    assert (plan.label_scheme.num_classes, plan.label_scheme.num_outputs) == (2, 2)


def test_plan_from_before_there_were_regions_is_read(plan: Plan, edit: Callable) -> None:
    assert edit(lambda content: content.pop("regions_class_order")) == plan


def test_plan_older_than_a_key_means_by_it_what_samnet_did_then(
    plan: Plan, edit: Callable, tmp_path: Path
) -> None:
    """Though the named configuration would now be planned with another value."""
    assert plan.configuration("samed").slice_order == "passes"

    def change(content: dict) -> None:
        for entry in content["configurations"].values():
            for key in ("frame", "orientation", "slice_order", *STACKS):
                del entry["decisions"][key]

    old = edit(change)
    for name in old.configurations:
        values = old.configuration(name)
        assert (values.frame, values.orientation, values.slice_order) == (
            "scale",
            "patient",
            "random",
        )
        assert [getattr(values, key) for key in STACKS] == [1, "last_half", 1]
    assert "frame" not in old.configurations["samed"].decisions
    old.only("samed").save(tmp_path / "model.json")
    assert Plan.load(tmp_path / "model.json").single_configuration == old.configuration("samed")
