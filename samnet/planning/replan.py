"""Planning again where a plan is: what a person changed in it is kept."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Collection
from typing import Any

from samnet.core.errors import UserError
from samnet.core.machine import Machine
from samnet.fingerprint.records import Fingerprint
from samnet.plan.configuration import PLAN_KEYS
from samnet.plan.plan import (
    BY_HAND,
    ON_COMMAND_LINE,
    SPLIT_KEYS,
    Decision,
    Plan,
    PlannedConfiguration,
    decisions_key,
    earlier_decisions,
)
from samnet.plan.plan_key import Scope
from samnet.planning.memory import Meter
from samnet.planning.planner import (
    Decisions,
    all_decisions,
    check_configurations,
    make_plan,
    on_command_line,
    same_value,
    settings_of,
)
from samnet.planning.presets import DEFINITION, configuration_names
from samnet.planning.requested import add_configurations, find_missing

log = logging.getLogger(__name__)
_MAX_SHOWN_CHANGES = 5
_FACTS = ("data_key", "channel_names", "label_scheme", "file_ending", "patient_key")


def update_plan(
    known: Plan,
    fingerprint: Fingerprint,
    machine: Machine,
    settings: dict[str, Any],
    measure: Meter | None = None,
    requested: Collection[str] = (),
) -> Plan:
    """Plan a data set again that has a plan. What an earlier command set stays set.

    A plan that a person changed keeps every decision. Configurations that were added to a plan when
    they were needed stay in it.

    Args:
        known: The plan that is there.
        fingerprint: The statistics of the data.
        machine: The machine that will train.
        settings: Values set on the command line, by key.
        measure: As for `make_plan`.
        requested: Configurations that the new plan is to have, too.

    Returns:
        The new plan.

    Raises:
        UserError: A person changed the plan, and settings are given that it does not have; there is
            no configuration of a requested name; or as `make_plan`.
    """
    missing = find_missing(known, requested)
    earlier = {key: value for key, value in settings_of(known).items() if key not in settings}
    changes = find_hand_made(known, fingerprint, measure)
    if not changes:
        if earlier:
            listing = ", ".join(earlier)
            log.info("set by an earlier command and kept: %s (--overwrite drops them)", listing)
        if known.machine != machine:
            log.info("planned for %s before, now for %s", known.machine, machine)
        names = {*known.configurations, *missing}
        return make_plan(fingerprint, machine, earlier | settings, measure, names)
    listing = _list_changes(changes)
    if known.data_key != fingerprint.data_key:
        log.warning("the raw files of %s have changed since its plan was made", known.dataset_name)
        # What a person changed, and what the other data would change, cannot be told apart.
        listing = ""
    known = add_configurations(known, requested, fingerprint, measure)
    _check_settings(known, settings, listing)
    log.info(
        "the plan of %s was changed by hand%s and stays; --overwrite replaces it",
        known.dataset_name,
        listing,
    )
    kept = _with_facts_of(known, make_plan(fingerprint, known.machine))
    try:
        check_configurations(kept)
    except UserError as error:
        remedy = "Change the plan accordingly, or replace it with --overwrite"
        raise UserError(f"{error}. {remedy}") from None
    return kept


def _list_changes(changes: list[str]) -> str:
    shown = ", ".join(changes[:_MAX_SHOWN_CHANGES])
    more = ", ..." if len(changes) > _MAX_SHOWN_CHANGES else ""
    return f" ({shown}{more})"


def _check_settings(known: Plan, settings: dict[str, Any], listing: str) -> None:
    """Refuse settings that a plan which stays does not have."""
    given = on_command_line(settings)
    if all(_has_value(known, key, decision) for key, decision in given.items()):
        return
    raise UserError(
        f"the plan of {known.dataset_name} was changed by hand{listing}. Write the new settings "
        "into samnetPlans.json too, or replace it with --overwrite"
    )


def replan(
    plan: Plan,
    fingerprint: Fingerprint,
    name: str,
    settings: dict[str, Any],
    measure: Meter | None = None,
) -> Plan:
    """Decide a configuration again with some values given, such as another backbone.

    What a person changed in the plan stays unchanged.

    Args:
        plan: The plan.
        fingerprint: The statistics of the data.
        name: The configuration.
        settings: The given values, by key.
        measure: As for `make_plan`.

    Returns:
        The plan with that configuration decided again.

    Raises:
        UserError: A key is unknown, or a value is not allowed.
    """
    template = _preset_of(plan, name)
    known = _without_splits(plan.configuration_decisions(name))
    given = {
        key: decision
        for key, decision in known.items()
        if decision.rule in (BY_HAND, ON_COMMAND_LINE)
    }
    expected = all_decisions(template, fingerprint, plan.machine, given, measure)
    edited = dict(given)
    for key, decision in known.items():
        if key not in given and not same_value(expected[key], decision):
            edited[key] = Decision(decision.value, "changed in the plan", BY_HAND)
    overriding = edited | on_command_line(settings)
    decided = all_decisions(template, fingerprint, plan.machine, overriding, measure)
    own = {
        key: decision
        for key, decision in decided.items()
        if PLAN_KEYS[key].scope is Scope.CONFIGURATION
        or not same_value(plan.decisions.get(key), decision)
    }
    configuration = PlannedConfiguration(own, None, plan.configurations[name].description)
    return dataclasses.replace(plan, configurations=plan.configurations | {name: configuration})


def find_hand_made(
    known: Plan, fingerprint: Fingerprint, measure: Meter | None = None
) -> list[str]:
    """List what a person put into a plan that planning would not.

    Args:
        known: The plan.
        fingerprint: The statistics of the data. Where data or version of samnet are others now, the
            list holds what they change, too.
        measure: As for `make_plan`.

    Returns:
        Names of the form `decision`, `configuration.decision` or `configuration`. Empty for a plan
        that is as samnet wrote it, whatever data, machine and version of samnet it was written for.
    """
    if known.planned_key == decisions_key(known):
        return []
    names = known.configurations
    expected = make_plan(fingerprint, known.machine, settings_of(known), measure, names)
    found = _differences(known.decisions, expected.decisions)
    for name, configuration in known.configurations.items():
        if name not in expected.configurations:
            found.append(name)
        elif configuration.inherit is not None:
            found.append(f"{name}.inherit")
        else:
            planned = expected.configurations[name].decisions
            differences = _differences(configuration.decisions, planned)
            found += [f"{name}.{key}" for key in differences]
    return found


def _without_splits(decisions: Decisions) -> Decisions:
    return {key: decision for key, decision in decisions.items() if key not in SPLIT_KEYS}


def _differences(known: Decisions, expected: Decisions) -> list[str]:
    before = {key: entry for key, entry in earlier_decisions().items() if key in expected}
    known = before | known
    keys = _without_splits(expected | known)
    return [key for key in keys if not same_value(known.get(key), expected.get(key))]


def _has_value(plan: Plan, key: str, decision: Decision) -> bool:
    """Tell whether every configuration has the value of a setting, or another by definition."""
    for name in plan.configurations:
        entry = plan.configuration_decisions(name)[key]
        if not same_value(entry, decision) and not entry.rule.startswith(DEFINITION):
            return False
    return True


def _with_facts_of(known: Plan, fresh: Plan) -> Plan:
    """Return a plan with the facts and splits of another one, and its own decisions otherwise."""
    facts = {fact: getattr(fresh, fact) for fact in _FACTS}
    splits = {key: fresh.decisions[key] for key in SPLIT_KEYS}
    return dataclasses.replace(known, decisions=known.decisions | splits, **facts)


def _preset_of(plan: Plan, name: str) -> str:
    """Return the named configuration from which one of the plan descends; `lora` where none is."""
    current: str | None = name
    while current is not None and current not in configuration_names():
        current = plan.configurations[current].inherit
    return current or "lora"
