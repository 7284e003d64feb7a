"""The named configurations that samnet brings: JSON files in the folder `plans`.

Each fixes the values that make it what it is. The planner decides the others.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

from samnet.core.files import read_json
from samnet.core.records import from_json
from samnet.plan.checks import check_value
from samnet.plan.plan import Decision
from samnet.planning.rules.facts import Facts, Recipe

DEFINITION = "configuration"  # the rule of a value that makes a named configuration what it is


@dataclass(frozen=True)
class Preset:
    """A named configuration.

    Attributes:
        decisions: The decisions that make it what it is, by key.
        recipe: What it says of the length of its training.
        description: What it is, in a few words.
    """

    decisions: dict[str, Decision]
    recipe: Recipe
    description: str


_CONDITIONS: dict[str, Callable[[Facts], bool]] = {
    "one_channel": lambda facts: facts.num_channels == 1,
    "ct": lambda facts: facts.num_channels == 1 and facts.is_ct(0),
    "across_z": lambda facts: facts.values["slicing_axis"] == 0,
    "across_y": lambda facts: facts.values["slicing_axis"] == 1,
    "across_x": lambda facts: facts.values["slicing_axis"] == 2,
}


def _folder() -> Traversable:
    """Return the folder of the named configurations, installed or in a checkout that is not."""
    try:
        return resources.files("samnet.plans")
    except ModuleNotFoundError:
        return Path(__file__).resolve().parents[2] / "plans"


def configuration_names() -> list[str]:
    """Return the named configurations that samnet brings, without those a user adds to a plan."""
    names = [entry.name for entry in _folder().iterdir()]
    return sorted(name.removesuffix(".json") for name in names if name.endswith(".json"))


def read_preset(name: str, facts: Facts) -> Preset:
    """Read a named configuration.

    Its file holds `values` that always apply, `values_for` some data, and the `recipe`.

    Args:
        name: The configuration.
        facts: What is known of data and machine, with the data set's decisions.

    Returns:
        What it fixes for these data.
    """
    with resources.as_file(_folder() / f"{name}.json") as file:
        content = read_json(file)
    values = dict(content["values"])
    for condition, conditional_values in content.get("values_for", {}).items():
        if _CONDITIONS[condition](facts):
            values |= conditional_values
    rule = f"{DEFINITION} {name}"
    decisions = {
        key: Decision(check_value(key, value, f"{name}.json"), content["because"], rule)
        for key, value in values.items()
    }
    recipe = from_json(Recipe, content.get("recipe", {}), f"{name}.json: recipe")
    return Preset(decisions, recipe, content["description"])
