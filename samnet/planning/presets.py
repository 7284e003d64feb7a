"""The named configurations that samnet brings: JSON files in the folder `plans`.

Each fixes the values that make it what it is. The planner decides the others. A plan holds those
of samnet itself; the published ones of the papers are added when they are needed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from samnet.core.errors import UserError
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
    "single_slices": lambda facts: facts.is_2d or facts.flat_axis == facts.values["slicing_axis"],
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


def standard_names() -> list[str]:
    """Return the named configurations that every plan holds: all except the published ones."""
    return [name for name in configuration_names() if not _read(name).get("published", False)]


def check_names(names: Iterable[str]) -> None:
    """Check that samnet brings some configurations.

    Args:
        names: Their names.

    Raises:
        UserError: It does not bring one of them.
    """
    known = configuration_names()
    for name in names:
        if name not in known:
            raise UserError(f"there is no configuration {name!r}; choose from {', '.join(known)}")


def read_preset(name: str, facts: Facts) -> Preset:
    """Read a named configuration.

    Its file holds `values` that always apply, `values_for` some data, the `recipe`, and whether it
    is `published` by others.

    Args:
        name: The configuration.
        facts: What is known of data and machine, with the data set's decisions.

    Returns:
        What it fixes for these data.
    """
    content = _read(name)
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


def _read(name: str) -> dict[str, Any]:
    with resources.as_file(_folder() / f"{name}.json") as file:
        return read_json(file)
