"""Values set by hand: on the command line, for one training, and in the plan itself."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from samnet.core.errors import UserError
from samnet.core.machine import Machine
from samnet.dataset.splits import MAX_FOLDS, make_splits
from samnet.fingerprint.records import Fingerprint
from samnet.plan.plan import BY_HAND, ON_COMMAND_LINE, Decision, Plan
from samnet.planning.planner import make_plan
from samnet.planning.presets import configuration_names
from samnet.planning.replan import find_hand_made, replan, update_plan
from samnet.planning.splits import splits_path, write_splits

CPU = Machine("cpu", 8)
GPU = Machine("cuda", 16)
Make = Callable[..., Fingerprint]


def with_value(plan: Plan, key: str, value: Any, configuration: str | None = None) -> Plan:
    """A plan in which a person changed a value and nothing else: not its reason, not its rule."""
    if configuration is None:
        return dataclasses.replace(plan, decisions=_changed(plan.decisions, key, value))
    entry = plan.configurations[configuration]
    entry = dataclasses.replace(entry, decisions=_changed(entry.decisions, key, value))
    return dataclasses.replace(plan, configurations=plan.configurations | {configuration: entry})


def _changed(decisions: dict[str, Decision], key: str, value: Any) -> dict[str, Decision]:
    return decisions | {key: dataclasses.replace(decisions[key], value=value)}


class TestSettings:
    def test_a_setting_is_recorded_as_one(self, make_fingerprint: Make) -> None:
        plan = make_plan(make_fingerprint(), GPU, {"zoom": 3, "in_plane_spacing": 2.0})
        decision = plan.configuration_decisions("lora")["zoom"]
        assert decision == Decision(3.0, "set on the command line", ON_COMMAND_LINE)
        assert plan.decisions["in_plane_spacing"].value == 2.0
        assert "in_plane_spacing" not in plan.configurations["lora"].decisions

    def test_later_rules_take_it_into_account(self, make_fingerprint: Make) -> None:
        made = make_fingerprint(thickness=10.0)
        heads = [
            make_plan(made, GPU, {"zoom": zoom}).configuration("lora").head for zoom in (3, 0.5)
        ]
        assert heads == ["mask_decoder", "upsampling"]
        fine, coarse = (
            make_plan(made, GPU, {"in_plane_spacing": mm}).configuration("lora").zoom
            for mm in (0.5, 1.0)
        )
        assert coarse == pytest.approx(2 * fine, rel=1e-2)

    @pytest.mark.parametrize(
        ("settings", "key", "value"),
        [
            ({"backbone": "small"}, "encoder_tuning", "lora"),
            ({"backbone": "vit_b"}, "encoder_tuning", "lora"),
            ({"initial_weights": "random"}, "encoder_tuning", "full"),
            ({"input_size": 448}, "zoom", 2.24),
            ({"slicing_axis": 1}, "views", (1,)),
            ({"steps": 100}, "warmup_steps", 10),
        ],
        ids=str,
    )
    def test_consequences(
        self, make_fingerprint: Make, settings: dict, key: str, value: Any
    ) -> None:
        assert (
            getattr(make_plan(make_fingerprint(), CPU, settings).configuration("lora"), key)
            == value
        )

    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"zooom": 3}, "--set: unknown key 'zooom'; did you mean 'zoom'?"),
            ({"zoom": "wide"}, "--set: zoom: expected a number, found 'wide'"),
            ({"views": 0}, "--set: views: expected a list"),
            ({"views": [1, 2]}, r"views \[1, 2\] lack the slicing_axis 0"),
            (
                {"folds": 3},
                "folds is part of the splits: set patient_key in dataset.json, or edit splits_final.json",
            ),
            ({"patient_key": "p"}, "patient_key is part of the splits"),
            ({"channel_layout": "as_is"}, "needs 3 channel"),
        ],
        ids=str,
    )
    def test_a_setting_that_cannot_be_is_refused(
        self, make_fingerprint: Make, settings: dict, message: str
    ) -> None:
        with pytest.raises(UserError, match=message):
            make_plan(make_fingerprint(), GPU, settings)

    def test_a_named_configuration_stays_what_it_is(self, make_fingerprint: Make) -> None:
        plan = make_plan(
            make_fingerprint(), GPU, {"initial_weights": "pretrained", "encoder_tuning": "frozen"}
        )
        assert plan.configuration("lora").encoder_tuning == "frozen"
        assert plan.configuration("full").encoder_tuning == "full"
        assert plan.configuration("scratch").initial_weights == "random"

    @pytest.mark.parametrize("backbone", ["small", "vit_b", "vit_l", "vit_h"])
    @pytest.mark.parametrize("machine", [CPU, GPU], ids=str)
    def test_every_backbone_can_be_set_on_every_machine(
        self, make_fingerprint: Make, backbone: str, machine: Machine
    ) -> None:
        plan = make_plan(make_fingerprint(), machine, {"backbone": backbone})
        assert plan.configuration("lora").backbone == backbone


class TestUpdate:
    def test_planning_again_changes_nothing(self, make_fingerprint: Make) -> None:
        plan = make_plan(make_fingerprint(), GPU)
        assert update_plan(plan, make_fingerprint(), GPU, {}) == plan

    def test_the_same_settings_again_change_nothing(self, make_fingerprint: Make) -> None:
        settings = {"zoom": 3, "views": [0, 1]}
        plan = make_plan(make_fingerprint(), GPU, settings)
        assert update_plan(plan, make_fingerprint(), GPU, settings) == plan
        assert update_plan(plan, make_fingerprint(), GPU, {}) == plan

    def test_later_settings_are_added_to_earlier_ones(self, make_fingerprint: Make) -> None:
        plan = make_plan(make_fingerprint(), GPU, {"zoom": 3, "patience": 5})
        updated = update_plan(plan, make_fingerprint(), GPU, {"zoom": 2, "views": [0, 2]})
        assert updated == make_plan(
            make_fingerprint(), GPU, {"zoom": 2, "patience": 5, "views": [0, 2]}
        )

    def test_other_data_and_another_machine_are_planned_anew(self, make_fingerprint: Make) -> None:
        plan = make_plan(make_fingerprint(), GPU, {"patience": 5})
        other = dataclasses.replace(make_fingerprint(shape=(30, 400, 400)), data_key="other")
        assert update_plan(plan, other, CPU, {}) == make_plan(other, CPU, {"patience": 5})

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
        self,
        make_fingerprint: Make,
        key: str,
        value: Any,
        configuration: str | None,
        name: str,
        machine: Machine,
    ) -> None:
        edited = with_value(make_plan(make_fingerprint(), GPU), key, value, configuration)
        assert find_hand_made(edited, make_fingerprint()) == [name]
        assert update_plan(edited, make_fingerprint(), machine, {}) == edited
        with pytest.raises(UserError, match=f"changed by hand .{name}.*--overwrite"):
            update_plan(edited, make_fingerprint(), machine, {"patience": 3})

    def test_a_changed_value_stays_when_the_data_change(
        self, make_fingerprint: Make, caplog: pytest.LogCaptureFixture
    ) -> None:
        edited = with_value(make_plan(make_fingerprint(), GPU), "zoom", 3.0, "lora")
        other = dataclasses.replace(
            make_fingerprint(shape=(30, 400, 400), diameters={"organ": 40.0, "new": 9.0}),
            data_key="other",
        )
        with caplog.at_level(logging.INFO):
            updated = update_plan(edited, other, GPU, {})
        assert updated.configuration("lora") == edited.configuration("lora")
        assert updated.class_names == ("organ", "new")
        assert updated.data_key == "other"
        assert "raw files of Dataset500_Synthetic have changed" in caplog.text
        assert "was changed by hand and stays" in caplog.text

    def test_changed_data_that_the_kept_plan_cannot_fit_are_refused(
        self, make_fingerprint: Make
    ) -> None:
        edited = with_value(make_plan(make_fingerprint(), GPU), "zoom", 3.0, "lora")
        with pytest.raises(UserError, match=r"intensity has 1 windows for 2 channels.*--overwrite"):
            update_plan(edited, make_fingerprint(channels=("T1", "T2")), GPU, {})

    def test_settings_the_changed_plan_has_already_are_no_conflict(
        self, make_fingerprint: Make
    ) -> None:
        edited = with_value(
            make_plan(make_fingerprint(), GPU, {"patience": 3}), "zoom", 3.0, "lora"
        )
        assert update_plan(edited, make_fingerprint(), GPU, {"patience": 3}) == edited

    def test_a_new_configuration_stays(self, make_fingerprint: Make) -> None:
        plan = make_plan(make_fingerprint(), GPU)
        mine = dataclasses.replace(plan.configurations["lora"], inherit="lora", decisions={})
        edited = dataclasses.replace(plan, configurations=plan.configurations | {"mine": mine})
        assert find_hand_made(edited, make_fingerprint()) == ["mine"]
        assert update_plan(edited, make_fingerprint(), GPU, {}) == edited

    def test_changing_a_value_back_leaves_nothing_to_keep(self, make_fingerprint: Make) -> None:
        plan = make_plan(make_fingerprint(), GPU)
        edited = with_value(plan, "zoom", 3.0, "lora")
        back = with_value(edited, "zoom", plan.configuration("lora").zoom, "lora")
        assert find_hand_made(back, make_fingerprint()) == []


class TestReplan:
    """What `samnet_train ID CONFIG --backbone ...` does."""

    @pytest.mark.parametrize("name", ["lora", "full", "scratch"])
    def test_another_backbone_is_what_planning_with_it_gives(
        self, make_fingerprint: Make, name: str
    ) -> None:
        made = make_fingerprint()
        plan = make_plan(made, CPU)
        assert plan.configuration(name).backbone == "small"
        changed = replan(plan, made, name, {"backbone": "vit_b"})
        assert changed.configuration(name) == make_plan(
            made, CPU, {"backbone": "vit_b"}
        ).configuration(name)
        others = [other for other in configuration_names() if other != name]
        assert all(changed.configuration(other) == plan.configuration(other) for other in others)

    def test_what_depends_on_the_backbone_follows(self, make_fingerprint: Make) -> None:
        made = make_fingerprint()
        values = replan(make_plan(made, CPU), made, "lora", {"backbone": "vit_b"}).configuration(
            "lora"
        )
        assert (values.initial_weights, values.encoder_tuning, values.head) == (
            "pretrained",
            "lora",
            "mask_decoder",
        )

    @pytest.mark.parametrize("configuration", ["lora", None])
    def test_what_a_person_changed_stays(
        self, make_fingerprint: Make, configuration: str | None
    ) -> None:
        made = make_fingerprint()
        key, value = ("steps", 77) if configuration else ("views", (0, 1))
        edited = with_value(make_plan(made, CPU), key, value, configuration)
        changed = replan(edited, made, "lora", {"backbone": "vit_b"})
        assert getattr(changed.configuration("lora"), key) == value
        assert changed.configuration("lora").encoder_tuning == "lora"
        decision = changed.configuration_decisions("lora")[key]
        assert decision.rule == BY_HAND or configuration is None

    def test_what_was_set_when_planning_stays_and_its_consequences_are_decided_anew(
        self, make_fingerprint: Make
    ) -> None:
        made = make_fingerprint(thickness=10.0)
        plan = make_plan(made, CPU, {"zoom": 3, "in_plane_spacing": 1.5})
        values = replan(plan, made, "lora", {"backbone": "vit_b"}).configuration("lora")
        expected = make_plan(made, CPU, {"zoom": 3, "in_plane_spacing": 1.5, "backbone": "vit_b"})
        assert values == expected.configuration("lora")
        assert values.head == "mask_decoder"

    def test_a_setting_beats_what_a_person_changed(self, make_fingerprint: Make) -> None:
        made = make_fingerprint()
        edited = with_value(make_plan(made, CPU), "zoom", 3.0, "lora")
        assert (
            replan(edited, made, "lora", {"backbone": "vit_b", "zoom": 2})
            .configuration("lora")
            .zoom
            == 2.0
        )

    def test_a_configuration_of_ones_own_is_decided_like_its_named_ancestor(
        self, make_fingerprint: Make
    ) -> None:
        made = make_fingerprint()
        plan = make_plan(made, CPU)
        first = dataclasses.replace(
            plan.configurations["full"],
            inherit="full",
            decisions={"patience": Decision(3, "mine", BY_HAND)},
        )
        second = dataclasses.replace(
            first, inherit="first", decisions={"zoom": Decision(2.0, "mine", BY_HAND)}
        )
        plan = dataclasses.replace(
            plan, configurations=plan.configurations | {"first": first, "second": second}
        )
        values = replan(plan, made, "second", {"backbone": "vit_b"}).configuration("second")
        assert (values.backbone, values.encoder_tuning, values.initial_weights) == (
            "vit_b",
            "full",
            "pretrained",
        )
        assert (values.patience, values.zoom) == (3, 2.0)

    def test_a_plan_of_another_machine_is_decided_for_that_one(
        self, make_fingerprint: Make
    ) -> None:
        """Training on a CPU what was planned for a GPU: the plan's machine counts, not the one it runs on."""
        made = make_fingerprint()
        values = replan(make_plan(made, GPU), made, "lora", {"backbone": "small"}).configuration(
            "lora"
        )
        assert values == make_plan(made, GPU, {"backbone": "small"}).configuration("lora")
        assert values.precision == "bfloat16"

    @pytest.mark.parametrize("name", configuration_names())
    def test_replanning_with_the_planned_backbone_changes_nothing(
        self, make_fingerprint: Make, name: str
    ) -> None:
        made = make_fingerprint()
        plan = make_plan(made, GPU)
        again = replan(plan, made, name, {"backbone": plan.configuration(name).backbone})
        assert again.configuration(name) == plan.configuration(name)


