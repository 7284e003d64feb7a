"""The files of a summary: `summary.json` in nnU-Net's form, and a CSV with a row for each class."""

from __future__ import annotations

import csv
import io
import math
from pathlib import Path
from typing import Any

from samnet.core.errors import UserError
from samnet.core.files import read_json, write_json, write_text
from samnet.dataset.label_scheme import Label
from samnet.evaluation.policies import VOLUMES
from samnet.evaluation.summary import DISTANCES, names_of_classes

_KEYED_BY_CLASS = ("mean", "std", "median", "interval", "presence")


def write_summary(summary: dict[str, Any], path: Path) -> None:
    """Write a summary as nnU-Net does: classes become strings, and NaN the bare word `NaN`.

    Args:
        summary: The result of `summarize`.
        path: The JSON file.
    """
    content = dict(summary)
    for key in _KEYED_BY_CLASS:
        if key in summary:
            content[key] = _with_text_keys(summary[key])
    content["metric_per_case"] = [
        case | {"metrics": _with_text_keys(case["metrics"])} for case in summary["metric_per_case"]
    ]
    write_json(path, content)


def _with_text_keys(content: dict[Label, Any]) -> dict[str, Any]:
    return {str(label): value for label, value in content.items()}


def read_summary(path: Path) -> dict[str, Any]:
    """Read a `summary.json` of samnet or nnU-Net.

    Args:
        path: The file.

    Returns:
        The summary. Its classes are integers, and its regions tuples of integers.

    Raises:
        UserError: The file is missing, is not JSON, or is not a summary.
    """
    content = read_json(path)
    required = ("foreground_mean", "mean", "metric_per_case")
    missing = [key for key in required if not isinstance(content, dict) or key not in content]
    if missing:
        raise UserError(
            f"{path}: not an evaluation summary, {', '.join(missing)} missing; run samnet_evaluate "
            "again"
        )
    try:
        _convert_keys(content)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{path}: not an evaluation summary ({error}); run samnet_evaluate again"
        ) from None
    return content


def _convert_keys(content: dict[str, Any]) -> None:
    """Turn the classes of a file's content into integers and tuples, in place."""
    for key in _KEYED_BY_CLASS:
        if key in content:
            content[key] = _with_class_keys(content[key])
    if "labels" in content:
        # JSON has no tuples, so regions come back as lists.
        content["labels"] = {
            name: tuple(label) if isinstance(label, list) else label
            for name, label in content["labels"].items()
        }
    for case in content["metric_per_case"]:
        case["metrics"] = _with_class_keys(case["metrics"])


def _with_class_keys(content: dict[str, Any]) -> dict[Label, Any]:
    return {_class_key(key): value for key, value in content.items()}


def _class_key(key: str) -> Label:
    if not key.startswith("("):
        return int(key)
    parts = key.strip("()").split(",")
    return tuple(int(part) for part in parts if part.strip())


def write_csv(summary: dict[str, Any], path: Path) -> None:
    """Write a row for each case and class. NaN is an empty cell.

    Args:
        summary: The result of `summarize`.
        path: The CSV file. Its columns of distances and volumes have the unit in their names.
    """
    scores = list(summary["foreground_mean"])
    columns = [_column(name, summary) for name in scores]
    classes = names_of_classes(summary)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["case", "class", "label", *columns])
    for case in summary["metric_per_case"]:
        for label, values in case["metrics"].items():
            known = {name: value for name, value in values.items() if not math.isnan(value)}
            cells = [known.get(name, "") for name in scores]
            writer.writerow([case["case"], classes[label], label, *cells])
    write_text(path, text.getvalue())


def _column(name: str, summary: dict[str, Any]) -> str:
    if name in DISTANCES:
        return f"{name}_{summary['distance_unit']}"
    return f"{name}_{summary['volume_unit']}" if name in VOLUMES else name
