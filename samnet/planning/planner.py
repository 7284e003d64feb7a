"""From a fingerprint to a plan: the rules in their order, then the named configurations."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

from samnet import __version__
from samnet.core.errors import UserError
from samnet.core.machine import Machine
from samnet.core.records import to_json
from samnet.fingerprint.records import Fingerprint
from samnet.plan.configuration import Configuration, build_configuration, check_value
from samnet.plan.plan import (
    HOW_TO_CHANGE_SPLITS,
    ON_COMMAND_LINE,
    SCHEMA_VERSION,
    SPLIT_KEYS,
    Decision,
    Plan,
    PlannedConfiguration,
    decisions_key,
)
from samnet.planning.memory import WANTED, MemoryLevel, Meter, choose_level, usable_memory
from samnet.planning.presets import configuration_names, read_named
from samnet.planning.rules import intensity, network, slicing, training
from samnet.planning.rules.facts import NO_RECIPE, Facts, Recipe, Rule

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
    "lora_scale": network.lora_scale,
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
    "decay_share": training.decay_share,
    "optimizer": training.optimizer,
    "schedule": training.schedule,
    "loss": training.loss,
    "gradient_clip": training.gradient_clip,
    "cross_entropy_weight": training.cross_entropy_weight,
    "dice_weight": training.dice_weight,
    "foreground_share": training.foreground_share,
    "augmentation": training.augmentation,
    "tile_overlap": training.tile_overlap,
    "mirror_at_prediction": training.mirror_at_prediction,
}


def make_plan(
    fingerprint: Fingerprint,
    machine: Machine,
    settings: dict[str, Any] | None = None,
    measure: Meter | None = None,
) -> Plan:
    """Plan a data set for a machine, every named configuration included.

    settings: values set by hand (`--set`); later rules take them into account. A named configuration keeps the values
        that make it what it is: `samed` remains SAMed.
    measure: the memory of a training step; without it everything wanted is taken to fit.

    Raises:
        UserError: a setting has an unknown key or a value that cannot be.
    """
    given = on_command_line(settings or {})
    decisions = _decide(DATASET_RULES, fingerprint, machine, given)
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
        configurations={
            name: _plan_configuration(name, fingerprint, machine, decisions, given, {}, measure)
            for name in configuration_names()
        },
        regions_class_order=fingerprint.regions_class_order,
    )
    check_configurations(plan)
    return dataclasses.replace(plan, planned_key=decisions_key(plan))


def same_value(one: Decision | None, other: Decision | None) -> bool:
    """Whether two decisions, or their absence, come to the same."""
    if one is None or other is None:
        return one is other
    return to_json(one.value) == to_json(other.value)


def check_configurations(plan: Plan) -> None:
    """Raise UserError for the first value of any configuration that is not usable."""
    for name in plan.configurations:
        plan.configuration(name)


def _plan_configuration(
    name: str,
    fingerprint: Fingerprint,
    machine: Machine,
    dataset_decisions: dict[str, Decision],
    given: dict[str, Decision],
    overriding: dict[str, Decision],
    measure: Meter | None,
) -> PlannedConfiguration:
    """What a named configuration decides beyond, or other than, the data set's decisions.

    given: values that hold where the configuration has none of its own. overriding: those that hold in any case.
    """
    known = {key: decision.value for key, decision in dataset_decisions.items()}
    named = read_named(name, Facts(fingerprint, machine, known))
    given = given | named.decisions | overriding
    decide = partial(_decide, CONFIGURATION_RULES, fingerprint, machine, given, known, named.recipe)
    if measure is None:
        decisions = decide(WANTED)
    else:
        decisions = decide(
            _choose_level(name, fingerprint, machine, dataset_decisions | given, decide, measure)
        )
    overridden = {
        key: decision
        for key, decision in given.items()
        if key in DATASET_RULES and not same_value(dataset_decisions[key], decision)
    }
    return PlannedConfiguration(decisions | overridden, None, named.description)


def _choose_level(
    name: str,
    fingerprint: Fingerprint,
    machine: Machine,
    others: dict[str, Decision],
    decide: Callable[[MemoryLevel], dict[str, Decision]],
    measure: Meter,
) -> MemoryLevel:
    """What a configuration gives up for memory. others: decisions that do not depend on it. decide: those that do."""
    num_channels, num_outputs = len(fingerprint.channel_names), fingerprint.num_outputs
    has_regions = fingerprint.regions is not None

    def configuration_on(level: MemoryLevel) -> Configuration:
        decisions = others | decide(level)
        values = {
            key: decision.value for key, decision in decisions.items() if key not in SPLIT_KEYS
        }
        return build_configuration(values, num_channels, f"configuration {name}")

    def memory_of(configuration: Configuration) -> float:
        return measure(configuration, num_channels, num_outputs, has_regions, machine.device)

    return choose_level(configuration_on, memory_of, usable_memory(machine))


def all_decisions(
    name: str,
    fingerprint: Fingerprint,
    machine: Machine,
    overriding: dict[str, Decision],
    measure: Meter | None = None,
) -> dict[str, Decision]:
    """Everything that applies to a named configuration, decided anew with some decisions that hold in any case."""
    decisions = _decide(DATASET_RULES, fingerprint, machine, overriding)
    decisions |= _plan_configuration(
        name, fingerprint, machine, decisions, {}, overriding, measure
    ).decisions
    return {key: decision for key, decision in decisions.items() if key not in SPLIT_KEYS}


def _decide(
    rules: dict[str, Rule],
    fingerprint: Fingerprint,
    machine: Machine,
    given: dict[str, Decision],
    known: dict[str, Any] | None = None,
    recipe: Recipe = NO_RECIPE,
    level: MemoryLevel = WANTED,
) -> dict[str, Decision]:
    values = (known or {}) | {key: decision.value for key, decision in given.items()}
    decisions = {}
    for key, rule in rules.items():
        if key in given:
            decisions[key] = given[key]
        else:
            name = f"{rule.__module__.rsplit('.', 1)[-1]}.{rule.__name__}"
            value, because = rule(Facts(fingerprint, machine, values, recipe, level))
            decisions[key] = Decision(
                value if key in SPLIT_KEYS else check_value(key, value, name), because, name
            )
        values[key] = decisions[key].value
    return decisions


def on_command_line(settings: dict[str, Any]) -> dict[str, Decision]:
    """Settings as decisions.

    Raises:
        UserError: a key is unknown or belongs to the splits, or a value cannot be.
    """
    for key in SPLIT_KEYS:
        if key in settings:
            raise UserError(f"{key} is part of the splits: {HOW_TO_CHANGE_SPLITS}")
    return {
        key: Decision(check_value(key, value, "--set"), "set on the command line", ON_COMMAND_LINE)
        for key, value in settings.items()
    }