class TestSplits:
    @pytest.fixture
    def plan(self, make_fingerprint: Make, folders: dict[str, Path]) -> Plan:
        return make_plan(make_fingerprint(case_names=tuple("abcdefg")), GPU)

    def test_are_written_once_and_kept(self, plan: Plan) -> None:
        write_splits(plan, list("abcdefg"))
        path = splits_path(plan.dataset_name)
        assert path.read_text().count('"train"') == MAX_FOLDS
        path.write_text('[{"train": ["a", "b"], "val": ["c", "d", "e", "f", "g"]}]')
        kept = path.read_text()
        write_splits(plan, list("abcdefg"))
        assert path.read_text() == kept

    def test_new_cases_are_pointed_out(self, plan: Plan, caplog: pytest.LogCaptureFixture) -> None:
        write_splits(plan, list("abcde"))
        write_splits(plan, list("abcdefg"))
        assert "2 cases are in no fold, such as f" in caplog.text

    def test_cases_that_are_gone_are_refused_with_the_remedy(self, plan: Plan) -> None:
        write_splits(plan, list("abcdefg"))
        with pytest.raises(
            UserError, match=r"cases that the data set does not have: g\. Correct it, or delete it"
        ):
            write_splits(plan, list("abcdef"))

    def test_patients_stay_on_one_side(self, make_fingerprint: Make) -> None:
        names = [
            f"patient{number:03d}_frame{frame:02d}" for number in range(7) for frame in (1, 12)
        ]
        plan = make_plan(make_fingerprint(case_names=tuple(names)), GPU)
        for fold in make_splits(names, plan.patient_key):
            assert not {name[:10] for name in fold["train"]} & {name[:10] for name in fold["val"]}
