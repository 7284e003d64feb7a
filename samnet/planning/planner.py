"""From a fingerprint to a plan: the rules in their order, then the named configurations."""

from __future__ import annotations

import dataclasses
from importlib import resources
from typing import Any

from samnet import __version__
from samnet.core.errors import UserError
from samnet.core.files import read_json
from samnet.core.machine import Machine
from samnet.core.records import to_json
from samnet.fingerprint.records import Fingerprint
from samnet.planning.configuration import check_value
from samnet.planning.plan import BY_HAND, SCHEMA_VERSION, Decision, Plan, PlannedConfiguration
from samnet.planning.rules import intensity, network, slicing, training
from samnet.planning.rules.facts import Facts, Rule

DATASET_RULES: dict[str, Rule] = {
    "patient_key": training.patient_key,
    "folds": training.folds,
    "slicing_axis": slicing.slicing_axis,
    "views": slicing.views,
    "in_plane_spacing": slicing.in_plane_spacing,
    "channel_layout": slicing.channel_layout,
    "intensity": intensity.intensity,
    "pixel_statistics": intensity.pixel_statistics,
    "mirror_axes": slicing.mirror_axes,
}
CONFIGURATION_RULES: dict[str, Rule] = {
    "backbone": network.backbone,
    "initial_weights": network.initial_weights,
    "encoder_tuning": network.encoder_tuning,
    "lora_rank": network.lora_rank,
    "lora_targets": network.lora_targets,
    "lora_blocks": network.lora_blocks,
    "input_size": network.input_size,
    "zoom": network.zoom,
    "head": network.head,
    "batch_size": training.batch_size,
    "precision": training.precision,
    "gradient_checkpointing": training.gradient_checkpointing,
    "steps": training.steps,
    "steps_per_epoch": training.steps_per_epoch,
    "patience": training.patience,
    "learning_rate": training.learning_rate,
    "warmup_steps": training.warmup_steps,
    "weight_decay": training.weight_decay,
    "decay_power": training.decay_power,
    "gradient_clip": training.gradient_clip,
    "cross_entropy_weight": training.cross_entropy_weight,
    "dice_weight": training.dice_weight,
    "foreground_share": training.foreground_share,
    "augmentation": training.augmentation,
    "tile_overlap": training.tile_overlap,
    "mirror_at_prediction": training.mirror_at_prediction,
}
SPLIT_KEYS = ("patient_key", "folds")


def make_plan(fingerprint: Fingerprint, machine: Machine, settings: dict[str, Any] | None = None) -> Plan:
    """Plan a data set for a machine, every named configuration included.

    settings: values set by hand (`--set`); later rules take them into account.

    Raises:
        UserError: a setting has an unknown key or a value that cannot be.
    """
    by_hand = _by_hand(settings or {}, "set on the command line")
    decisions = _decide(DATASET_RULES, fingerprint, machine, {}, by_hand)
    plan = Plan(
        schema_version=SCHEMA_VERSION,
        samnet_version=__version__,
        dataset_name=fingerprint.dataset_name,
        data_key=fingerprint.data_key,
        channel_names=fingerprint.channel_names,
        labels=fingerprint.labels,
        ignore_label=fingerprint.ignore_label,
        file_ending=fingerprint.file_ending,
        patient_key=decisions["patient_key"].value,
        machine=machine,
        decisions=decisions,
    )
    configurations = {
        name: _plan_configuration(name, fingerprint, machine, decisions, by_hand) for name in configuration_names()
    }
    plan = dataclasses.replace(plan, configurations=configurations)
    for name in configurations:
        plan.configuration(name)
    return plan


def replan(plan: Plan, fingerprint: Fingerprint, name: str, settings: dict[str, Any]) -> Plan:
    """Decide a configuration anew with some values given, as when another backbone is asked for.

    What a person changed in the plan stays as it is.
    """
    untouched = make_plan(fingerprint, plan.machine)
    edited = {
        key: decision
        for key, decision in plan.configuration_decisions(name).items()
        if decision.rule == BY_HAND or _differs(untouched, name, key, decision)
    }
    by_hand = edited | _by_hand(settings, "set on the command line")
    base = plan.configurations[name]
    template = name if name in untouched.configurations else base.inherit or "lora"
    configuration = _plan_configuration(template, fingerprint, plan.machine, plan.decisions | edited, by_hand)
    return dataclasses.replace(plan, configurations=plan.configurations | {name: configuration})


def find_hand_made(known: Plan, fresh: Plan) -> list[str]:
    """What a person put into a plan that planning anew would not: `decision`, `configuration.decision` or its name.

    Only for a plan of the same data and machine; planning anew for others is meant to change it.
    """
    if known.data_key != fresh.data_key or known.machine != fresh.machine:
        known_by_hand = [key for key, decision in known.decisions.items() if decision.rule == BY_HAND]
    else:
        known_by_hand = [
            key
            for key, decision in known.decisions.items()
            if decision.rule == BY_HAND or to_json(decision.value) != to_json(fresh.decisions[key].value)
        ]
    found = list(known_by_hand)
    for name, configuration in known.configurations.items():
        if name not in fresh.configurations:
            found.append(name)
        else:
            found += [f"{name}.{key}" for key, decision in configuration.decisions.items() if decision.rule == BY_HAND]
    return found


def _differs(untouched: Plan, name: str, key: str, decision: Decision) -> bool:
    if name not in untouched.configurations:
        return False
    original = untouched.configuration_decisions(name)[key].value
    return check_value(key, original, "plan") != check_value(key, decision.value, "plan")


def configuration_names() -> list[str]:
    """The named configurations samnet brings, without those a user adds to a plan."""
    folder = resources.files("samnet") / "plans"
    return sorted(entry.name.removesuffix(".json") for entry in folder.iterdir() if entry.name.endswith(".json"))


def _plan_configuration(
    name: str,
    fingerprint: Fingerprint,
    machine: Machine,
    dataset_decisions: dict[str, Decision],
    by_hand: dict[str, Decision],
) -> PlannedConfiguration:
    path = resources.files("samnet") / "plans" / f"{name}.json"
    with resources.as_file(path) as file:
        named = read_json(file)
    fixed = {
        key: Decision(check_value(key, value, f"{name}.json"), named["because"], f"configuration {name}")
        for key, value in named["values"].items()
    }
    given = fixed | by_hand
    known = {key: decision.value for key, decision in dataset_decisions.items()}
    decisions = _decide(CONFIGURATION_RULES, fingerprint, machine, known, given)
    overridden = {key: decision for key, decision in given.items() if key in DATASET_RULES}
    return PlannedConfiguration(decisions | overridden, None, named["description"])


def _decide(
    rules: dict[str, Rule],
    fingerprint: Fingerprint,
    machine: Machine,
    known: dict[str, Any],
    given: dict[str, Decision],
) -> dict[str, Decision]:
    values, decisions = dict(known), {}
    values |= {key: decision.value for key, decision in given.items()}
    for key, rule in rules.items():
        if key in given:
            decisions[key] = given[key]
        else:
            value, because = rule(Facts(fingerprint, machine, values))
            decisions[key] = Decision(value, because, f"{rule.__module__.rsplit('.', 1)[-1]}.{rule.__name__}")
        values[key] = decisions[key].value
    return decisions


def _by_hand(settings: dict[str, Any], because: str) -> dict[str, Decision]:
    for key in SPLIT_KEYS:
        if key in settings:
            raise UserError(f"{key} is part of the splits: set patient_key in dataset.json, or edit splits_final.json")
    return {key: Decision(check_value(key, value, "--set"), because, BY_HAND) for key, value in settings.items()}
