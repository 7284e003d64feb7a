"""The plan as a table that a person can read."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Sequence

from samnet.core.records import to_json
from samnet.core.tables import WIDTH
from samnet.fingerprint.records import Fingerprint
from samnet.plan.plan import Decision, Plan
from samnet.planning.alternatives import Alternative, find_alternatives
from samnet.planning.overview import order_configurations, overview, show_value
from samnet.planning.presets import configuration_names
from samnet.planning.requested import names_on_request

_INDENT = " " * 6


def explain(plan: Plan, fingerprint: Fingerprint, configurations: Sequence[str] = ()) -> str:
    """Write every decision with its value, reason and rule into a text for the terminal.

    It begins with an overview. Then come the decisions of the data set and of the first
    configuration, `lora` unless others are given, with what would change them. Then it shows where
    the other configurations differ, and names those that can be planned on request.

    Args:
        plan: The plan.
        fingerprint: The statistics of its data.
        configurations: The configurations to explain; empty for all in the plan.

    Returns:
        The text.
    """
    names = list(configurations) or order_configurations(plan)
    is_named = names[0] in configuration_names()  # the rules know no others
    alternatives = find_alternatives(plan, fingerprint, names[0]) if is_named else {}
    lines = [overview(plan, fingerprint, configurations), "", *_regions(plan)]
    lines += _table(plan.decisions, alternatives)
    known: dict[str, Decision] = {}
    for name in names:
        lines += ["", f"configuration {name}: {plan.configurations[name].description}"]
        if not known:
            known = plan.configuration_decisions(name)
            own = plan.configurations[name].decisions
            lines += ["", *_table(own, alternatives)]
            continue
        differing = _differing(plan.configuration_decisions(name), known)
        lines.append(f"  as {names[0]}{', except' if differing else ''}")
        lines += ["", *_table(differing, {})] if differing else []
    on_request = ", ".join(names_on_request(plan))
    if on_request and not configurations:
        lines += ["", f"planned when they are trained, or with -c: {on_request}"]
    return "\n".join(lines)


def _regions(plan: Plan) -> list[str]:
    """List what the network is trained to find, where that is not the labels one by one."""
    scheme = plan.label_scheme
    if scheme.regions is None:
        return []
    lines = ["regions, each an output of its own; later ones are written over earlier ones", ""]
    rows = zip(scheme.class_names, scheme.label_sets, scheme.regions_class_order, strict=True)
    for name, values, label in rows:
        lines.append(f"  {name} = {', '.join(map(str, values))}, written as {label}")
    return [*lines, ""]


def _differing(decisions: dict[str, Decision], known: dict[str, Decision]) -> dict[str, Decision]:
    found = {}
    for key, decision in decisions.items():
        other = known.get(key)
        if other is None or to_json(decision.value) != to_json(other.value):
            found[key] = decision
    return found


def _table(decisions: dict[str, Decision], alternatives: dict[str, list[Alternative]]) -> list[str]:
    width = max(60, min(160, shutil.get_terminal_size((WIDTH, 24)).columns))
    lines = []
    for key, decision in decisions.items():
        lines.append(f"  {key} = {show_value(decision.value)}")
        texts = [f"because {decision.because} [{decision.rule}]"]
        if key in alternatives:
            found = [
                f"{show_value(entry.value)} {' or '.join(entry.when)}"
                for entry in alternatives[key]
            ]
            texts.append(f"would be {'; '.join(found)}")
        for text in texts:
            wrapped = textwrap.wrap(text, width, initial_indent=_INDENT, subsequent_indent=_INDENT)
            lines += wrapped
    return lines
