"""The named configurations samnet brings: JSON files that fix what makes each of them what it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources

from samnet.core.files import read_json
from samnet.core.records import from_json
from samnet.plan.configuration import check_value
from samnet.plan.plan import Decision
from samnet.planning.rules.facts import Facts, Recipe

DEFINITION = "configuration"  # the rule of a value that makes a named configuration what it is


def configuration_names() -> list[str]:
    """The named configurations samnet brings, without those a user adds to a plan."""
    names = (entry.name for entry in resources.files("samnet.plans").iterdir())
    return sorted(name.removesuffix(".json") for name in names if name.endswith(".json"))


@dataclass(frozen=True)
class Named:
    """A named configuration: the decisions that make it what it is, its recipe and its description."""

    decisions: dict[str, Decision]
    recipe: Recipe
    description: str


_CONDITIONS: dict[str, Callable[[Facts], bool]] = {
    "one_channel": lambda facts: len(facts.fingerprint.channel_names) == 1,
    "ct": lambda facts: len(facts.fingerprint.channel_names) == 1 and facts.is_ct(0),
    "across_z": lambda facts: facts.values["slicing_axis"] == 0,
    "across_y": lambda facts: facts.values["slicing_axis"] == 1,
    "across_x": lambda facts: facts.values["slicing_axis"] == 2,
}


def read_named(name: str, facts: Facts) -> Named:
    """Read `plans/NAME.json`: `values` that always hold, `values_for` some data, and the `recipe`."""
    with resources.as_file(resources.files("samnet.plans") / f"{name}.json") as file:
        named = read_json(file)
    values = dict(named["values"])
    for condition, more in named.get("values_for", {}).items():
        if _CONDITIONS[condition](facts):
            values |= more
    fixed = {
        key: Decision(
            check_value(key, value, f"{name}.json"), named["because"], f"{DEFINITION} {name}"
        )
        for key, value in values.items()
    }
    return Named(
        fixed,
        from_json(Recipe, named.get("recipe", {}), f"{name}.json: recipe"),
        named["description"],
    )
