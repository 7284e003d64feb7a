"""From a fingerprint to a plan: the rules in their order, then the named configurations."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable
from importlib import resources
from typing import Any

from samnet import __version__
from samnet.core.errors import UserError
from samnet.core.files import read_json
from samnet.core.machine import Machine
from samnet.core.records import from_json, to_json
from samnet.fingerprint.records import Fingerprint
from samnet.planning.configuration import check_value
from samnet.planning.plan import (
    BY_HAND,
    HOW_TO_CHANGE_SPLITS,
    ON_COMMAND_LINE,
    SCHEMA_VERSION,
    SPLIT_KEYS,
    Decision,
    Plan,
    PlannedConfiguration,
    decisions_key,
)
from samnet.planning.rules import intensity, network, slicing, training
from samnet.planning.rules.facts import NO_RECIPE, Facts, Recipe, Rule

log = logging.getLogger(__name__)
DEFINITION = "configuration"  # the rule of a value that makes a named configuration what it is

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


def make_plan(fingerprint: Fingerprint, machine: Machine, settings: dict[str, Any] | None = None) -> Plan:
    """Plan a data set for a machine, every named configuration included.

    settings: values set by hand (`--set`); later rules take them into account. A named configuration keeps the values
        that make it what it is: `samed` remains SAMed.

    Raises:
        UserError: a setting has an unknown key or a value that cannot be.
    """
    given = _on_command_line(settings or {})
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
            name: _plan_configuration(name, fingerprint, machine, decisions, given, {})
            for name in configuration_names()
        },
    )
    _check_configurations(plan)
    return dataclasses.replace(plan, planned_key=decisions_key(plan))


def update_plan(known: Plan, fingerprint: Fingerprint, machine: Machine, settings: dict[str, Any]) -> Plan:
    """Plan a data set anew that has a plan; what was set on the command line before stays set.

    Of a plan that a person changed every decision stays as it is.

    Raises:
        UserError: a person changed the plan, and settings are given that it does not have; or as `make_plan`.
    """
    earlier = {key: value for key, value in _settings_of(known).items() if key not in settings}
    changes = find_hand_made(known, fingerprint)
    if not changes:
        if earlier:
            log.info("set by an earlier command and kept: %s (--overwrite drops them)", ", ".join(earlier))
        if known.machine != machine:
            log.info("planned for %s before, now for %s", known.machine, machine)
        return make_plan(fingerprint, machine, earlier | settings)
    listing = f" ({', '.join(changes[:5])}{', ...' if len(changes) > 5 else ''})"
    if known.data_key != fingerprint.data_key:
        log.warning("the raw files of %s have changed since its plan was made", known.dataset_name)
        listing = ""  # what a person changed, and what the other data would, cannot be told apart
    if any(not _has_value(known, key, decision) for key, decision in _on_command_line(settings).items()):
        raise UserError(
            f"the plan of {known.dataset_name} was changed by hand{listing}. Write the new settings into "
            "samnetPlans.json too, or replace it with --overwrite"
        )
    log.info("the plan of %s was changed by hand%s and stays; --overwrite replaces it", known.dataset_name, listing)
    kept = _with_facts_of(known, make_plan(fingerprint, known.machine))
    try:
        _check_configurations(kept)
    except UserError as error:
        raise UserError(f"{error}. Change the plan accordingly, or replace it with --overwrite") from None
    return kept


def replan(plan: Plan, fingerprint: Fingerprint, name: str, settings: dict[str, Any]) -> Plan:
    """Decide a configuration anew with some values given, as when another backbone is asked for.

    What a person changed in the plan stays as it is.
    """
    template = _named_ancestor(plan, name)
    known = {key: decision for key, decision in plan.configuration_decisions(name).items() if key not in SPLIT_KEYS}
    given = {key: decision for key, decision in known.items() if decision.rule in (BY_HAND, ON_COMMAND_LINE)}
    expected = _all_decisions(template, fingerprint, plan.machine, given)
    edited = {
        key: decision if key in given else Decision(decision.value, "changed in the plan", BY_HAND)
        for key, decision in known.items()
        if key in given or not _same_value(expected[key], decision)
    }
    decided = _all_decisions(template, fingerprint, plan.machine, edited | _on_command_line(settings))
    own = {
        key: decision
        for key, decision in decided.items()
        if key in CONFIGURATION_RULES or not _same_value(plan.decisions.get(key), decision)
    }
    configuration = PlannedConfiguration(own, None, plan.configurations[name].description)
    return dataclasses.replace(plan, configurations=plan.configurations | {name: configuration})


def find_hand_made(known: Plan, fingerprint: Fingerprint) -> list[str]:
    """What a person put into a plan that planning would not: `decision`, `configuration.decision` or a configuration.

    Empty for a plan that is as samnet wrote it, whatever data, machine and version of samnet it was written for. Where
    data or version are others now, the list holds what they change, too.
    """
    if known.planned_key == decisions_key(known):
        return []
    expected = make_plan(fingerprint, known.machine, _settings_of(known))
    found = _differences(known.decisions, expected.decisions)
    for name, configuration in known.configurations.items():
        if name not in expected.configurations:
            found.append(name)
        elif configuration.inherit is not None:
            found.append(f"{name}.inherit")
        else:
            differences = _differences(configuration.decisions, expected.configurations[name].decisions)
            found += [f"{name}.{key}" for key in differences]
    return found


def _differences(known: dict[str, Decision], expected: dict[str, Decision]) -> list[str]:
    keys = [key for key in (expected | known) if key not in SPLIT_KEYS]
    return [key for key in keys if not _same_value(known.get(key), expected.get(key))]


def _same_value(one: Decision | None, other: Decision | None) -> bool:
    if one is None or other is None:
        return one is other
    return to_json(one.value) == to_json(other.value)


def _settings_of(plan: Plan) -> dict[str, Any]:
    """What was set on the command line when a plan was made."""
    groups = [plan.decisions, *(configuration.decisions for configuration in plan.configurations.values())]
    return {
        key: decision.value
        for group in reversed(groups)
        for key, decision in group.items()
        if decision.rule == ON_COMMAND_LINE
    }


def _has_value(plan: Plan, key: str, decision: Decision) -> bool:
    """Whether a plan has the value of a setting, wherever a configuration has not one of its own by definition."""
    found = [plan.configuration_decisions(name)[key] for name in plan.configurations]
    return all(_same_value(entry, decision) or entry.rule.startswith(DEFINITION) for entry in found)


def _with_facts_of(known: Plan, fresh: Plan) -> Plan:
    """A plan with what another one says of the data and their splits, and its own decisions on everything else."""
    facts = ("data_key", "channel_names", "labels", "ignore_label", "file_ending", "patient_key")
    splits = {key: fresh.decisions[key] for key in SPLIT_KEYS}
    return dataclasses.replace(
        known, decisions=known.decisions | splits, **{fact: getattr(fresh, fact) for fact in facts}
    )


def _check_configurations(plan: Plan) -> None:
    for name in plan.configurations:
        plan.configuration(name)


def _named_ancestor(plan: Plan, name: str) -> str:
    """The configuration samnet brings from which one of the plan descends, `lora` where none is."""
    current: str | None = name
    while current is not None and current not in configuration_names():
        current = plan.configurations[current].inherit
    return current or "lora"


def configuration_names() -> list[str]:
    """The named configurations samnet brings, without those a user adds to a plan."""
    folder = resources.files("samnet") / "plans"
    return sorted(entry.name.removesuffix(".json") for entry in folder.iterdir() if entry.name.endswith(".json"))


def _plan_configuration(
    name: str,
    fingerprint: Fingerprint,
    machine: Machine,
    dataset_decisions: dict[str, Decision],
    given: dict[str, Decision],
    overriding: dict[str, Decision],
) -> PlannedConfiguration:
    """What a named configuration decides beyond, or other than, the data set's decisions.

    given: values that hold where the configuration has none of its own. overriding: those that hold in any case.
    """
    known = {key: decision.value for key, decision in dataset_decisions.items()}
    named = _read_named(name, Facts(fingerprint, machine, known))
    given = given | named.decisions | overriding
    decisions = _decide(CONFIGURATION_RULES, fingerprint, machine, given, known, named.recipe)
    overridden = {
        key: decision
        for key, decision in given.items()
        if key in DATASET_RULES and not _same_value(dataset_decisions[key], decision)
    }
    return PlannedConfiguration(decisions | overridden, None, named.description)


@dataclasses.dataclass(frozen=True)
class _Named:
    """A named configuration: the decisions that make it what it is, its recipe and its description."""

    decisions: dict[str, Decision]
    recipe: Recipe
    description: str


_CONDITIONS: dict[str, Callable[[Facts], bool]] = {
    "one_channel": lambda facts: len(facts.fingerprint.channel_names) == 1,
    "ct": lambda facts: len(facts.fingerprint.channel_names) == 1 and facts.is_ct(0),
}


def _read_named(name: str, facts: Facts) -> _Named:
    """Read `plans/NAME.json`: `values` that always hold, `values_for` some data, and the `recipe`."""
    with resources.as_file(resources.files("samnet") / "plans" / f"{name}.json") as file:
        named = read_json(file)
    values = dict(named["values"])
    for condition, more in named.get("values_for", {}).items():
        if _CONDITIONS[condition](facts):
            values |= more
    fixed = {
        key: Decision(check_value(key, value, f"{name}.json"), named["because"], f"{DEFINITION} {name}")
        for key, value in values.items()
    }
    return _Named(fixed, from_json(Recipe, named.get("recipe", {}), f"{name}.json: recipe"), named["description"])


def _all_decisions(
    name: str, fingerprint: Fingerprint, machine: Machine, overriding: dict[str, Decision]
) -> dict[str, Decision]:
    """Everything that applies to a named configuration, decided anew with some decisions that hold in any case."""
    decisions = _decide(DATASET_RULES, fingerprint, machine, overriding)
    decisions |= _plan_configuration(name, fingerprint, machine, decisions, {}, overriding).decisions
    return {key: decision for key, decision in decisions.items() if key not in SPLIT_KEYS}


def _decide(
    rules: dict[str, Rule],
    fingerprint: Fingerprint,
    machine: Machine,
    given: dict[str, Decision],
    known: dict[str, Any] | None = None,
    recipe: Recipe = NO_RECIPE,
) -> dict[str, Decision]:
    values = (known or {}) | {key: decision.value for key, decision in given.items()}
    decisions = {}
    for key, rule in rules.items():
        if key in given:
            decisions[key] = given[key]
        else:
            name = f"{rule.__module__.rsplit('.', 1)[-1]}.{rule.__name__}"
            value, because = rule(Facts(fingerprint, machine, values, recipe))
            decisions[key] = Decision(value if key in SPLIT_KEYS else check_value(key, value, name), because, name)
        values[key] = decisions[key].value
    return decisions


def _on_command_line(settings: dict[str, Any]) -> dict[str, Decision]:
    for key in SPLIT_KEYS:
        if key in settings:
            raise UserError(f"{key} is part of the splits: {HOW_TO_CHANGE_SPLITS}")
    return {
        key: Decision(check_value(key, value, "--set"), "set on the command line", ON_COMMAND_LINE)
        for key, value in settings.items()
    }
