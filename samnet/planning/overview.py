"""The decisions of a plan that matter most, on one screen."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

from samnet.core.records import to_json
from samnet.core.tables import WIDTH, align_columns
from samnet.fingerprint.records import Fingerprint
from samnet.plan.plan import Plan
from samnet.planning.rules.facts import AXIS_NAMES

FIRST = "lora"  # the configuration that is shown first
_SHOWN = (
    "backbone",
    "encoder_tuning",
    "lora_rank",
    "head",
    "input_size",
    "views",
    "depth",
    "batch_size",
    "learning_rate",
    "steps",
    "precision",
)
_COLUMNS = 4  # configurations side by side
_LONGEST_CELL = 14
_NAMES = 40  # characters of the names of classes and channels


def order_configurations(plan: Plan) -> list[str]:
    """Return the configurations of a plan, `lora` first and the others by name.

    Args:
        plan: The plan.
    """
    return sorted(plan.configurations, key=lambda name: (name != FIRST, name))


def overview(plan: Plan, fingerprint: Fingerprint, configurations: Sequence[str] = ()) -> str:
    """Write what the data are, and the main decisions of each configuration, side by side.

    Args:
        plan: The plan.
        fingerprint: The statistics of its data.
        configurations: The configurations to show; empty for all in the plan.

    Returns:
        A text of at most 80 columns.
    """
    names = list(configurations) or order_configurations(plan)
    parts = [f"{plan.dataset_name}, planned for {plan.machine}", _data(plan, fingerprint)]
    for first in range(0, len(names), _COLUMNS):
        parts.append(_table(plan, names[first : first + _COLUMNS]))
    return "\n\n".join(parts)


def _data(plan: Plan, fingerprint: Fingerprint) -> str:
    """Return two or three lines on the data and on how they are looked at."""
    folds = plan.decisions["folds"].value
    kind = "class" if plan.label_scheme.regions is None else "region"
    counts = (
        f"{len(fingerprint.cases)} cases in {folds} folds",
        _count(plan.channel_names, "channel"),
        _count(plan.label_scheme.class_names, kind),
    )
    windows = show_value(plan.decisions["intensity"].value)
    spacing = show_value(plan.decisions["in_plane_spacing"].value)
    lines = [
        "; ".join(counts),
        f"intensities: {windows}; spacing in plane: {spacing} {fingerprint.unit}",
    ]
    wrapped = [textwrap.fill(line, WIDTH, subsequent_indent="  ") for line in lines]
    return "\n".join(wrapped)


def _count(names: Sequence[str], kind: str) -> str:
    plural = kind if len(names) == 1 else f"{kind}{'es' if kind.endswith('s') else 's'}"
    listing = ", ".join(names)
    return f"{len(names)} {plural} ({textwrap.shorten(listing, _NAMES, placeholder=' ...')})"


def _table(plan: Plan, names: Sequence[str]) -> str:
    rows = [["", *names]]
    decisions = [plan.configuration_decisions(name) for name in names]
    for key in _SHOWN:
        cells = []
        for of_one in decisions:
            applies = key != "lora_rank" or of_one["encoder_tuning"].value == "lora"
            cells.append(_cell(key, of_one[key].value) if applies else "-")
        rows.append([key, *cells])
    return align_columns(rows)


def _cell(key: str, value: Any) -> str:
    text = ", ".join(AXIS_NAMES[axis] for axis in value) if key == "views" else show_value(value)
    return text if len(text) <= _LONGEST_CELL else f"{text[: _LONGEST_CELL - 2]}.."


def show_value(value: Any) -> str:
    """Return a value of a plan as a person reads it.

    Args:
        value: The value of a decision.
    """
    plain = to_json(value)
    if not isinstance(plain, list):
        return str(plain)
    if plain and isinstance(plain[0], dict):
        windows = [f"{entry['scheme']} {entry['lower']:g} to {entry['upper']:g}" for entry in plain]
        return "; ".join(dict.fromkeys(windows))
    return ", ".join(map(str, plain)) or "none"
