"""Planning with values that are set on the command line."""

from __future__ import annotations

from typing import Any

import pytest
from builders.fingerprint import make_fingerprint

from samnet.core.errors import UserError
from samnet.core.machine import Machine
from samnet.plan.configuration import Configuration
from samnet.plan.plan import ON_COMMAND_LINE, Decision
from samnet.planning.planned_step import PlannedStep
from samnet.planning.planner import make_plan, plan_one_configuration
from samnet.planning.presets import standard_names

CPU = Machine("cpu", 8)
GPU = Machine("cuda", 16)


def plan_lora(machine: Machine, settings: dict[str, Any], **data: Any) -> Configuration:
    """The configuration `lora` that is planned with settings for data such as `data`."""
    return make_plan(make_fingerprint(**data), machine, settings).configuration("lora")


def test_a_setting_is_recorded_as_set_on_the_command_line() -> None:
    plan = make_plan(make_fingerprint(), GPU, {"zoom": 3, "in_plane_spacing": 2.0})
    decision = plan.configuration_decisions("lora")["zoom"]
    assert decision == Decision(3.0, "set on the command line", ON_COMMAND_LINE)
    assert plan.decisions["in_plane_spacing"].value == 2.0
    assert "in_plane_spacing" not in plan.configurations["lora"].decisions


def test_later_rules_take_settings_into_account() -> None:
    assert plan_lora(GPU, {"zoom": 3}, thickness=10.0).head == "mask_decoder"
    assert plan_lora(GPU, {"zoom": 0.5}, thickness=10.0).head == "upsampling"
    fine = plan_lora(GPU, {"in_plane_spacing": 0.5}, thickness=10.0)
    coarse = plan_lora(GPU, {"in_plane_spacing": 1.0}, thickness=10.0)
    assert coarse.zoom == pytest.approx(2 * fine.zoom, rel=1e-2)


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
def test_consequences_of_a_setting(settings: dict, key: str, value: Any) -> None:
    assert getattr(plan_lora(CPU, settings), key) == value


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"zooom": 3}, "--set: unknown key 'zooom'; did you mean 'zoom'?"),
        ({"zoom": "wide"}, "--set: zoom: expected a number, found 'wide'"),
        ({"views": 0}, "--set: views: expected a list"),
        ({"views": [1, 2]}, r"views \[1, 2\] lack the slicing_axis 0"),
        (
            {"folds": 3},
            "folds is part of the splits: set patient_key in dataset.json, or edit "
            "splits_final.json",
        ),
        ({"patient_key": "p"}, "patient_key is part of the splits"),
        ({"channel_layout": "as_is"}, "needs 3 channel"),
    ],
    ids=str,
)
def test_an_unusable_setting_is_refused(settings: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        make_plan(make_fingerprint(), GPU, settings)


def test_settings_do_not_change_what_defines_a_named_configuration() -> None:
    settings = {"initial_weights": "pretrained", "encoder_tuning": "frozen"}
    plan = make_plan(make_fingerprint(), GPU, settings)
    assert plan.configuration("lora").encoder_tuning == "frozen"
    assert plan.configuration("full").encoder_tuning == "full"
    assert plan.configuration("scratch").initial_weights == "random"


@pytest.mark.parametrize("backbone", ["small", "vit_b", "vit_l", "vit_h"])
@pytest.mark.parametrize("machine", [CPU, GPU], ids=str)
def test_every_backbone_can_be_set_on_every_machine(backbone: str, machine: Machine) -> None:
    assert plan_lora(machine, {"backbone": backbone}).backbone == backbone


def test_one_configuration_is_planned_as_with_all_others() -> None:
    """Also where memory is short, so that it gives something up."""

    def measure(step: PlannedStep) -> float:
        return step.configuration.batch_size / 2

    fingerprint, machine = make_fingerprint(diameters={"a": 20.0}), Machine("cuda", 8)
    plan = make_plan(fingerprint, machine, measure=measure)
    for name in standard_names():
        alone = plan_one_configuration(name, fingerprint, machine, measure)
        assert alone == plan.configuration(name)
