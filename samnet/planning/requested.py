"""Configurations that a plan lacks and that samnet brings: planned when something needs them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

from samnet.core.errors import UserError
from samnet.fingerprint.records import Fingerprint
from samnet.plan.plan import Plan, decisions_key
from samnet.planning.memory import Meter
from samnet.planning.planner import plan_configuration
from samnet.planning.presets import configuration_names


def names_on_request(plan: Plan) -> list[str]:
    """Return the named configurations that can be planned and that a plan does not hold.

    Args:
        plan: The plan.

    Returns:
        Their names, sorted.
    """
    return [name for name in configuration_names() if name not in plan.configurations]


def find_missing(plan: Plan, names: Iterable[str]) -> list[str]:
    """Find what a plan lacks of some configurations, and of what its own ones inherit from.

    Args:
        plan: The plan.
        names: The requested configurations.

    Returns:
        Names of configurations that samnet brings, sorted.

    Raises:
        UserError: A requested configuration is neither in the plan nor brought by samnet.
    """
    on_request = names_on_request(plan)
    missing = set()
    for name in (*names, *plan.configurations):
        lacking = plan.missing_ancestor(name)
        if lacking in on_request:
            missing.add(lacking)
        elif lacking == name:
            known = ", ".join(sorted(plan.configurations)) or "none"
            more = f"; on request it gets {', '.join(on_request)}" if on_request else ""
            raise UserError(
                f"the plan of {plan.dataset_name} has no configuration {name!r}; it has {known}"
                f"{more}"
            )
    return sorted(missing)


def add_configurations(
    plan: Plan, names: Iterable[str], fingerprint: Fingerprint, measure: Meter | None = None
) -> Plan:
    """Plan what a plan lacks of some configurations. What it holds stays unchanged.

    Args:
        plan: The plan, changed by hand or not.
        names: The requested configurations.
        fingerprint: The statistics of its data.
        measure: As for `samnet.planning.planner.make_plan`.

    Returns:
        The plan with the requested configurations, and with all from which others inherit.

    Raises:
        UserError: As `find_missing`.
    """
    missing = find_missing(plan, names)
    if not missing:
        return plan
    configurations = dict(plan.configurations)
    for name in missing:
        configurations[name] = plan_configuration(name, plan, fingerprint, measure)
    completed = dataclasses.replace(plan, configurations=configurations)
    if plan.planned_key != decisions_key(plan):
        return completed  # a person changed the plan: its key keeps showing that
    return dataclasses.replace(completed, planned_key=decisions_key(completed))
