"""Published configurations are planned on request, as if they had been planned at once."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from builders.fingerprint import make_fingerprint
from builders.planned import CPU, GPU, plan_all

from samnet.core.errors import UserError
from samnet.core.machine import Machine
from samnet.plan.configuration import Configuration
from samnet.plan.plan import BY_HAND, Decision, Plan
from samnet.planning.planned_step import PlannedStep
from samnet.planning.planner import make_plan
from samnet.planning.presets import configuration_names, standard_names
from samnet.planning.replan import find_hand_made, update_plan
from samnet.planning.requested import add_configurations, find_missing, names_on_request

OWN = ["frozen", "full", "lora", "scratch"]
PUBLISHED = ["autosam", "autosam_cnn", "autosam_linear", "ma_sam", "samed", "samed_h", "samed_s"]


def measure(step: PlannedStep) -> float:
    """The GiB of a step: one for each image, a fifth of it with checkpointing."""
    configuration = step.configuration
    return configuration.batch_size * (0.2 if configuration.gradient_checkpointing else 1.0)


def edited_plan(**changes: Any) -> Plan:
    """A plan in which a person changed decisions of the data set."""
    plan = make_plan(make_fingerprint(), GPU)
    by_hand = {key: Decision(value, "mine", BY_HAND) for key, value in changes.items()}
    return dataclasses.replace(plan, decisions=plan.decisions | by_hand)


def with_heir(plan: Plan, ancestor: str) -> Plan:
    """A plan with a person's configuration that builds on another one."""
    backbone = Decision("vit_l", "mine", BY_HAND)
    heir = dataclasses.replace(
        plan.configurations["lora"], inherit=ancestor, decisions={"backbone": backbone}
    )
    return dataclasses.replace(plan, configurations=plan.configurations | {"mine": heir})


def test_plan_holds_what_is_not_published_and_names_the_rest() -> None:
    plan = make_plan(make_fingerprint(), GPU)
    assert list(plan.configurations) == standard_names() == OWN
    assert names_on_request(plan) == PUBLISHED
    assert names_on_request(plan_all(make_fingerprint())) == []
    assert sorted([*OWN, *PUBLISHED]) == configuration_names()


def test_published_configurations_are_not_measured_before_they_are_requested() -> None:
    steps: list[Configuration] = []

    def count(step: PlannedStep) -> float:
        steps.append(step.configuration)
        return 0.5

    plan = make_plan(make_fingerprint(), CPU, {}, count)
    assert {step.backbone for step in steps} == {"small"}
    steps.clear()
    add_configurations(plan, ["samed"], make_fingerprint(), count)
    assert {(step.backbone, step.batch_size) for step in steps} == {("vit_b", 24)}


@pytest.mark.parametrize("name", PUBLISHED)
@pytest.mark.parametrize(
    ("machine", "settings"),
    [
        (GPU, {}),
        (CPU, {"frame": "stretch", "views": [0, 1], "in_plane_spacing": 2.0, "steps": 70}),
    ],
    ids=["plain", "with settings"],
)
def test_added_configuration_is_what_planning_at_once_gives(
    name: str, machine: Machine, settings: dict[str, Any]
) -> None:
    fingerprint = make_fingerprint()
    plan = make_plan(fingerprint, machine, settings, measure)
    added = add_configurations(plan, [name], fingerprint, measure)
    assert added == make_plan(fingerprint, machine, settings, measure, [name])
    assert add_configurations(added, [name, "lora"], fingerprint, measure) is added
    everything = add_configurations(added, PUBLISHED, fingerprint, measure)
    assert everything == plan_all(fingerprint, machine, settings, measure)


def test_planning_again_keeps_what_was_added_and_adds_what_is_requested() -> None:
    fingerprint = make_fingerprint()
    plan = make_plan(fingerprint, GPU)
    added = add_configurations(plan, ["samed"], fingerprint)
    assert update_plan(added, fingerprint, GPU, {}) == added
    again = update_plan(added, fingerprint, CPU, {"patience": 7}, requested=["autosam"])
    assert again == make_plan(fingerprint, CPU, {"patience": 7}, requested=["samed", "autosam"])


