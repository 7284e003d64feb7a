"""What would change a plan: its rules, applied to data and machines that differ in one thing."""

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
DISTANCES = {
    "with slices three times as far apart": 3.0,
    "with slices a third as far apart": 1 / 3,
}
AMOUNTS = {
    "with five times as many labelled slices": 5.0,
    "with a fifth of the labelled slices": 0.2,
}
WIDER = "with slices twice as wide and high"


@dataclass(frozen=True)
class Alternative:
    """Another value of a decision.

    Attributes:
        value: What would be decided.
        when: The conditions under which it would be, each by itself.
    """

    value: Any
    when: tuple[str, ...]


def find_alternatives(
    plan: Plan, fingerprint: Fingerprint, name: str
) -> dict[str, list[Alternative]]:
    """Find what each decision of a named configuration would be under other conditions.

    Values in which the plan differs from the rules by themselves are taken as given: a person set
    them, or they are smaller for lack of memory.

    Args:
        plan: The plan.
        fingerprint: The statistics of its data.
        name: The named configuration.

    Returns:
        The alternatives by key, for keys that have any.
    """
    decisions = plan.configuration_decisions(name)
    known = {key: entry for key, entry in decisions.items() if key not in SPLIT_KEYS}
    by_rules = all_decisions(name, fingerprint, plan.machine, {})
    given = {key: entry for key, entry in known.items() if not same_value(entry, by_rules.get(key))}
    expected = all_decisions(name, fingerprint, plan.machine, given)
    found: dict[str, dict[str, Alternative]] = {}
    for when, data, machine in _variations(plan, fingerprint):
        for key, decision in all_decisions(name, data, machine, given).items():
            if not same_value(decision, expected[key]):
                _add(found.setdefault(key, {}), decision.value, when)
    return {key: list(alternatives.values()) for key, alternatives in found.items()}


def _add(alternatives: dict[str, Alternative], value: Any, when: str) -> None:
    text = str(to_json(value))
    known = alternatives.get(text, Alternative(value, ()))
    alternatives[text] = replace(known, when=(*known.when, when))


def _variations(plan: Plan, fingerprint: Fingerprint) -> Iterator[tuple[str, Fingerprint, Machine]]:
    """Yield conditions in words, with the data and the machine under them."""
    axis, machine = plan.decisions["slicing_axis"].value, plan.machine
    for when, other in MACHINES.items():
        if other.device == "cuda":  # only its memory differs
            other = replace(other, multiprocessors=machine.multiprocessors)
        is_larger = other.device == "cuda" or machine.device != "cpu"
        if other != machine and is_larger:
            yield when, fingerprint, other
    for when, factor in SIZES.items():
        yield when, _with_shapes(fingerprint, factor), machine
    for when, factor in AMOUNTS.items():
        yield when, _with_cases(fingerprint, partial(_with_labelled, factor=factor)), machine
    yield WIDER, _with_cases(fingerprint, partial(_widened, axis=axis)), machine
    if fingerprint.is_2d:
        return
    for when, factor in DISTANCES.items():
        apart = partial(_apart, axis=axis, factor=factor)
        yield when, _with_cases(fingerprint, apart), machine
    facts = Facts(fingerprint, machine, {})
    all_ct = all(facts.is_ct(index) for index in range(facts.num_channels))
    kind = "MR" if all_ct else "CT"
    renamed = replace(fingerprint, channel_names=(kind,) * facts.num_channels)
    yield f"with channels called {kind}", renamed, machine


def _with_cases(
    fingerprint: Fingerprint, change: Callable[[CaseFingerprint], CaseFingerprint]
) -> Fingerprint:
    cases = {name: change(case) for name, case in fingerprint.cases.items()}
    return replace(fingerprint, cases=cases)


def _with_shapes(fingerprint: Fingerprint, factor: float) -> Fingerprint:
    shapes = {}
    for name, axes in fingerprint.shapes.items():
        shapes[name] = tuple(_scaled(shape, factor) for shape in axes)
    return replace(fingerprint, shapes=shapes)


def _scaled(shape: ShapeStatistics, factor: float) -> ShapeStatistics:
    diameters = tuple(value * factor for value in shape.diameters)
    thicknesses = tuple(value * factor for value in shape.thicknesses)
    return ShapeStatistics(diameters, thicknesses)


def _with_labelled(case: CaseFingerprint, factor: float) -> CaseFingerprint:
    z, y, x = (round(count * factor) for count in case.labelled_slices)
    return replace(case, labelled_slices=(z, y, x))


def _widened(case: CaseFingerprint, axis: int) -> CaseFingerprint:
    shape, cropped = _doubled(case.shape, axis), _doubled(case.cropped_shape, axis)
    return replace(case, shape=shape, cropped_shape=cropped)


def _doubled(shape: tuple[int, int, int], axis: int) -> tuple[int, int, int]:
    """Double a shape `(Z, Y, X)` along all axes except one."""
    z, y, x = (length if index == axis else 2 * length for index, length in enumerate(shape))
    return z, y, x


def _apart(case: CaseFingerprint, axis: int, factor: float) -> CaseFingerprint:
    z, y, x = (
        value * factor if index == axis else value for index, value in enumerate(case.spacing)
    )
    return replace(case, spacing=(z, y, x))
