"""The scores of cases, as `samnet.train` and `samnet.evaluate` return them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from samnet.evaluation.summary import names_of_classes
from samnet.evaluation.tables import format_table
from samnet.evaluation.worst_cases import LowScore, worst_cases


@dataclass(frozen=True)
class MeanScore:
    """The mean of a score over cases, with the 95 % interval of that mean.

    Attributes:
        mean: The mean; NaN where no case has the score.
        low: Lower end of the interval; NaN where it is not known, as of a single patient.
        high: Upper end of the interval; NaN likewise.
    """

    mean: float
    low: float = math.nan
    high: float = math.nan

    def __str__(self) -> str:
        if math.isnan(self.low):
            return f"{self.mean:.4f}"
        return f"{self.mean:.4f} ({self.low:.4f} to {self.high:.4f})"


@dataclass(frozen=True)
class Scores:
    """The scores of cases whose references are known.

    Distances are in mm and volumes in mL, or in pixels or voxels where no spacing is known
    (`summary["distance_unit"]`, `summary["volume_unit"]`).

    Attributes:
        cases: Name of a case -> name of a class -> name of a score, such as `Dice` -> its value;
            NaN where it is not defined, as the Dice of a class that is in neither label map.
        classes: Name of a class -> name of a score -> its mean over cases.
        foreground: Name of a score -> the mean over the classes.
        worst_cases: All cases with a Dice, the one with the lowest mean Dice first.
        failed: Name of a case that could not be scored -> why.
        skipped: Names of the cases without prediction or reference that were left out.
        summary: All numbers, in the form of `summary.json`.
    """

    cases: dict[str, dict[str, dict[str, float]]]
    classes: dict[str, dict[str, MeanScore]]
    foreground: dict[str, MeanScore]
    worst_cases: tuple[LowScore, ...]
    failed: dict[str, str]
    skipped: tuple[str, ...]
    summary: dict[str, Any]

    @property
    def dice(self) -> float:
        """The mean Dice over the classes of the foreground."""
        return self.foreground["Dice"].mean

    def __str__(self) -> str:
        """Return the tables that `samnet_evaluate` prints."""
        return format_table(self.summary)

    def __repr__(self) -> str:
        return f"Scores({len(self.cases)} cases, Dice {self.foreground['Dice']})"


def scores_of(summary: dict[str, Any]) -> Scores:
    """Return the scores of a summary by names.

    Args:
        summary: The result of `samnet.evaluation.summary.summarize` or `read_summary`.
    """
    names = names_of_classes(summary)
    cases = {}
    for entry in summary["metric_per_case"]:
        values = {names[label]: dict(scores) for label, scores in entry["metrics"].items()}
        cases[entry["case"]] = values
    classes = {}
    intervals = summary.get("interval", {})
    for label, means in summary["mean"].items():
        classes[names[label]] = _with_intervals(means, intervals.get(label, {}))
    return Scores(
        cases,
        classes,
        _with_intervals(summary["foreground_mean"], summary.get("foreground_interval", {})),
        tuple(worst_cases(summary, len(cases))),
        dict(summary.get("failed", {})),
        tuple(summary.get("skipped", ())),
        summary,
    )


def _with_intervals(
    means: dict[str, float], intervals: dict[str, list[float]]
) -> dict[str, MeanScore]:
    return {name: MeanScore(mean, *intervals.get(name, ())) for name, mean in means.items()}
