"""What the scores of many cases come to: `summary.json` in nnU-Net's form, a CSV, a table for the screen.

A summary is a dictionary with nnU-Net's keys `foreground_mean`, `mean` and `metric_per_case`, whose classes are
integers in memory, tuples of them for regions, and strings in the file, and keys of samnet's own, which nnU-Net's
readers pass over:

- `policy`, `nsd_tolerance`, `distance_unit`, `labels`: what the numbers mean;
- `std`, `foreground_std`: sample standard deviations over cases, NaN for a single case;
- `presence`: per class, how many cases count in its Dice, and in how many it is missed (in the reference only),
  spurious (in the prediction only) or absent (in neither);
- `skipped`, `failed`: the cases that are in none of the numbers, and why.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from samnet.core.errors import UserError
from samnet.core.files import read_json, write_json, write_text
from samnet.dataset.label_scheme import Label, LabelScheme
from samnet.evaluation.policies import DEFAULT_NSD_TOLERANCE_MM, STANDARD, find_policy

COUNTS = ("TP", "FP", "FN", "TN", "n_pred", "n_ref")
_KEYED_BY_CLASS = ("mean", "std", "presence")


@dataclass(frozen=True)
class CaseScores:
    """The scores of one case: value of a class, or values of a region -> name of the score -> value."""

    identifier: str
    prediction_file: Path
    reference_file: Path
    metrics: dict[Label, dict[str, float]]


@dataclass(frozen=True)
class Protocol:
    """How cases are scored.

    labels: name -> value, or values of a region, with the background.
    nsd_tolerance: in units of the spacing: mm, or pixels for pictures without a spacing.
    image_unit: of the images' spacing, `mm` or `pixels`.
    """

    label_scheme: LabelScheme
    policy: str = STANDARD
    nsd_tolerance: float = DEFAULT_NSD_TOLERANCE_MM
    image_unit: str = "mm"

    @property
    def classes(self) -> list[Label]:
        return list(self.label_scheme.foreground.values())

    @property
    def metric_names(self) -> tuple[str, ...]:
        return (*find_policy(self.policy).metrics, *COUNTS)

    @property
    def distance_unit(self) -> str:
        return find_policy(self.policy).distance_unit or self.image_unit


@dataclass(frozen=True)
class LeftOut:
    """Cases without scores: skipped on request, and failed with their reasons."""

    skipped: tuple[str, ...] = ()
    failed: dict[str, str] = field(default_factory=dict)


def summarize(
    cases: Sequence[CaseScores], protocol: Protocol, left_out: LeftOut | None = None
) -> dict[str, Any]:
    """Means and deviations over cases, as described at the top of this module.

    NaN is left out of the mean of a class, and a class that is NaN in every case out of the foreground's mean, which
    is the mean of the classes' means. The foreground's deviation is that of the cases' means over classes.
    """
    left_out = left_out or LeftOut()
    names, classes = protocol.metric_names, protocol.classes
    ordered = sorted(cases, key=lambda case: case.identifier)
    # (cases, classes, metrics)
    scores = np.array(
        [[[case.metrics[value][name] for name in names] for value in classes] for case in ordered],
        dtype=float,
    ).reshape(len(ordered), len(classes), len(names))
    mean = {value: _named(names, _mean, scores[:, index].T) for index, value in enumerate(classes)}
    per_case = [[_mean(row) for row in case.T] for case in scores]
    return {
        "foreground_mean": _named(
            names, _mean, [[mean[value][name] for value in classes] for name in names]
        ),
        "mean": mean,
        "metric_per_case": [_case_entry(case) for case in ordered],
        "policy": protocol.policy,
        "nsd_tolerance": protocol.nsd_tolerance,
        "distance_unit": protocol.distance_unit,
        "labels": dict(protocol.label_scheme.labels),
        "std": {
            value: _named(names, _deviation, scores[:, index].T)
            for index, value in enumerate(classes)
        },
        "foreground_std": _named(
            names, _deviation, np.reshape(per_case, (len(ordered), len(names))).T
        ),
        "presence": {
            value: _presence([case.metrics[value] for case in ordered]) for value in classes
        },
        "skipped": sorted(left_out.skipped),
        "failed": dict(sorted(left_out.failed.items())),
    }


def _named(
    names: Sequence[str],
    statistic: Callable[[Sequence[float]], float],
    rows: Iterable[Sequence[float]],
) -> dict[str, float]:
    return {name: statistic(row) for name, row in zip(names, rows, strict=True)}


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


def write_summary(summary: dict[str, Any], path: Path) -> None:
    """Write a summary as nnU-Net does: classes become strings, NaN the bare word `NaN`."""
    content = summary | {key: _with_text_keys(summary[key]) for key in _KEYED_BY_CLASS}
    content["metric_per_case"] = [
        case | {"metrics": _with_text_keys(case["metrics"])} for case in summary["metric_per_case"]
    ]
    write_json(path, content)


def _with_text_keys(content: dict[Label, Any]) -> dict[str, Any]:
    return {str(label): value for label, value in content.items()}


def read_summary(path: Path) -> dict[str, Any]:
    """Read a `summary.json` of samnet or nnU-Net; classes become integers, nnU-Net's regions tuples of integers.

    Raises:
        UserError: the file is missing, not JSON, or not a summary.
    """
    content = read_json(path)
    required = ("foreground_mean", "mean", "metric_per_case")
    missing = [key for key in required if not isinstance(content, dict) or key not in content]
    if missing:
        raise UserError(
            f"{path}: not an evaluation summary, {', '.join(missing)} missing; run samnet_evaluate again"
        )
    try:
        for key in _KEYED_BY_CLASS:
            if key in content:
                content[key] = _with_class_keys(content[key])
        if "labels" in content:
            content["labels"] = {
                name: tuple(label) if isinstance(label, list) else label
                for name, label in content["labels"].items()
            }
        for case in content["metric_per_case"]:
            case["metrics"] = _with_class_keys(case["metrics"])
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{path}: not an evaluation summary ({error}); run samnet_evaluate again"
        ) from None
    return content


def _with_class_keys(content: dict[str, Any]) -> dict[Label, Any]:
    return {_class_key(key): value for key, value in content.items()}


def _class_key(key: str) -> Label:
    if not key.startswith("("):
        return int(key)
    return tuple(int(part) for part in key.strip("()").split(",") if part.strip())


def write_csv(summary: dict[str, Any], path: Path) -> None:
    """One row a case and class; columns of distances name their unit, and what is NaN is empty."""
    names = list(summary["foreground_mean"])
    classes = _class_names(summary)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(
        ["case", "class", "label", *(_column(name, summary["distance_unit"]) for name in names)]
    )
    for case in summary["metric_per_case"]:
        for value, scores in case["metrics"].items():
            cells = ["" if math.isnan(scores[name]) else scores[name] for name in names]
            writer.writerow([case["case"], classes[value], value, *cells])
    write_text(path, text.getvalue())


def _column(name: str, unit: str) -> str:
    return f"{name}_{unit}" if name in ("HD95", "ASSD") else name


def _class_names(summary: dict[str, Any]) -> dict[Label, str]:
    return {value: name for name, value in summary["labels"].items()}


def format_table(summary: dict[str, Any]) -> str:
    """Mean and standard deviation of every class and score, as plain text for the screen."""
    metrics = find_policy(summary["policy"]).metrics
    rows = [
        ["class", "cases", *(_heading(name, summary) for name in metrics), "missed", "spurious"]
    ]
    names = _class_names(summary)
    for label, presence in summary["presence"].items():
        cells = [_cell(metric, summary["mean"][label], summary["std"][label]) for metric in metrics]
        rows.append(
            [
                names[label],
                str(presence["cases"]),
                *cells,
                str(presence["missed"]),
                str(presence["spurious"]),
            ]
        )
    cells = [
        _cell(metric, summary["foreground_mean"], summary["foreground_std"]) for metric in metrics
    ]
    totals = [
        str(sum(entry[key] for entry in summary["presence"].values()))
        for key in ("missed", "spurious")
    ]
    rows.append(["foreground mean", str(len(summary["metric_per_case"])), *cells, *totals])
    return _align(rows)


def _heading(name: str, summary: dict[str, Any]) -> str:
    if name == "NSD":
        return f"NSD ({summary['nsd_tolerance']:g} {summary['distance_unit']})"
    return f"{name} ({summary['distance_unit']})" if name in ("HD95", "ASSD") else name


def _cell(name: str, mean: dict[str, float], deviation: dict[str, float]) -> str:
    digits = 2 if name in ("HD95", "ASSD") else 4
    if math.isnan(mean[name]):
        return "-"
    spread = "" if math.isnan(deviation[name]) else f" +- {deviation[name]:.{digits}f}"
    return f"{mean[name]:.{digits}f}{spread}"


def _align(rows: list[list[str]]) -> str:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for row in rows:
        first, rest = row[0].ljust(widths[0]), zip(row[1:], widths[1:], strict=True)
        lines.append("  ".join([first, *(cell.rjust(width) for cell, width in rest)]).rstrip())
    rule = "-" * max(len(line) for line in lines)
    return "\n".join([lines[0], rule, *lines[1:-1], rule, lines[-1]])
