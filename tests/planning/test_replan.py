"""Planning again where a plan is: what a person changed in it is kept."""

from __future__ import annotations

import dataclasses
import logging
from typing import Any

import pytest
from builders.fingerprint import make_fingerprint
from builders.planned import plan_all

from samnet.core.errors import UserError
from samnet.core.machine import Machine
from samnet.fingerprint.records import Fingerprint
from samnet.plan.configuration import Configuration
from samnet.plan.plan import BY_HAND, Decision, Plan
from samnet.planning.planned_step import PlannedStep
from samnet.planning.planner import make_plan
from samnet.planning.presets import configuration_names
from samnet.planning.replan import find_hand_made, replan, update_plan

CPU = Machine("cpu", 8)
GPU = Machine("cuda", 16)


def with_value(plan: Plan, key: str, value: Any, configuration: str | None = None) -> Plan:
    """A plan in which a person changed a value, but neither its reason nor its rule."""
    if configuration is None:
        return dataclasses.replace(plan, decisions=_changed(plan.decisions, key, value))
    entry = plan.configurations[configuration]
    entry = dataclasses.replace(entry, decisions=_changed(entry.decisions, key, value))
    return dataclasses.replace(plan, configurations=plan.configurations | {configuration: entry})


def _changed(decisions: dict[str, Decision], key: str, value: Any) -> dict[str, Decision]:
    return decisions | {key: dataclasses.replace(decisions[key], value=value)}


def other_data(**changes: Any) -> Fingerprint:
    """The fingerprint of larger slices."""
    return dataclasses.replace(
        make_fingerprint(shape=(30, 400, 400), **changes), data_key="another"
    )


