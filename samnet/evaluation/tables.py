"""Tables of a summary for the screen. They fit 80 columns, whatever the names of the classes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from samnet.core.tables import align_numbers
from samnet.dataset.label_scheme import Label
from samnet.evaluation.centrelines import CLDICE
from samnet.evaluation.intervals import ENOUGH_PATIENTS
from samnet.evaluation.policies import EMPTY_SLICES
from samnet.evaluation.summary import names_of_classes, tolerance_of
from samnet.evaluation.volumes import PIXELS, VOXELS, size_word, slice_word

FOREGROUND = "foreground mean"
UNKNOWN = "-"
_INTERVAL = "95 % interval"


@dataclass(frozen=True)
class _Column:
    """A column of a table.

    Attributes:
        title: Its title.
        cell: Returns the text for a class, or for the foreground (None).
    """

    title: str
    cell: Callable[[Label | None], str]


def format_table(summary: dict[str, Any]) -> str:
    """Return the means of the scores as tables for the screen.

    Args:
        summary: The result of `summarize` or `read_summary`.

    Returns:
        Plain text: tables of overlap, surfaces, volumes, false positives on slices without the
        structure, lesions and, if requested, centrelines, as far as the summary has them. Each has
        a row for each class, and one for the foreground. Below them a warning where the intervals
        rest on few patients.
    """
    available = summary["foreground_mean"]
    tables = [_overlap_table(summary), _surface_table(summary)]
    if "volume_ref" in available:
        tables.append(_volume_table(summary))
        tables += _empty_slices_table(summary)
        tables.append(_lesion_table(summary))
    if CLDICE in available:
        tables.append(_centreline_table(summary))
    return "\n\n".join([*tables, *_warning_of_few_patients(summary)])


def _warning_of_few_patients(summary: dict[str, Any]) -> list[str]:
    num_patients = summary.get("num_patients", 0)
    if not 2 <= num_patients < ENOUGH_PATIENTS:
        return []
    return [
        f"The intervals rest on {num_patients} patients; with fewer than {ENOUGH_PATIENTS} they "
        "are too narrow."
    ]


def format_overlap(summary: dict[str, Any]) -> str:
    """Return overlap and false positives on slices without the structure, for the screen.

    Args:
        summary: The result of `summarize` or `read_summary`.

    Returns:
        Plain text: of each a table with a row for each class, and one for the foreground. Below
        them a warning where the intervals rest on few patients.
    """
    tables = [_overlap_table(summary), *_empty_slices_table(summary)]
    return "\n\n".join([*tables, *_warning_of_few_patients(summary)])


def _overlap_table(summary: dict[str, Any]) -> str:
    columns = [
        _Column("cases", lambda label: _num_cases(summary, label)),
        *_mean_and_interval(summary, "Dice", _show_share),
        *_means(summary, ("IoU", "precision", "recall"), _show_share),
    ]
    return _table("overlap", summary, columns)


def _surface_table(summary: dict[str, Any]) -> str:
    unit = summary["distance_unit"]
    title = f"surfaces (distances in {unit})"
    columns = [
        *_mean_and_interval(summary, "HD95", show_number),
        *_means(summary, ("ASSD",), show_number),
    ]
    if "NSD" in summary["foreground_mean"]:
        title = f"surfaces (distances in {unit}, NSD within {tolerance_of(summary)})"
        columns += _means(summary, ("NSD",), _show_share)
    columns += [_presence(summary, key) for key in ("missed", "spurious")]
    return _table(title, summary, columns)


def _volume_table(summary: dict[str, Any]) -> str:
    unit = summary["volume_unit"]
    show = partial(show_volume, unit=unit)
    columns = [
        *_means(summary, ("volume_ref",), show, "reference"),
        *_means(summary, ("volume_pred",), show, "predicted"),
        *_mean_and_interval(summary, "volume_error", show, "error"),
        *_means(summary, ("volume_error_relative",), _show_percent, "relative"),
    ]
    return _table(f"{size_word(unit)}s ({unit} a case)", summary, columns)


def _empty_slices_table(summary: dict[str, Any]) -> list[str]:
    """Return the table, or nothing for summaries of older versions."""
    if EMPTY_SLICES not in summary["foreground_mean"]:
        return []
    unit = summary["volume_unit"]
    show = partial(show_volume, unit=unit)
    columns = [
        *_mean_and_interval(summary, EMPTY_SLICES, show, "mean"),
        _Column("median", _cell(summary, "median", EMPTY_SLICES, show)),
    ]
    title = f"empty {slice_word(unit)}s (predicted {unit} a case where the reference has none)"
    return [_table(title, summary, columns)]


def _lesion_table(summary: dict[str, Any]) -> str:
    columns = [
        *_means(summary, ("lesions_ref",), show_number, "lesions"),
        *_means(summary, ("lesions_found",), show_number, "found"),
        *_means(summary, ("lesions_false",), show_number, "false"),
        *_means(summary, ("lesion_sensitivity",), _show_share, "sensitivity"),
        *_mean_and_interval(summary, "lesion_F1", _show_share, "F1"),
    ]
    title = f"lesions (connected parts a case; found from an IoU of {summary['lesion_iou']:g})"
    return _table(title, summary, columns)


def _centreline_table(summary: dict[str, Any]) -> str:
    return _table("centrelines", summary, _mean_and_interval(summary, CLDICE, _show_share))


def _mean_and_interval(
    summary: dict[str, Any], name: str, show: Callable[[float], str], title: str | None = None
) -> list[_Column]:
    def interval(label: Label | None) -> str:
        low, high = _value(summary, "interval", label, name) or (math.nan, math.nan)
        return UNKNOWN if math.isnan(low) else f"{show(low)} to {show(high)}"

    return [*_means(summary, (name,), show, title), _Column(_INTERVAL, interval)]


def _means(
    summary: dict[str, Any],
    names: Sequence[str],
    show: Callable[[float], str],
    title: str | None = None,
) -> list[_Column]:
    """Return a column for each of the scores that the summary has."""
    columns = []
    for name in names:
        if name in summary["foreground_mean"]:
            columns.append(_Column(title or name, _cell(summary, "mean", name, show)))
    return columns


def _cell(
    summary: dict[str, Any], key: str, name: str, show: Callable[[float], str]
) -> Callable[[Label | None], str]:
    def cell(label: Label | None) -> str:
        value = _value(summary, key, label, name)
        return UNKNOWN if value is None or math.isnan(value) else show(value)

    return cell


def _value(summary: dict[str, Any], key: str, label: Label | None, name: str) -> Any:
    """Return a number of a class, or of the foreground; None where an older summary lacks it."""
    if label is None:
        return summary.get(f"foreground_{key}", {}).get(name)
    return summary.get(key, {}).get(label, {}).get(name)


def _num_cases(summary: dict[str, Any], label: Label | None) -> str:
    if label is None:
        return str(len(summary["metric_per_case"]))
    return str(summary["presence"][label]["cases"])


def _presence(summary: dict[str, Any], key: str) -> _Column:
    presence = summary["presence"]

    def cell(label: Label | None) -> str:
        labels = presence if label is None else [label]
        return str(sum(presence[one][key] for one in labels))

    return _Column(key, cell)


def _table(title: str, summary: dict[str, Any], columns: Sequence[_Column]) -> str:
    rows = [["class", *(column.title for column in columns)]]
    names = names_of_classes(summary)
    for label in summary["mean"]:
        rows.append([names[label], *(column.cell(label) for column in columns)])
    rows.append([FOREGROUND, *(column.cell(None) for column in columns)])
    return f"{title}\n{align_numbers(rows)}"


def show_number(value: float) -> str:
    """Return a number with two decimals, or with three digits where these would not show it.

    Distances in microscopy are thousandths of a millimetre, volumes in pixels are hundreds of
    thousands.

    Args:
        value: The number.
    """
    size = abs(value)
    if 0 < size < 0.1 or size >= 1e6:
        return f"{value:.3g}"
    return f"{value:.2f}" if size < 1000 else f"{value:.0f}"


def show_volume(value: float, unit: str) -> str:
    """Return a volume or an area: whole where it counts pixels or voxels.

    Args:
        value: The volume.
        unit: Its unit; see `volumes.volume_unit`.
    """
    return f"{value:.0f}" if unit in (PIXELS, VOXELS) else show_number(value)


def _show_share(value: float) -> str:
    return f"{value:.4f}"


def _show_percent(value: float) -> str:
    return f"{100 * value:+.1f} %"
