"""Planning again where a plan is: what a person changed in it is kept."""

from __future__ import annotations

import dataclasses
import logging
from typing import Any

from samnet.core.errors import UserError
from samnet.core.machine import Machine
from samnet.fingerprint.records import Fingerprint
from samnet.plan.plan import (
    BY_HAND,
    ON_COMMAND_LINE,
    SPLIT_KEYS,
    Decision,
    Plan,
    PlannedConfiguration,
    decisions_key,
)
from samnet.planning.memory import Meter
from samnet.planning.planner import (
    CONFIGURATION_RULES,
    all_decisions,
    check_configurations,
    make_plan,
    on_command_line,
    same_value,
)
from samnet.planning.presets import DEFINITION, configuration_names

log = logging.getLogger(__name__)


def update_plan(
    known: Plan,
    fingerprint: Fingerprint,
    machine: Machine,
    settings: dict[str, Any],
    measure: Meter | None = None,
) -> Plan:
    """Plan a data set anew that has a plan; what was set on the command line before stays set.

    Of a plan that a person changed every decision stays as it is. measure: see `make_plan`, also below.

    Raises:
        UserError: a person changed the plan, and settings are given that it does not have; or as `make_plan`.
    """
    earlier = {key: value for key, value in _settings_of(known).items() if key not in settings}
    changes = find_hand_made(known, fingerprint, measure)
    if not changes:
        if earlier:
            log.info(
                "set by an earlier command and kept: %s (--overwrite drops them)",
                ", ".join(earlier),
            )
        if known.machine != machine:
            log.info("planned for %s before, now for %s", known.machine, machine)
        return make_plan(fingerprint, machine, earlier | settings, measure)
    listing = f" ({', '.join(changes[:5])}{', ...' if len(changes) > 5 else ''})"
    if known.data_key != fingerprint.data_key:
        log.warning("the raw files of %s have changed since its plan was made", known.dataset_name)
        listing = ""  # what a person changed, and what the other data would, cannot be told apart
    if any(
        not _has_value(known, key, decision) for key, decision in on_command_line(settings).items()
    ):
        raise UserError(
            f"the plan of {known.dataset_name} was changed by hand{listing}. Write the new settings into "
            "samnetPlans.json too, or replace it with --overwrite"
        )
    log.info(
        "the plan of %s was changed by hand%s and stays; --overwrite replaces it",
        known.dataset_name,
        listing,
    )
    kept = _with_facts_of(known, make_plan(fingerprint, known.machine))
    try:
        check_configurations(kept)
    except UserError as error:
        raise UserError(
            f"{error}. Change the plan accordingly, or replace it with --overwrite"
        ) from None
    return kept


def replan(
    plan: Plan,
    fingerprint: Fingerprint,
    name: str,
    settings: dict[str, Any],
    measure: Meter | None = None,
) -> Plan:
    """Decide a configuration anew with some values given, as when another backbone is asked for.

    What a person changed in the plan stays as it is.
    """
    template = _named_ancestor(plan, name)
    known = {
        key: decision
        for key, decision in plan.configuration_decisions(name).items()
        if key not in SPLIT_KEYS
    }
    given = {
        key: decision
        for key, decision in known.items()
        if decision.rule in (BY_HAND, ON_COMMAND_LINE)
    }
    expected = all_decisions(template, fingerprint, plan.machine, given, measure)
    edited = {
        key: decision if key in given else Decision(decision.value, "changed in the plan", BY_HAND)
        for key, decision in known.items()
        if key in given or not same_value(expected[key], decision)
    }
    decided = all_decisions(
        template, fingerprint, plan.machine, edited | on_command_line(settings), measure
    )
    own = {
        key: decision
        for key, decision in decided.items()
        if key in CONFIGURATION_RULES or not same_value(plan.decisions.get(key), decision)
    }
    configuration = PlannedConfiguration(own, None, plan.configurations[name].description)
    return dataclasses.replace(plan, configurations=plan.configurations | {name: configuration})


def find_hand_made(
    known: Plan, fingerprint: Fingerprint, measure: Meter | None = None
) -> list[str]:
    """What a person put into a plan that planning would not: `decision`, `configuration.decision` or a configuration.

    Empty for a plan that is as samnet wrote it, whatever data, machine and version of samnet it was written for. Where
    data or version are others now, the list holds what they change, too.
    """
    if known.planned_key == decisions_key(known):
        return []
    expected = make_plan(fingerprint, known.machine, _settings_of(known), measure)
    found = _differences(known.decisions, expected.decisions)
    for name, configuration in known.configurations.items():
        if name not in expected.configurations:
            found.append(name)
        elif configuration.inherit is not None:
            found.append(f"{name}.inherit")
        else:
            differences = _differences(
                configuration.decisions, expected.configurations[name].decisions
            )
            found += [f"{name}.{key}" for key in differences]
    return found


def _differences(known: dict[str, Decision], expected: dict[str, Decision]) -> list[str]:
    keys = [key for key in (expected | known) if key not in SPLIT_KEYS]
    return [key for key in keys if not same_value(known.get(key), expected.get(key))]


def _settings_of(plan: Plan) -> dict[str, Any]:
    """What was set on the command line when a plan was made."""
    groups = [
        plan.decisions,
        *(configuration.decisions for configuration in plan.configurations.values()),
    ]
    return {
        key: decision.value
        for group in reversed(groups)
        for key, decision in group.items()
        if decision.rule == ON_COMMAND_LINE
    }


def _has_value(plan: Plan, key: str, decision: Decision) -> bool:
    """Whether a plan has the value of a setting, wherever a configuration has not one of its own by definition."""
    found = [plan.configuration_decisions(name)[key] for name in plan.configurations]
    return all(same_value(entry, decision) or entry.rule.startswith(DEFINITION) for entry in found)


def _with_facts_of(known: Plan, fresh: Plan) -> Plan:
    """A plan with what another one says of the data and their splits, and its own decisions on everything else."""
    facts = (
        "data_key",
        "channel_names",
        "labels",
        "ignore_label",
        "regions_class_order",
        "file_ending",
        "patient_key",
    )
    splits = {key: fresh.decisions[key] for key in SPLIT_KEYS}
    return dataclasses.replace(
        known, decisions=known.decisions | splits, **{fact: getattr(fresh, fact) for fact in facts}
    )


def _named_ancestor(plan: Plan, name: str) -> str:
    """The configuration samnet brings from which one of the plan descends, `lora` where none is."""
    current: str | None = name
    while current is not None and current not in configuration_names():
        current = plan.configurations[current].inherit
    return current or "lora"
