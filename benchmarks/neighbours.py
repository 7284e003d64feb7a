"""What each decision of a plan could have been instead, as settings for `samnet_plan --set`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from samnet.core.records import to_json
from samnet.fingerprint.records import Fingerprint
from samnet.plan.configuration import CHOICES, Configuration, IntensityWindow
from samnet.plan.plan import Plan
from samnet.planning.memory import INPUT_SIZES, Meter
from samnet.planning.planner import make_plan
from samnet.planning.rules.facts import AXIS_NAMES, Facts
from samnet.planning.rules.intensity import HIGH, LOW

Settings = dict[str, Any]
PLANNED = "planned"
RANKS = (1, 4, 16)
SIZES = (INPUT_SIZES[0] // 2, *INPUT_SIZES)
LAYOUTS = {1: ("neighbours", "repeat"), 2: ("pair_mean", "stem"), 3: ("as_is", "stem")}


@dataclass(frozen=True)
class Choice:
    """One way to decide. plan: what comes of it, with all that the rules after it make of it.

    is_planned: whether it is what samnet would do by itself. follows: the other values it changes, by key.
    """

    name: str
    plan: Plan
    is_planned: bool
    follows: Settings


def zoom(facts: Facts, planned: Configuration) -> dict[str, Settings]:
    return {f"{factor:g} x": {"zoom": round(factor * planned.zoom, 3)} for factor in (0.5, 1, 2)}


def views(facts: Facts, planned: Configuration) -> dict[str, Settings]:
    """Slices across each axis alone, and of all three in one network."""
    if _is_flat(facts, planned):
        return {}
    single = {
        f"across {name}": {"slicing_axis": axis, "views": [axis]}
        for axis, name in enumerate(AXIS_NAMES)
    }
    return single | {"all three": {"slicing_axis": planned.slicing_axis, "views": [0, 1, 2]}}


def channels(facts: Facts, planned: Configuration) -> dict[str, Settings]:
    count = len(facts.fingerprint.channel_names)
    if count == 1 and _is_flat(facts, planned):
        return {}
    return {layout: {"channel_layout": layout} for layout in LAYOUTS.get(count, ())}


def window(facts: Facts, planned: Configuration) -> dict[str, Settings]:
    """The rules for the three kinds of data, each for all channels: CT's, that of scans without a scale, colours'."""
    foreground = [
        IntensityWindow("fixed", float(f"{values[0]:.6g}"), float(f"{values[-1]:.6g}"))
        for values in facts.fingerprint.foreground
    ]
    ranges = [
        IntensityWindow("fixed", *facts.intensity_range(index)) for index in range(len(foreground))
    ]
    each_image = [IntensityWindow("percentiles", LOW, HIGH)] * len(foreground)
    rules = {"data set's foreground": foreground, "each image": each_image, "full range": ranges}
    return {
        name: {"intensity": to_json(windows)}
        for name, windows in rules.items()
        if all(entry.lower < entry.upper for entry in windows)
    }


def rank(facts: Facts, planned: Configuration) -> dict[str, Settings]:
    if planned.encoder_tuning != "lora":
        return {}
    ranks = {f"rank {number}": {"lora_rank": number} for number in RANKS}
    return ranks | {"frozen": {"encoder_tuning": "frozen"}}


def heads(facts: Facts, planned: Configuration) -> dict[str, Settings]:
    return {name: {"head": name} for name in CHOICES["head"]}


def mirror(facts: Facts, planned: Configuration) -> dict[str, Settings]:
    return {
        "none": {"mirror_axes": []},
        "left-right": {"mirror_axes": [2]},
        "every axis": {"mirror_axes": [0, 1, 2]},
    }


def input_size(facts: Facts, planned: Configuration) -> dict[str, Settings]:
    """The next smaller and larger one; the zoom follows, so that slices fill each."""
    smaller = max((size for size in SIZES if size < planned.input_size), default=planned.input_size)
    larger = min((size for size in SIZES if size > planned.input_size), default=planned.input_size)
    return {
        str(size): {"input_size": size} for size in sorted({smaller, planned.input_size, larger})
    }


def augmentation(facts: Facts, planned: Configuration) -> dict[str, Settings]:
    return {name: {"augmentation": name} for name in ("planned", "none")}


Neighbours = Callable[[Facts, Configuration], dict[str, Settings]]
DECISIONS: dict[str, Neighbours] = {
    "zoom": zoom,
    "views": views,
    "channels": channels,
    "window": window,
    "rank": rank,
    "heads": heads,
    "mirror": mirror,
    "input_size": input_size,
    "augmentation": augmentation,
}


def find_choices(
    decision: str, plan: Plan, fingerprint: Fingerprint, name: str, measure: Meter | None = None
) -> list[Choice]:
    """All choices for a decision of a named configuration, the plan's own among them; none where it has no other.

    plan: as samnet makes it from the fingerprint by itself. measure: the memory of a training step, as the plan's.

    Raises:
        UserError: there is no such configuration.
    """
    planned = plan.configuration(name)
    choices: dict[Configuration, Choice] = {}
    for label, settings in DECISIONS[decision](
        Facts(fingerprint, plan.machine, {}), planned
    ).items():
        other = make_plan(fingerprint, plan.machine, settings, measure)
        values = other.configuration(
            name
        )  # the planned ones where what is set is fixed by the configuration's name
        changed = _differences(planned, values)
        follows = {key: value for key, value in changed.items() if key not in settings}
        choices.setdefault(values, Choice(label, other, not changed, follows))
    if planned not in choices:
        choices = {planned: Choice(PLANNED, plan, True, {}), **choices}
    return list(choices.values()) if len(choices) > 1 else []


def _is_flat(facts: Facts, planned: Configuration) -> bool:
    return facts.is_2d_image or facts.flat_axis == planned.slicing_axis


def _differences(planned: Configuration, other: Configuration) -> Settings:
    before, after = to_json(planned), to_json(other)
    return {key: value for key, value in after.items() if value != before[key]}
