"""What is planned for synthetic fingerprints."""

from __future__ import annotations

from typing import Any

from samnet.core.machine import Machine
from samnet.fingerprint.records import Fingerprint
from samnet.plan.plan import Decision, Plan
from samnet.planning.memory import Meter
from samnet.planning.planner import make_plan
from samnet.planning.presets import configuration_names

CPU = Machine("cpu", 8)
GPU = Machine("cuda", 16)


def plan_all(
    fingerprint: Fingerprint,
    machine: Machine = GPU,
    settings: dict[str, Any] | None = None,
    measure: Meter | None = None,
) -> Plan:
    """Plan a data set with every named configuration, the published ones included.

    Args:
        fingerprint: The statistics of its data.
        machine: The machine to plan for.
        settings: Values set on the command line, by key.
        measure: The memory of a training step; None where everything fits.

    Returns:
        The plan.
    """
    return make_plan(fingerprint, machine, settings, measure, configuration_names())


def decide(
    fingerprint: Fingerprint, machine: Machine = GPU, **settings: Any
) -> dict[str, Decision]:
    """Plan a data set.

    Args:
        fingerprint: The statistics of its data.
        machine: The machine to plan for.
        **settings: Values set on the command line, by key.

    Returns:
        The decisions for `lora` and the splits, by key.
    """
    plan = make_plan(fingerprint, machine, settings)
    return plan.decisions | plan.configuration_decisions("lora")


def values(fingerprint: Fingerprint, machine: Machine = GPU, **settings: Any) -> dict[str, Any]:
    """Plan a data set.

    Args:
        fingerprint: The statistics of its data.
        machine: The machine to plan for.
        **settings: Values set on the command line, by key.

    Returns:
        The values for `lora` and the splits, by key.
    """
    decisions = decide(fingerprint, machine, **settings)
    return {key: decision.value for key, decision in decisions.items()}
