"""The alternatives to each decision of a plan, as settings for `samnet_plan --set`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from samnet.core.records import to_json
from samnet.fingerprint.records import Fingerprint
from samnet.models.heads import HEADS
from samnet.plan.configuration import Configuration, IntensityWindow
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
    """One way to decide.

    Attributes:
        name: Name of the choice.
        plan: The plan with this choice, and with everything that later rules derive from it.
        is_planned: Whether samnet chooses this without settings.
        follows: The other values that the choice changes, by key.
    """

    name: str
    plan: Plan
    is_planned: bool
    follows: Settings


def zoom(facts: Facts, planned: Configuration) -> dict[str, Settings]:
    """Return half, once and twice the planned zoom.

    Args:
        facts: The facts that the rules of the planner use.
        planned: The planned configuration.

    Returns:
        Name of the choice -> settings.
    """
    return {f"{factor:g} x": {"zoom": round(factor * planned.zoom, 3)} for factor in (0.5, 1, 2)}


def views(facts: Facts, planned: Configuration) -> dict[str, Settings]:
    """Return slices across each axis alone, and across all three axes in one network.

    Args:
        facts: The facts that the rules of the planner use.
        planned: The planned configuration.

    Returns:
        Name of the choice -> settings; empty for data of single slices.
    """
    if _is_flat(facts, planned):
        return {}
    single = {
        f"across {name}": {"slicing_axis": axis, "views": [axis]}
        for axis, name in enumerate(AXIS_NAMES)
    }
    return single | {"all three": {"slicing_axis": planned.slicing_axis, "views": [0, 1, 2]}}


def channels(facts: Facts, planned: Configuration) -> dict[str, Settings]:
    """Return the ways to fill the encoder's three input channels.

    Args:
        facts: The facts that the rules of the planner use.
        planned: The planned configuration.

    Returns:
        Name of the choice -> settings; empty where the number of channels leaves no choice.
    """
    count = len(facts.fingerprint.channel_names)
    if count == 1 and _is_flat(facts, planned):
        return {}
    return {layout: {"channel_layout": layout} for layout in LAYOUTS.get(count, ())}


def window(facts: Facts, planned: Configuration) -> dict[str, Settings]:
    """Return the intensity windows of CT, of scans without a scale and of colours.

    Each is applied to all channels.

    Args:
        facts: The facts that the rules of the planner use.
        planned: The planned configuration.

    Returns:
        Name of the choice -> settings, without windows that are empty.
    """
    foreground = [
        IntensityWindow("fixed", float(f"{values[0]:.6g}"), float(f"{values[-1]:.6g}"))
        for values in facts.fingerprint.foreground
    ]
    ranges = [
        IntensityWindow("fixed", *facts.intensity_range(index)) for index in range(len(foreground))
    ]
    each_image = [IntensityWindow("percentiles", LOW, HIGH)] * len(foreground)
    rules = {"data set's foreground": foreground, "each image": each_image, "full range": ranges}
    choices: dict[str, Settings] = {}
    for name, windows in rules.items():
        if all(entry.lower < entry.upper for entry in windows):
            choices[name] = {"intensity": to_json(windows)}
    return choices


def rank(facts: Facts, planned: Configuration) -> dict[str, Settings]:
    """Return several ranks of LoRA, and a frozen encoder.

    Args:
        facts: The facts that the rules of the planner use.
        planned: The planned configuration.

    Returns:
        Name of the choice -> settings; empty for a configuration without LoRA.
    """
    if planned.encoder_tuning != "lora":
        return {}
    ranks = {f"rank {number}": {"lora_rank": number} for number in RANKS}
    return ranks | {"frozen": {"encoder_tuning": "frozen"}}


def heads(facts: Facts, planned: Configuration) -> dict[str, Settings]:
    """Return all heads.

    Args:
        facts: The facts that the rules of the planner use.
        planned: The planned configuration.

    Returns:
        Name of the choice -> settings.
    """
    return {name: {"head": name} for name in HEADS}


def mirror(facts: Facts, planned: Configuration) -> dict[str, Settings]:
    """Return no mirroring, left-right only, and all axes.

    Args:
        facts: The facts that the rules of the planner use.
        planned: The planned configuration.

    Returns:
        Name of the choice -> settings.
    """
    return {
        "none": {"mirror_axes": []},
        "left-right": {"mirror_axes": [2]},
        "every axis": {"mirror_axes": [0, 1, 2]},
    }


def input_size(facts: Facts, planned: Configuration) -> dict[str, Settings]:
    """Return the planned input size, the next smaller one and the next larger one.

    The zoom follows, so that slices fill each of them.

    Args:
        facts: The facts that the rules of the planner use.
        planned: The planned configuration.

    Returns:
        Name of the choice -> settings.
    """
    smaller = max((size for size in SIZES if size < planned.input_size), default=planned.input_size)
    larger = min((size for size in SIZES if size > planned.input_size), default=planned.input_size)
    sizes = sorted({smaller, planned.input_size, larger})
    return {str(size): {"input_size": size} for size in sizes}


def augmentation(facts: Facts, planned: Configuration) -> dict[str, Settings]:
    """Return the planned augmentation, and none.

    Args:
        facts: The facts that the rules of the planner use.
        planned: The planned configuration.

    Returns:
        Name of the choice -> settings.
    """
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
    """Return all choices for a decision, the plan's own among them.

    Args:
        decision: Name of the decision.
        plan: The plan that samnet makes of the fingerprint without settings.
        fingerprint: The fingerprint of the data set.
        name: Name of the configuration.
        measure: Measures the memory of a training step; the same that the plan was made with.

    Returns:
        The choices; empty where there is no alternative to the plan's.

    Raises:
        UserError: There is no such configuration.
    """
    planned = plan.configuration(name)
    alternatives = DECISIONS[decision](Facts(fingerprint, plan.machine, {}), planned)
    choices: dict[Configuration, Choice] = {}
    for label, settings in alternatives.items():
        other = make_plan(fingerprint, plan.machine, settings, measure, [name])
        # A configuration fixes some values by its name. Settings do not change these, so the
        # result may be equal to the planned configuration or to that of another choice.
        values = other.configuration(name)
        changed = _differences(planned, values)
        follows = {key: value for key, value in changed.items() if key not in settings}
        choices.setdefault(values, Choice(label, other, not changed, follows))
    if planned not in choices:
        choices = {planned: Choice(PLANNED, plan, True, {}), **choices}
    return list(choices.values()) if len(choices) > 1 else []


def _is_flat(facts: Facts, planned: Configuration) -> bool:
    return facts.is_2d or facts.flat_axis == planned.slicing_axis


def _differences(planned: Configuration, other: Configuration) -> Settings:
    before, after = to_json(planned), to_json(other)
    return {key: value for key, value in after.items() if value != before[key]}
