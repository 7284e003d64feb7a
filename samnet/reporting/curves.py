"""The curves of the training runs: loss, Dice and learning rate, each on a scale of its own."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from samnet.models.model_folder import RunFolder
from samnet.reporting.drawing import Drawing, Point, Scale, scale_around
from samnet.reporting.numbers import is_known
from samnet.training.curves import NOISY_FROM, read_epochs, smooth

WIDTH, HEIGHT = 350, 235
NUM_COLOURS = 7  # of the classes `line-0`, `line-1`, ... in the style sheet
_MOST_POINTS = 400
_PANELS = (
    ("loss", "training loss"),
    ("mean_dice", "mean Dice"),
    ("learning_rate", "learning rate"),
)


@dataclass(frozen=True)
class Curve:
    """A line of a chart.

    Attributes:
        name: Its name in the legend.
        points: `(step, value)` of every epoch that has the value.
        colour: Number of its colour.
    """

    name: str
    points: tuple[Point, ...]
    colour: int


@dataclass(frozen=True)
class Charts:
    """Charts with a common legend.

    Attributes:
        drawings: The charts.
        legend: Name of a line -> number of its colour.
        captions: What is to be said about them.
    """

    drawings: tuple[Markup, ...]
    legend: tuple[tuple[str, int], ...]
    captions: tuple[str, ...] = ()


def draw_curves(runs: Sequence[RunFolder], *, is_2d: bool = False) -> Charts | None:
    """Draw the curves of all runs of a model.

    Args:
        runs: Its runs.
        is_2d: Whether the data are 2D images.

    Returns:
        A chart for each quantity; None where no run has any epoch.
    """
    rows = {run.name.replace("_", " "): read_history(run) for run in runs}
    rows = {name: history for name, history in rows.items() if history}
    if not rows:
        return None
    drawings, legend = [], []
    for key, title in _PANELS:
        curves = []
        for number, (name, history) in enumerate(rows.items()):
            curves.append(Curve(name, _points(history, key), number % NUM_COLOURS))
        if key == "mean_dice" and len(rows) == 1:
            curves += _curves_of_classes(*rows.values())
        drawing = draw_chart(curves, title)
        if drawing is not None:
            drawings.append(drawing)
        for curve in curves:
            if (curve.name, curve.colour) not in legend:
                legend.append((curve.name, curve.colour))
    return Charts(tuple(drawings), tuple(legend), tuple(_captions(rows, is_2d)))


def read_history(run: RunFolder) -> list[dict[str, Any]]:
    """Read the numbers of every epoch of a run.

    Args:
        run: The run.

    Returns:
        One record an epoch; empty where there is no file. Incomplete lines are left out.
    """
    try:
        rows = read_epochs(run.metrics_file)
    except (OSError, UnicodeDecodeError):
        return []
    return [row for row in rows if is_known(row.get("step"))]


def _points(history: Sequence[dict[str, Any]], key: str) -> tuple[Point, ...]:
    found = []
    for row in history:
        if is_known(row.get(key)):
            found.append((float(row["step"]), float(row[key])))
    if key == "loss" and len(found) >= NOISY_FROM:
        smoothed = smooth([value for _, value in found]).tolist()
        found = [(step, value) for (step, _), value in zip(found, smoothed, strict=True)]
    return tuple(_thin_out(found))


def _curves_of_classes(history: Sequence[dict[str, Any]]) -> list[Curve]:
    names = list(history[-1].get("dice") or {})
    curves = []
    for number, name in enumerate(names, 1):
        rows = [{"step": row["step"], "dice": (row.get("dice") or {}).get(name)} for row in history]
        curves.append(Curve(f"Dice of {name}", _points(rows, "dice"), number % NUM_COLOURS))
    return curves


def _thin_out(points: Sequence[Point]) -> list[Point]:
    """Return at most `_MOST_POINTS` points, the last one among them."""
    step = math.ceil(len(points) / _MOST_POINTS) or 1
    return list(reversed(points[::-1][::step]))


def draw_chart(curves: Sequence[Curve], title: str) -> Markup | None:
    """Draw lines over the steps of the training.

    Args:
        curves: The lines.
        title: What they show.

    Returns:
        The chart; None where no line has a point.
    """
    drawn = [curve for curve in curves if curve.points]
    if not drawn:
        return None
    steps = [step for curve in drawn for step, _ in curve.points]
    values = [value for curve in drawn for _, value in curve.points]
    across = Scale(0, 1.04 * max(*steps, 1), 58, WIDTH - 14)
    up = scale_around([*values, 0.0], HEIGHT - 42, 28)
    up = Scale(max(0.0, up.low) if min(values) >= 0 else up.low, up.high, up.start, up.stop)
    description = f"Curves of the {title} over the training, {len(drawn)} lines"
    drawing = Drawing(WIDTH, HEIGHT, description)
    drawing.frame(across, up, ("optimiser step", title), whole=True)
    for curve in drawn:
        places = [(across(step), up(value)) for step, value in curve.points]
        drawing.path(places, f"line line-{curve.colour}")
        marked = curve.points if len(curve.points) <= 25 else curve.points[-1:]
        for step, value in marked:
            tip = f"{curve.name}, step {step:,.0f}: {value:.4g}"
            drawing.dot((across(step), up(value)), 2.8, f"dot dot-{curve.colour}", tip)
    return drawing.finish()


def _captions(rows: dict[str, list[dict[str, Any]]], is_2d: bool) -> list[str]:
    captions = []
    if any(len(history) == 1 for history in rows.values()):
        captions.append("Runs of a single epoch are a dot.")
    kinds = {
        str(row["validated_on"])
        for rows_ in rows.values()
        for row in rows_
        if row.get("validated_on")
    }
    if kinds:
        captions.append(
            f"The Dice is measured after each epoch on whole {'images' if is_2d else 'volumes'} of "
            f"{' or '.join(sorted(kinds))}; the scores above are measured once, at the end."
        )
    return captions
