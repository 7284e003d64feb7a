"""The plan as a table a person can read."""

from __future__ import annotations

import shutil
import textwrap
from typing import Any

from samnet.core.records import to_json
from samnet.planning.plan import Decision, Plan


def explain(plan: Plan) -> str:
    """Every decision with its value, reason and rule: the data set's first, then each configuration's own."""
    sections = [f"{plan.dataset_name}, planned for {plan.machine}", "", *_table(plan.decisions)]
    for name, configuration in sorted(plan.configurations.items()):
        inherited = f", inherits from {configuration.inherit}" if configuration.inherit else ""
        sections += ["", f"configuration {name}{inherited}: {configuration.description}", ""]
        sections += _table(configuration.decisions)
    return "\n".join(sections)


def _table(decisions: dict[str, Decision]) -> list[str]:
    width = max(60, min(160, shutil.get_terminal_size((120, 24)).columns))
    lines = []
    for key, decision in decisions.items():
        head = f"  {key} = {_show(decision.value)}"
        lines.append(head)
        reason = f"because {decision.because} [{decision.rule}]"
        lines += textwrap.wrap(reason, width, initial_indent="      ", subsequent_indent="      ")
    return lines


def _show(value: Any) -> str:
    plain = to_json(value)
    if isinstance(plain, list) and plain and isinstance(plain[0], dict):
        return "; ".join(f"{entry['scheme']} {entry['lower']:g} to {entry['upper']:g}" for entry in plain)
    return ", ".join(map(str, plain)) if isinstance(plain, list) else str(plain)
