"""From a fingerprint to a plan: the rules in their order, then the named configurations."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any

from samnet import __version__
from samnet.core.errors import UserError
from samnet.core.machine import Machine
from samnet.core.records import to_json
from samnet.fingerprint.records import Fingerprint
from samnet.plan.checks import build_configuration, check_value
from samnet.plan.configuration import PLAN_KEYS, Configuration
from samnet.plan.plan import (
    HOW_TO_CHANGE_SPLITS,
    ON_COMMAND_LINE,
    SCHEMA_VERSION,
    SPLIT_KEYS,
    Decision,
    Plan,
    PlannedConfiguration,
    decisions_key,
    earlier_decisions,
)
from samnet.plan.plan_key import Scope
from samnet.planning.memory import (
    WANTED,
    EstimatingMeter,
    MemoryLevel,
    Meter,
    choose_level,
    usable_memory,
)
from samnet.planning.planned_step import PlannedStep
from samnet.planning.presets import Preset, configuration_names, read_preset, standard_names
from samnet.planning.rules import rules_of
from samnet.planning.rules.facts import NO_RECIPE, Facts, Recipe, Rule

Decisions = dict[str, Decision]


def make_plan(
    fingerprint: Fingerprint,
    machine: Machine,
    settings: dict[str, Any] | None = None,
    measure: Meter | None = None,
    requested: Collection[str] = (),
) -> Plan:
    """Plan a data set for a machine, with samnet's own configurations.

    Args:
        fingerprint: The statistics of the data.
        machine: The machine that will train.
        settings: Values set by hand (`--set`), by key. Later rules take them into account. A named
            configuration keeps the values that make it what it is: `samed` remains SAMed.
        measure: The memory of a training step. Without it everything wanted is taken to fit.
        requested: Named configurations that are planned in addition.

    Returns:
        The plan.

    Raises:
        UserError: A setting has an unknown key or a value that is not allowed.
    """
    context = _Context(fingerprint, machine, measure)
    given = on_command_line(settings or {})
    decisions = context.decide(rules_of(Scope.DATASET), given)
    included = {*standard_names(), *requested}
    configurations = {
        name: _plan_configuration(name, context, decisions, given, {})
        for name in configuration_names()
        if name in included
    }
    plan = Plan(
        schema_version=SCHEMA_VERSION,
        samnet_version=__version__,
        dataset_name=fingerprint.dataset_name,
        data_key=fingerprint.data_key,
        channel_names=fingerprint.channel_names,
        label_scheme=fingerprint.label_scheme,
        file_ending=fingerprint.file_ending,
        patient_key=decisions["patient_key"].value,
        machine=machine,
        decisions=decisions,
        configurations=configurations,
    )
    check_configurations(plan)
    return dataclasses.replace(plan, planned_key=decisions_key(plan))


def plan_configuration(
    name: str, plan: Plan, fingerprint: Fingerprint, measure: Meter | None = None
) -> PlannedConfiguration:
    """Plan one more named configuration for a planned data set.

    It rests on the decisions of the plan, and on what was set on the command line when they were
    made. So it is what `make_plan` would have planned with them.

    Args:
        name: The named configuration.
        plan: The plan.
        fingerprint: The statistics of its data.
        measure: As for `make_plan`.

    Returns:
        The decisions of the configuration.
    """
    context = _Context(fingerprint, plan.machine, measure)
    given = on_command_line(settings_of(plan))
    return _plan_configuration(name, context, earlier_decisions() | plan.decisions, given, {})


def all_decisions(
    name: str,
    fingerprint: Fingerprint,
    machine: Machine,
    overriding: Decisions,
    measure: Meter | None = None,
) -> Decisions:
    """Decide everything that applies to a named configuration, with some decisions given.

    Args:
        name: The named configuration.
        fingerprint: The statistics of the data.
        machine: The machine that will train.
        overriding: Decisions that hold in any case, by key.
        measure: As for `make_plan`.

    Returns:
        A decision for every key.
    """
    context = _Context(fingerprint, machine, measure)
    decisions = context.decide(rules_of(Scope.DATASET), overriding)
    decisions |= _plan_configuration(name, context, decisions, {}, overriding).decisions
    return {key: decision for key, decision in decisions.items() if key not in SPLIT_KEYS}


def plan_one_configuration(
    name: str, fingerprint: Fingerprint, machine: Machine, measure: Meter | None = None
) -> Configuration:
    """Plan a named configuration without the others, and without a plan that is kept.

    Args:
        name: The named configuration.
        fingerprint: The statistics of the data.
        machine: The machine that will train.
        measure: As for `make_plan`.

    Returns:
        What `make_plan` plans of this name.
    """
    decisions = all_decisions(name, fingerprint, machine, {}, measure)
    values = {key: decision.value for key, decision in decisions.items()}
    num_channels = len(fingerprint.channel_names)
    return build_configuration(values, num_channels, f"configuration {name}")


def same_value(one: Decision | None, other: Decision | None) -> bool:
    """Tell whether two decisions, or their absence, have the same value.

    Args:
        one: A decision, or None.
        other: Another, or None.

    Returns:
        Whether both are None or have the same value.
    """
    if one is None or other is None:
        return one is other
    return to_json(one.value) == to_json(other.value)


def check_configurations(plan: Plan) -> None:
    """Check every configuration of a plan.

    Args:
        plan: The plan.

    Raises:
        UserError: A value is not usable; the first one is named.
    """
    for name in plan.configurations:
        plan.configuration(name)


def on_command_line(settings: dict[str, Any]) -> Decisions:
    """Turn settings into decisions.

    Args:
        settings: Values by key.

    Returns:
        The decisions by key.

    Raises:
        UserError: A key is unknown or belongs to the splits, or a value is not allowed.
    """
    for key in SPLIT_KEYS:
        if key in settings:
            raise UserError(f"{key} is part of the splits: {HOW_TO_CHANGE_SPLITS}")
    return {
        key: Decision(check_value(key, value, "--set"), "set on the command line", ON_COMMAND_LINE)
        for key, value in settings.items()
    }


def settings_of(plan: Plan) -> dict[str, Any]:
    """Return what was set on the command line when a plan was made.

    Args:
        plan: The plan.

    Returns:
        The values by key.
    """
    groups = [entry.decisions for entry in plan.configurations.values()]
    settings: dict[str, Any] = {}
    # Where groups differ, the data set's decisions count, then the first configuration's.
    for group in [*reversed(groups), plan.decisions]:
        for key, decision in group.items():
            if decision.rule == ON_COMMAND_LINE:
                settings[key] = decision.value
    return settings


@dataclass(frozen=True)
class _Context:
    """What is planned for: the data, the machine, and how memory is measured."""

    fingerprint: Fingerprint
    machine: Machine
    measure: Meter | None
    recipe: Recipe = NO_RECIPE
    known: dict[str, Any] = field(default_factory=dict)

    def decide(
        self, rules: dict[str, Rule], given: Decisions, level: MemoryLevel = WANTED
    ) -> Decisions:
        """Apply rules in their order. A decision that is given takes the place of its rule."""
        values = self.known | {key: decision.value for key, decision in given.items()}
        decisions = {}
        for key, rule in rules.items():
            if key in given:
                decisions[key] = given[key]
            else:
                facts = Facts(self.fingerprint, self.machine, values, self.recipe, level)
                decisions[key] = _apply(key, rule, facts)
            values[key] = decisions[key].value
        return decisions


def _apply(key: str, rule: Rule, facts: Facts) -> Decision:
    module = rule.__module__.rsplit(".", 1)[-1]
    name = f"{module}.{rule.__name__}"
    value, because = rule(facts)
    if key not in SPLIT_KEYS:
        value = check_value(key, value, name)
    return Decision(value, because, name)


def _plan_configuration(
    name: str,
    context: _Context,
    dataset_decisions: Decisions,
    given: Decisions,
    overriding: Decisions,
) -> PlannedConfiguration:
    """Decide what a named configuration has beyond, or other than, the data set's decisions.

    Values that are given hold where the configuration has none of its own; overriding ones in any
    case.
    """
    known = {key: decision.value for key, decision in dataset_decisions.items()}
    preset = read_preset(name, Facts(context.fingerprint, context.machine, known))
    context = dataclasses.replace(context, recipe=preset.recipe, known=known)
    given = given | preset.decisions | overriding
    rules = rules_of(Scope.CONFIGURATION)

    def decide(level: MemoryLevel) -> Decisions:
        return context.decide(rules, given, level)

    level = WANTED
    if context.measure is not None:
        level = _choose_level(name, context, dataset_decisions | given, decide)
    return _with_overridden(decide(level), given, dataset_decisions, preset)


def _with_overridden(
    decisions: Decisions, given: Decisions, dataset_decisions: Decisions, preset: Preset
) -> PlannedConfiguration:
    """Add the values that a configuration has other than the data set as a whole."""
    overridden = {}
    for key, decision in given.items():
        is_of_dataset = PLAN_KEYS[key].scope is Scope.DATASET
        if is_of_dataset and not same_value(dataset_decisions[key], decision):
            overridden[key] = decision
    return PlannedConfiguration(decisions | overridden, None, preset.description)


def _choose_level(
    name: str,
    context: _Context,
    others: Decisions,
    decide: Callable[[MemoryLevel], Decisions],
) -> MemoryLevel:
    """Choose what a configuration gives up for memory.

    The other decisions do not depend on the level; `decide` makes those that do.
    """
    fingerprint, machine, measure = context.fingerprint, context.machine, context.measure
    assert measure is not None
    num_channels = len(fingerprint.channel_names)
    scheme = fingerprint.label_scheme

    def configuration_on(level: MemoryLevel) -> Configuration:
        decisions = others | decide(level)
        values = {
            key: decision.value for key, decision in decisions.items() if key not in SPLIT_KEYS
        }
        return build_configuration(values, num_channels, f"configuration {name}")

    def step_of(configuration: Configuration) -> PlannedStep:
        """Return the step of a configuration in the precision that the machine computes it in."""
        if machine.device == "cpu" and not machine.cpu_bfloat16:
            configuration = dataclasses.replace(configuration, precision="float32")
        has_regions = scheme.regions is not None
        device = machine.device
        return PlannedStep(configuration, num_channels, scheme.num_outputs, has_regions, device)

    def memory_of(configuration: Configuration) -> float:
        return measure(step_of(configuration))

    def estimate(configuration: Configuration) -> float | None:
        if not isinstance(measure, EstimatingMeter):
            return None
        return measure.estimate(step_of(configuration))

    return choose_level(configuration_on, memory_of, usable_memory(machine), estimate)
