"""What would change a plan: its rules, asked again about data and machines that differ in one thing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from samnet.core.machine import Machine
from samnet.core.records import to_json
from samnet.fingerprint.records import CaseFingerprint, Fingerprint, ShapeStatistics
from samnet.plan.plan import SPLIT_KEYS, Plan
from samnet.planning.planner import all_decisions, same_value
from samnet.planning.rules.facts import Facts

MACHINES = {
    "without a GPU": Machine("cpu", 16.0),
    "on a GPU with 16 GiB": Machine("cuda", 16.0),
    "on a GPU with 80 GiB": Machine("cuda", 80.0),
}
SIZES = {"with structures half as large": 0.5, "with structures twice as large": 2.0}
DISTANCES = {"with slices three times as far apart": 3.0, "with slices a third as far apart": 1 / 3}
AMOUNTS = {
    "with five times as many labelled slices": 5.0,
    "with a fifth of the labelled slices": 0.2,
}
WIDER = "with slices twice as wide and high"


@dataclass(frozen=True)
class Alternative:
    """What a decision would be. when: what would have to be otherwise, each by itself."""

    value: Any
    when: tuple[str, ...]


def what_would_change(
    plan: Plan, fingerprint: Fingerprint, name: str
) -> dict[str, list[Alternative]]:
    """The alternatives to each decision of a configuration that samnet brings, where there are any.

    What the plan has otherwise than the rules by themselves, by hand or for want of memory, is taken as given.
    """
    known = {
        key: decision
        for key, decision in plan.configuration_decisions(name).items()
        if key not in SPLIT_KEYS
    }
    by_rules = all_decisions(name, fingerprint, plan.machine, {})
    given = {
        key: decision
        for key, decision in known.items()
        if not same_value(decision, by_rules.get(key))
    }
    expected = all_decisions(name, fingerprint, plan.machine, given)
    found: dict[str, dict[str, Alternative]] = {}
    for when, data, machine in _variations(plan, fingerprint):
        for key, decision in all_decisions(name, data, machine, given).items():
            if same_value(decision, expected[key]):
                continue
            others = found.setdefault(key, {})
            earlier = others.get(str(to_json(decision.value)), Alternative(decision.value, ()))
            others[str(to_json(decision.value))] = replace(earlier, when=(*earlier.when, when))
    return {key: list(others.values()) for key, others in found.items()}


def _variations(plan: Plan, fingerprint: Fingerprint) -> Iterator[tuple[str, Fingerprint, Machine]]:
    """Words for what differs, and data and machine with that difference."""
    axis, machine = plan.decisions["slicing_axis"].value, plan.machine
    for when, other in MACHINES.items():
        if other != machine and (other.device == "cuda" or machine.device != "cpu"):
            yield when, fingerprint, other
    for when, factor in SIZES.items():
        yield when, _with_shapes(fingerprint, factor), machine
    for when, factor in AMOUNTS.items():
        yield when, _with_cases(fingerprint, partial(_with_labelled, factor=factor)), machine
    yield WIDER, _with_cases(fingerprint, partial(_widened, axis=axis)), machine
    if fingerprint.is_2d_image:
        return
    for when, factor in DISTANCES.items():
        yield when, _with_cases(fingerprint, partial(_apart, axis=axis, factor=factor)), machine
    facts = Facts(fingerprint, machine, {})
    kind = (
        "MR" if all(facts.is_ct(index) for index in range(len(fingerprint.channel_names))) else "CT"
    )
    called = replace(fingerprint, channel_names=(kind,) * len(fingerprint.channel_names))
    yield f"with channels called {kind}", called, machine


def _with_cases(
    fingerprint: Fingerprint, change: Callable[[CaseFingerprint], CaseFingerprint]
) -> Fingerprint:
    return replace(
        fingerprint, cases={name: change(case) for name, case in fingerprint.cases.items()}
    )


def _with_shapes(fingerprint: Fingerprint, factor: float) -> Fingerprint:
    def scaled(values: tuple[float, ...]) -> tuple[float, ...]:
        return tuple(value * factor for value in values)

    shapes = {
        name: tuple(
            ShapeStatistics(scaled(shape.diameters), scaled(shape.thicknesses)) for shape in axes
        )
        for name, axes in fingerprint.shapes.items()
    }
    return replace(fingerprint, shapes=shapes)


def _with_labelled(case: CaseFingerprint, factor: float) -> CaseFingerprint:
    z, y, x = (round(count * factor) for count in case.labelled_slices)
    return replace(case, labelled_slices=(z, y, x))


def _widened(case: CaseFingerprint, axis: int) -> CaseFingerprint:
    def doubled(shape: tuple[int, int, int]) -> tuple[int, int, int]:
        z, y, x = (length if index == axis else 2 * length for index, length in enumerate(shape))
        return z, y, x

    return replace(case, shape=doubled(case.shape), cropped_shape=doubled(case.cropped_shape))


def _apart(case: CaseFingerprint, axis: int, factor: float) -> CaseFingerprint:
    z, y, x = (
        value * factor if index == axis else value for index, value in enumerate(case.spacing)
    )
    return replace(case, spacing=(z, y, x))