class TestChangedByHand:
    def test_addition_follows_what_a_person_changed_and_changes_nothing_else(self) -> None:
        fingerprint, edited = make_fingerprint(), edited_plan(in_plane_spacing=2.0)
        added = add_configurations(edited, ["samed"], fingerprint)
        assert added.configuration("samed").in_plane_spacing == 2.0
        expected = make_plan(fingerprint, GPU, {"in_plane_spacing": 2.0}, requested=["samed"])
        assert added.configuration("samed") == expected.configuration("samed")
        without = {name: entry for name, entry in added.configurations.items() if name != "samed"}
        assert dataclasses.replace(added, configurations=without) == edited

    def test_plan_still_counts_as_changed_by_hand(self) -> None:
        fingerprint, edited = make_fingerprint(), edited_plan(mirror_axes=())
        added = add_configurations(edited, ["samed_h"], fingerprint)
        assert find_hand_made(added, fingerprint) == ["mirror_axes"]
        assert update_plan(added, fingerprint, CPU, {}) == added
        with pytest.raises(UserError, match=r"changed by hand .mirror_axes..*--overwrite"):
            update_plan(added, fingerprint, GPU, {"patience": 3})

    def test_requested_configuration_is_added_to_a_plan_that_stays(self) -> None:
        fingerprint, edited = make_fingerprint(), edited_plan(mirror_axes=())
        kept = update_plan(edited, fingerprint, GPU, {}, requested=["samed"])
        assert kept == add_configurations(edited, ["samed"], fingerprint)

    def test_own_configuration_of_a_published_name_is_the_one_that_counts(self) -> None:
        plan = make_plan(make_fingerprint(), GPU)
        mine = dataclasses.replace(plan.configurations["lora"], inherit="lora", decisions={})
        plan = dataclasses.replace(plan, configurations=plan.configurations | {"samed": mine})
        assert add_configurations(plan, ["samed"], make_fingerprint()) is plan
        assert update_plan(plan, make_fingerprint(), GPU, {}) == plan

    def test_deleted_configuration_can_be_planned_again(self) -> None:
        plan = make_plan(make_fingerprint(), GPU)
        fewer = {"lora": plan.configurations["lora"]}
        deleted = dataclasses.replace(plan, configurations=fewer)
        added = add_configurations(deleted, ["full"], make_fingerprint())
        assert added.configuration("full") == plan.configuration("full")


class TestInheritance:
    def test_ancestor_is_planned_with_its_heir(self, tmp_path: Path) -> None:
        fingerprint = make_fingerprint()
        file = tmp_path / "samnetPlans.json"
        with_heir(make_plan(fingerprint, GPU), "autosam").save(file)
        with pytest.raises(UserError, match="no configuration 'autosam', from which 'mine'"):
            Plan.load(file)
        plan = Plan.load(file, may_lack=configuration_names())
        assert find_missing(plan, ()) == ["autosam"]
        added = add_configurations(plan, ["mine"], fingerprint)
        values = added.configuration("mine")
        assert (values.backbone, values.input_size, values.head) == ("vit_l", 1024, "vit")
        assert update_plan(plan, fingerprint, GPU, {}) == added

    def test_faulty_value_of_an_heir_is_found_once_its_ancestor_is_there(
        self, tmp_path: Path
    ) -> None:
        file = tmp_path / "samnetPlans.json"
        with_heir(make_plan(make_fingerprint(), GPU), "autosam").save(file)
        file.write_text(file.read_text().replace('"vit_l"', '"vit_x"'))
        with pytest.raises(UserError, match="configuration mine: backbone is 'vit_x'"):
            Plan.load(file, may_lack=configuration_names())

    @pytest.mark.parametrize(
        ("ancestor", "message"),
        [("lroa", "no configuration 'lroa', from which 'mine' is to inherit"), ("mine", "circle")],
    )
    def test_other_ancestors_are_refused_when_the_plan_is_read(
        self, ancestor: str, message: str, tmp_path: Path
    ) -> None:
        file = tmp_path / "samnetPlans.json"
        with_heir(make_plan(make_fingerprint(), GPU), ancestor).save(file)
        with pytest.raises(UserError, match=message):
            Plan.load(file, may_lack=configuration_names())


def test_unknown_configuration_is_refused_with_those_that_there_are() -> None:
    plan = make_plan(make_fingerprint(), GPU)
    with pytest.raises(UserError) as caught:
        find_missing(plan, ["lora", "samde"])
    assert str(caught.value) == (
        "the plan of Dataset500_Synthetic has no configuration 'samde'; it has frozen, full, lora, "
        "scratch; on request it gets autosam, autosam_cnn, autosam_linear, ma_sam, samed, samed_h, "
        "samed_s"
    )
    with pytest.raises(UserError, match=r"it has autosam, .*, scratch$"):
        find_missing(plan_all(make_fingerprint()), ["samde"])
    with pytest.raises(UserError, match="no configuration 'samde'"):
        update_plan(plan, make_fingerprint(), GPU, {}, requested=["samde"])
