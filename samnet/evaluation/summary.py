"""Means and deviations of the scores of many cases, and a table of them for the screen.

A summary is a dictionary with nnU-Net's keys `foreground_mean`, `mean` and `metric_per_case`. Its
classes are integers, and tuples of integers for regions; in the file they are strings. It has
further keys, which nnU-Net's readers ignore:

- `policy`, `nsd_tolerance`, `distance_unit`, `labels`: what the numbers mean;
- `std`, `foreground_std`: sample standard deviations over cases, NaN for a single case;
- `presence`: for each class, how many cases count in its Dice, and in how many it is missed (in the
  reference only), spurious (in the prediction only) or absent (in neither);
- `skipped`, `failed`: the cases that are in none of the numbers, and why.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from samnet.dataset.label_scheme import Label, LabelScheme
from samnet.evaluation.policies import DEFAULT_NSD_TOLERANCE_MM, STANDARD, find_policy

COUNTS = ("TP", "FP", "FN", "TN", "n_pred", "n_ref")
DISTANCES = ("HD95", "ASSD")
_DISTANCE_DIGITS = 2


@dataclass(frozen=True)
class CaseScores:
    """The scores of one case.

    Attributes:
        identifier: Name of the case.
        prediction_file: The predicted label map.
        reference_file: The true label map.
        metrics: Value of a class, or values of a region -> name of the score -> its value.
    """

    identifier: str
    prediction_file: Path
    reference_file: Path
    metrics: dict[Label, dict[str, float]]


@dataclass(frozen=True)
class Protocol:
    """How cases are scored.

    Attributes:
        label_scheme: The classes or regions.
        policy: Name of the rule by which scores are defined.
        nsd_tolerance: Distance up to which surfaces count as equal for the NSD, in units of the
            spacing: mm, or pixels or voxels for images without a spacing.
        image_unit: Unit of the spacing of the images: `mm`, or `pixels` (2D) or `voxels` where
            none is known.
    """

    label_scheme: LabelScheme
    policy: str = STANDARD
    nsd_tolerance: float = DEFAULT_NSD_TOLERANCE_MM
    image_unit: str = "mm"

    @property
    def classes(self) -> list[Label]:
        """The value of each foreground class, or the values of each region."""
        return list(self.label_scheme.foreground.values())

    @property
    def metric_names(self) -> tuple[str, ...]:
        """The names of all scores."""
        return (*find_policy(self.policy).metrics, *COUNTS)

    @property
    def distance_unit(self) -> str:
        """The unit of HD95 and ASSD: `mm`, `pixels` or `voxels`."""
        return find_policy(self.policy).distance_unit or self.image_unit


@dataclass(frozen=True)
class LeftOut:
    """Cases without scores.

    Attributes:
        skipped: Names of the cases that were skipped on request.
        failed: Name of a case that could not be scored -> the reason.
    """

    skipped: tuple[str, ...] = ()
    failed: dict[str, str] = field(default_factory=dict)


def summarize(
    cases: Sequence[CaseScores], protocol: Protocol, left_out: LeftOut | None = None
) -> dict[str, Any]:
    """Compute means and deviations over cases.

    A score that is NaN is left out of the mean of its class. The foreground's mean is the mean of
    the means of the classes, without classes that are NaN in every case. The foreground's deviation
    is that of the means that each case has over its classes.

    Args:
        cases: The scores of the cases, in any order.
        protocol: How they were scored.
        left_out: The cases without scores; None for none.

    Returns:
        The summary, as described at the top of this module. Its cases are sorted by name.
    """
    left_out = left_out or LeftOut()
    names, classes = protocol.metric_names, protocol.classes
    ordered = sorted(cases, key=lambda case: case.identifier)
    scores = _array_of_scores(ordered, classes, names)
    means, deviations, presence = {}, {}, {}
    for index, label in enumerate(classes):
        columns = dict(zip(names, scores[:, index].T, strict=True))
        means[label] = {name: _mean(column) for name, column in columns.items()}
        deviations[label] = {name: _deviation(column) for name, column in columns.items()}
        presence[label] = _presence([case.metrics[label] for case in ordered])
    foreground_means, foreground_deviations = {}, {}
    for index, name in enumerate(names):
        foreground_means[name] = _mean([means[label][name] for label in classes])
        foreground_deviations[name] = _deviation([_mean(case[:, index]) for case in scores])
    return {
        "foreground_mean": foreground_means,
        "mean": means,
        "metric_per_case": [_case_entry(case) for case in ordered],
        "policy": protocol.policy,
        "nsd_tolerance": protocol.nsd_tolerance,
        "distance_unit": protocol.distance_unit,
        "labels": dict(protocol.label_scheme.labels),
        "std": deviations,
        "foreground_std": foreground_deviations,
        "presence": presence,
        "skipped": sorted(left_out.skipped),
        "failed": dict(sorted(left_out.failed.items())),
    }


def _array_of_scores(
    cases: Sequence[CaseScores], classes: Sequence[Label], names: Sequence[str]
) -> np.ndarray:
    """Return the scores `(cases, classes, names)`."""
    scores = np.empty((len(cases), len(classes), len(names)))
    for row, case in enumerate(cases):
        for column, label in enumerate(classes):
            values = case.metrics[label]
            scores[row, column] = [values[name] for name in names]
    return scores


def _mean(values: Sequence[float] | np.ndarray) -> float:
    known = _known(values)
    return float(known.mean()) if known.size else math.nan


def _deviation(values: Sequence[float] | np.ndarray) -> float:
    known = _known(values)
    return float(known.std(ddof=1)) if known.size > 1 else math.nan


def _known(values: Sequence[float] | np.ndarray) -> np.ndarray:
    array = np.asarray(values, dtype=float)
    return array[~np.isnan(array)]


def _case_entry(case: CaseScores) -> dict[str, Any]:
    return {
        "metrics": case.metrics,
        "prediction_file": str(case.prediction_file),
        "reference_file": str(case.reference_file),
        "case": case.identifier,
    }


def _presence(metrics: Sequence[dict[str, float]]) -> dict[str, int]:
    return {
        "cases": sum(not math.isnan(scores["Dice"]) for scores in metrics),
        "missed": sum(scores["n_ref"] > 0 and scores["n_pred"] == 0 for scores in metrics),
        "spurious": sum(scores["n_ref"] == 0 and scores["n_pred"] > 0 for scores in metrics),
        "absent": sum(scores["n_ref"] == 0 and scores["n_pred"] == 0 for scores in metrics),
    }


def names_of_classes(summary: dict[str, Any]) -> dict[Label, str]:
    """Return the name of each class or region of a summary.

    Args:
        summary: The summary.

    Returns:
        Value of a class, or values of a region -> its name.
    """
    return {label: name for name, label in summary["labels"].items()}


def format_table(summary: dict[str, Any]) -> str:
    """Return mean and standard deviation of every score as a table for the screen.

    Args:
        summary: The result of `summarize`.

    Returns:
        Plain text with a row for each class, and one for the foreground.
    """
    metrics = find_policy(summary["policy"]).metrics
    headings = [_heading(name, summary) for name in metrics]
    rows = [["class", "cases", *headings, "missed", "spurious"]]
    names = names_of_classes(summary)
    for label, presence in summary["presence"].items():
        mean, deviation = summary["mean"][label], summary["std"][label]
        cells = [_cell(metric, mean, deviation) for metric in metrics]
        counts = [str(presence["missed"]), str(presence["spurious"])]
        rows.append([names[label], str(presence["cases"]), *cells, *counts])
    mean, deviation = summary["foreground_mean"], summary["foreground_std"]
    cells = [_cell(metric, mean, deviation) for metric in metrics]
    totals = [_total(summary, "missed"), _total(summary, "spurious")]
    rows.append(["foreground mean", str(len(summary["metric_per_case"])), *cells, *totals])
    return _align(rows)


def _total(summary: dict[str, Any], key: str) -> str:
    return str(sum(presence[key] for presence in summary["presence"].values()))


def _heading(name: str, summary: dict[str, Any]) -> str:
    if name == "NSD":
        return f"NSD ({summary['nsd_tolerance']:g} {summary['distance_unit']})"
    return f"{name} ({summary['distance_unit']})" if name in DISTANCES else name


def _cell(name: str, mean: dict[str, float], deviation: dict[str, float]) -> str:
    digits = _DISTANCE_DIGITS if name in DISTANCES else 4
    if math.isnan(mean[name]):
        return "-"
    spread = "" if math.isnan(deviation[name]) else f" +- {_show(deviation[name], digits)}"
    return f"{_show(mean[name], digits)}{spread}"


def _show(value: float, digits: int) -> str:
    """Return a number with some decimals, or with three digits where these would show next to none.

    Distances in microscopy are thousandths of a millimetre.
    """
    is_tiny = 0 < abs(value) < 10.0 ** (1 - digits) and digits == _DISTANCE_DIGITS
    return f"{value:.3g}" if is_tiny else f"{value:.{digits}f}"


def _align(rows: list[list[str]]) -> str:
    """Join the rows into lines: names to the left, numbers to the right, a rule around classes."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = [row[0].ljust(widths[0])]
        for cell, width in zip(row[1:], widths[1:], strict=True):
            cells.append(cell.rjust(width))
        lines.append("  ".join(cells).rstrip())
    rule = "-" * max(map(len, lines))
    return "\n".join([lines[0], rule, *lines[1:-1], rule, lines[-1]])