class TestUpdate:
    def test_planning_again_changes_nothing(self) -> None:
        plan = make_plan(make_fingerprint(), GPU)
        assert update_plan(plan, make_fingerprint(), GPU, {}) == plan

    def test_the_same_settings_again_change_nothing(self) -> None:
        settings = {"zoom": 3, "views": [0, 1]}
        plan = make_plan(make_fingerprint(), GPU, settings)
        assert update_plan(plan, make_fingerprint(), GPU, settings) == plan
        assert update_plan(plan, make_fingerprint(), GPU, {}) == plan

    def test_later_settings_are_added_to_earlier_ones(self) -> None:
        plan = make_plan(make_fingerprint(), GPU, {"zoom": 3, "patience": 5})
        updated = update_plan(plan, make_fingerprint(), GPU, {"zoom": 2, "views": [0, 2]})
        settings = {"zoom": 2, "patience": 5, "views": [0, 2]}
        assert updated == make_plan(make_fingerprint(), GPU, settings)

    def test_other_data_and_another_machine_are_planned_again(self) -> None:
        plan = make_plan(make_fingerprint(), GPU, {"patience": 5})
        expected = make_plan(other_data(), CPU, {"patience": 5})
        assert update_plan(plan, other_data(), CPU, {}) == expected

    @pytest.mark.parametrize(
        ("key", "value", "configuration", "name"),
        [
            ("zoom", 3.0, "lora", "lora.zoom"),
            ("lora_rank", 16, "scratch", "scratch.lora_rank"),
            ("encoder_tuning", "lora", "full", "full.encoder_tuning"),
            ("in_plane_spacing", 2.0, None, "in_plane_spacing"),
            ("views", (0, 1), None, "views"),
        ],
    )
    @pytest.mark.parametrize("machine", [CPU, GPU], ids=str)
    def test_a_changed_value_stays(
        self, key: str, value: Any, configuration: str | None, name: str, machine: Machine
    ) -> None:
        edited = with_value(make_plan(make_fingerprint(), GPU), key, value, configuration)
        assert find_hand_made(edited, make_fingerprint()) == [name]
        assert update_plan(edited, make_fingerprint(), machine, {}) == edited
        with pytest.raises(UserError, match=f"changed by hand .{name}.*--overwrite"):
            update_plan(edited, make_fingerprint(), machine, {"patience": 3})

    def test_a_changed_value_stays_when_the_data_change(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        edited = with_value(make_plan(make_fingerprint(), GPU), "zoom", 3.0, "lora")
        other = other_data(diameters={"organ": 40.0, "new": 9.0})
        with caplog.at_level(logging.INFO):
            updated = update_plan(edited, other, GPU, {})
        assert updated.configuration("lora") == edited.configuration("lora")
        assert updated.label_scheme.class_names == ("organ", "new")
        assert updated.data_key == "another"
        described = other_data(file_ending=".mha", patient_key="[a-c]")
        updated = update_plan(edited, described, GPU, {})
        assert (updated.file_ending, updated.patient_key) == (".mha", "[a-c]")
        assert updated.decisions["patient_key"].value == "[a-c]"
        assert "raw files of Dataset500_Synthetic have changed" in caplog.text
        assert "was changed by hand and stays" in caplog.text

    def test_changed_data_that_do_not_fit_the_kept_plan_are_refused(self) -> None:
        edited = with_value(make_plan(make_fingerprint(), GPU), "zoom", 3.0, "lora")
        with pytest.raises(UserError, match=r"intensity has 1 windows for 2 channels.*--overwrite"):
            update_plan(edited, make_fingerprint(channels=("T1", "T2")), GPU, {})

    def test_settings_that_the_changed_plan_already_has_are_no_conflict(self) -> None:
        plan = make_plan(make_fingerprint(), GPU, {"patience": 3})
        edited = with_value(plan, "zoom", 3.0, "lora")
        assert update_plan(edited, make_fingerprint(), GPU, {"patience": 3}) == edited

    def test_a_plan_older_than_a_key_is_not_changed_by_hand_for_that(self) -> None:
        plan = with_value(make_plan(make_fingerprint(), GPU), "zoom", 3.0, "lora")
        older = {}
        for name, entry in plan.configurations.items():
            decisions = {
                key: decision
                for key, decision in entry.decisions.items()
                if key not in ("frame", "orientation")
            }
            older[name] = dataclasses.replace(entry, decisions=decisions)
        old_plan = dataclasses.replace(plan, configurations=older)
        assert find_hand_made(old_plan, make_fingerprint()) == ["lora.zoom"]
        kept = update_plan(old_plan, make_fingerprint(), GPU, {})
        assert kept.configuration("lora").frame == "scale"
        with pytest.raises(UserError, match="changed by hand"):
            update_plan(old_plan, make_fingerprint(), GPU, {"frame": "stretch"})

    def test_a_new_configuration_stays(self) -> None:
        plan = make_plan(make_fingerprint(), GPU)
        mine = dataclasses.replace(plan.configurations["lora"], inherit="lora", decisions={})
        edited = dataclasses.replace(plan, configurations=plan.configurations | {"mine": mine})
        assert find_hand_made(edited, make_fingerprint()) == ["mine"]
        assert update_plan(edited, make_fingerprint(), GPU, {}) == edited

    def test_another_ancestor_stays(self) -> None:
        plan = make_plan(make_fingerprint(), GPU)
        heir = dataclasses.replace(plan.configurations["full"], inherit="lora")
        edited = dataclasses.replace(plan, configurations=plan.configurations | {"full": heir})
        assert find_hand_made(edited, make_fingerprint()) == ["full.inherit"]

    def test_changing_a_value_back_leaves_nothing_to_keep(self) -> None:
        plan = make_plan(make_fingerprint(), GPU)
        edited = with_value(plan, "zoom", 3.0, "lora")
        back = with_value(edited, "zoom", plan.configuration("lora").zoom, "lora")
        assert find_hand_made(back, make_fingerprint()) == []


def measure(step: PlannedStep) -> float:
    """The GiB of a step: one for each image, two with a large backbone."""
    configuration = step.configuration
    return configuration.batch_size * (2.0 if configuration.backbone == "vit_b" else 1.0)


SMALL_GPU = Machine("cuda", 12)  # room for 5 images of the 16 that are wanted


@pytest.fixture(scope="module")
def plan() -> Plan:
    """What is planned for a small GPU."""
    return make_plan(make_fingerprint(), SMALL_GPU, {}, measure)


class TestMemory:
    """Planning again measures as planning does: what memory decided is no change by hand."""

    def test_planning_again_fits_the_memory_too(self, plan: Plan) -> None:
        assert plan.configuration("lora").batch_size == 5
        assert update_plan(plan, make_fingerprint(), SMALL_GPU, {}, measure) == plan

    def test_what_the_memory_decided_is_not_made_by_hand(self, plan: Plan) -> None:
        edited = with_value(plan, "zoom", 3.0, "lora")
        assert find_hand_made(edited, make_fingerprint(), measure) == ["lora.zoom"]
        with pytest.raises(UserError, match=r"changed by hand \(lora\.zoom\)"):
            update_plan(edited, make_fingerprint(), SMALL_GPU, {"patience": 3}, measure)

    def test_another_backbone_is_measured_again(self, plan: Plan) -> None:
        same = replan(plan, make_fingerprint(), "lora", {"backbone": "vit_b"}, measure)
        assert same.configuration("lora") == plan.configuration("lora")
        smaller = replan(plan, make_fingerprint(), "lora", {"backbone": "small"}, measure)
        assert smaller.configuration("lora").batch_size == 10


class TestReplan:
    """What `samnet_train ID CONFIG --backbone ...` does."""

    @staticmethod
    def replanned(plan: Plan, fingerprint: Fingerprint, **settings: Any) -> Configuration:
        return replan(plan, fingerprint, "lora", settings).configuration("lora")

    @pytest.mark.parametrize("name", ["lora", "full", "scratch"])
    def test_another_backbone_is_what_planning_with_it_gives(self, name: str) -> None:
        fingerprint = make_fingerprint()
        plan = plan_all(fingerprint, CPU)
        assert plan.configuration(name).backbone == "small"
        changed = replan(plan, fingerprint, name, {"backbone": "vit_b"})
        expected = make_plan(fingerprint, CPU, {"backbone": "vit_b"})
        assert changed.configuration(name) == expected.configuration(name)
        others = [other for other in configuration_names() if other != name]
        assert all(changed.configuration(other) == plan.configuration(other) for other in others)

    def test_what_depends_on_the_backbone_follows(self) -> None:
        fingerprint = make_fingerprint()
        values = self.replanned(make_plan(fingerprint, CPU), fingerprint, backbone="vit_b")
        assert values.initial_weights == "pretrained"
        assert values.encoder_tuning == "lora"
        assert values.head == "mask_decoder"

    @pytest.mark.parametrize("configuration", ["lora", None])
    def test_what_a_person_changed_stays(self, configuration: str | None) -> None:
        fingerprint = make_fingerprint()
        key, value = ("steps", 77) if configuration else ("views", (0, 1))
        edited = with_value(make_plan(fingerprint, CPU), key, value, configuration)
        changed = replan(edited, fingerprint, "lora", {"backbone": "vit_b"})
        assert getattr(changed.configuration("lora"), key) == value
        assert changed.configuration("lora").encoder_tuning == "lora"
        decision = changed.configuration_decisions("lora")[key]
        assert decision.rule == BY_HAND or configuration is None

    def test_what_was_set_when_planning_stays_and_its_consequences_are_decided_again(self) -> None:
        fingerprint = make_fingerprint(thickness=10.0)
        settings = {"zoom": 3, "in_plane_spacing": 1.5}
        plan = make_plan(fingerprint, CPU, settings)
        values = self.replanned(plan, fingerprint, backbone="vit_b")
        expected = make_plan(fingerprint, CPU, settings | {"backbone": "vit_b"})
        assert values == expected.configuration("lora")
        assert values.head == "mask_decoder"

    def test_a_setting_overrides_what_a_person_changed(self) -> None:
        fingerprint = make_fingerprint()
        edited = with_value(make_plan(fingerprint, CPU), "zoom", 3.0, "lora")
        assert self.replanned(edited, fingerprint, backbone="vit_b", zoom=2).zoom == 2.0

    def test_a_users_configuration_is_decided_like_its_named_ancestor(self) -> None:
        fingerprint = make_fingerprint()
        plan = make_plan(fingerprint, CPU)
        patience, zoom = Decision(3, "mine", BY_HAND), Decision(2.0, "mine", BY_HAND)
        first = dataclasses.replace(
            plan.configurations["full"], inherit="full", decisions={"patience": patience}
        )
        second = dataclasses.replace(first, inherit="first", decisions={"zoom": zoom})
        configurations = plan.configurations | {"first": first, "second": second}
        plan = dataclasses.replace(plan, configurations=configurations)
        values = replan(plan, fingerprint, "second", {"backbone": "vit_b"}).configuration("second")
        assert values.backbone == "vit_b"
        assert values.encoder_tuning == "full"
        assert values.initial_weights == "pretrained"
        assert (values.patience, values.zoom) == (3, 2.0)

    def test_a_plan_for_another_machine_is_decided_for_that_machine(self) -> None:
        """Training on a CPU what was planned for a GPU: the machine of the plan counts."""
        fingerprint = make_fingerprint()
        plan = make_plan(fingerprint, GPU)
        values = self.replanned(plan, fingerprint, backbone="small")
        expected = make_plan(fingerprint, GPU, {"backbone": "small"})
        assert values == expected.configuration("lora")
        assert values.precision == "bfloat16"

    @pytest.mark.parametrize("name", configuration_names())
    def test_replanning_with_the_planned_backbone_changes_nothing(self, name: str) -> None:
        fingerprint = make_fingerprint()
        plan = plan_all(fingerprint, GPU)
        again = replan(plan, fingerprint, name, {"backbone": plan.configuration(name).backbone})
        assert again.configuration(name) == plan.configuration(name)
