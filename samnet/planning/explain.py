"""The plan as a table a person can read."""

from __future__ import annotations

import shutil
import textwrap
from typing import Any

from samnet.core.records import to_json
from samnet.fingerprint.records import Fingerprint
from samnet.plan.plan import Decision, Plan
from samnet.planning.alternatives import Alternative, what_would_change

FIRST = "lora"


def explain(plan: Plan, fingerprint: Fingerprint) -> str:
    """Every decision with its value, reason and rule: the data set's, those of `lora`, and where the others differ.

    The data set's and those of `lora` also with what would change them.
    """
    names = sorted(plan.configurations, key=lambda name: (name != FIRST, name))
    others = what_would_change(plan, fingerprint, FIRST) if FIRST in names else {}
    sections = [f"{plan.dataset_name}, planned for {plan.machine}", "", *_regions(plan)]
    sections += _table(plan.decisions, others)
    known: dict[str, Decision] = {}
    for name in names:
        decisions = (
            plan.configuration_decisions(name) if known else plan.configurations[name].decisions
        )
        shown = {
            key: decision
            for key, decision in decisions.items()
            if not _is_known(decision, known.get(key))
        }
        sections += ["", f"configuration {name}: {plan.configurations[name].description}"]
        sections += [f"  as {names[0]}{', but for' if shown else ''}"] if known else []
        sections += ["", *_table(shown, {} if known else others)] if shown else []
        known = known or plan.configuration_decisions(name)
    return "\n".join(sections)


def _regions(plan: Plan) -> list[str]:
    """What the network is trained to find, where that is not the labels one by one."""
    if plan.regions is None:
        return []
    rows = zip(plan.class_names, plan.regions.label_sets, plan.regions.class_order, strict=True)
    lines = [
        f"  {name} = {', '.join(map(str, values))}, written as {label}"
        for name, values, label in rows
    ]
    return [
        "regions, each an output of its own; later ones are written over earlier ones",
        "",
        *lines,
        "",
    ]


def _is_known(decision: Decision, known: Decision | None) -> bool:
    return known is not None and to_json(decision.value) == to_json(known.value)


def _table(decisions: dict[str, Decision], others: dict[str, list[Alternative]]) -> list[str]:
    width = max(60, min(160, shutil.get_terminal_size((120, 24)).columns))
    lines = []
    for key, decision in decisions.items():
        lines.append(f"  {key} = {_show(decision.value)}")
        texts = [f"because {decision.because} [{decision.rule}]"]
        if key in others:
            found = [f"{_show(other.value)} {' or '.join(other.when)}" for other in others[key]]
            texts.append(f"would be {'; '.join(found)}")
        for text in texts:
            lines += textwrap.wrap(text, width, initial_indent="      ", subsequent_indent="      ")
    return lines


def _show(value: Any) -> str:
    plain = to_json(value)
    if isinstance(plain, list) and plain and isinstance(plain[0], dict):
        return "; ".join(
            f"{entry['scheme']} {entry['lower']:g} to {entry['upper']:g}" for entry in plain
        )
    if isinstance(plain, list):
        return ", ".join(map(str, plain)) or "none"
    return str(plain)
