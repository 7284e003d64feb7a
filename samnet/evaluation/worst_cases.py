"""The cases with the lowest scores, by name: those to look at first."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from samnet.core.tables import WIDTH, shorten
from samnet.evaluation.summary import mean_dice, names_of_classes

NUM_SHOWN = 3
_SCORE_WIDTH = 6


@dataclass(frozen=True)
class LowScore:
    """A case, and its class with the lowest Dice.

    Attributes:
        case: Name of the case.
        dice: Mean Dice of its classes.
        worst_class: Name of the class with the lowest Dice.
        class_dice: The Dice of this class.
        finding: `missed` where the prediction lacks this class, `spurious` where the reference
            lacks it, else empty.
    """

    case: str
    dice: float
    worst_class: str
    class_dice: float
    finding: str


def worst_cases(summary: dict[str, Any], count: int = NUM_SHOWN) -> list[LowScore]:
    """Find the cases with the lowest mean Dice of their classes.

    Args:
        summary: The result of `summarize` or `read_summary`.
        count: How many cases at most.

    Returns:
        The cases, the worst one first, those of equal Dice by their names. A case without any class
        in either label map is not among them.
    """
    names = names_of_classes(summary)
    found = []
    for entry in summary["metric_per_case"]:
        known = {
            label: scores
            for label, scores in entry["metrics"].items()
            if not math.isnan(scores["Dice"])
        }
        if not known:
            continue
        dice = mean_dice([scores["Dice"] for scores in known.values()])
        worst = min(known, key=lambda label: known[label]["Dice"])
        finding = _finding(known[worst])
        found.append(LowScore(entry["case"], dice, names[worst], known[worst]["Dice"], finding))
    return sorted(found, key=lambda case: (case.dice, case.case))[:count]


def never_found(summary: dict[str, Any]) -> list[str]:
    """Return the classes that no prediction shows, though references do.

    Args:
        summary: The result of `summarize` or `read_summary`.

    Returns:
        Their names.
    """
    names = names_of_classes(summary)
    found = []
    for label, presence in summary.get("presence", {}).items():
        num_shown = presence["cases"] - presence["spurious"]
        if num_shown > 0 and presence["missed"] == num_shown and presence["spurious"] == 0:
            found.append(names[label])
    return found


def _finding(scores: dict[str, float]) -> str:
    if scores["n_pred"] == 0:
        return "missed"
    return "spurious" if scores["n_ref"] == 0 else ""


def format_worst_cases(summary: dict[str, Any], count: int = NUM_SHOWN) -> str:
    """Return the worst cases as lines for the screen, of at most 80 columns.

    Args:
        summary: The result of `summarize` or `read_summary`.
        count: How many cases at most.

    Returns:
        Plain text; empty where no case has a Dice.
    """
    worst = worst_cases(summary, count)
    if not worst:
        return ""
    rows = [("worst cases", "Dice", "lowest class")]
    for case in worst:
        detail = f"{case.worst_class} {case.class_dice:.4f} {case.finding}".rstrip()
        rows.append((case.case, f"{case.dice:.4f}", detail))
    longest = max(len(name) for name, _, _ in rows)
    width = min(longest, WIDTH // 2)
    room = WIDTH - width - _SCORE_WIDTH - 4
    lines = []
    for name, dice, detail in rows:
        cells = (shorten(name, width).ljust(width), dice.rjust(_SCORE_WIDTH), shorten(detail, room))
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)
