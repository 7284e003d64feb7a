"""Charts of the scores: boxes of the Dice by class, and the agreement of volumes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from samnet.core.tables import shorten
from samnet.reporting.agreement import Agreement
from samnet.reporting.drawing import Drawing, Scale, scale_around
from samnet.reporting.numbers import show_score, show_size

MOST_DOTS = 250  # of a class; more make the page slow and show no more
_ROW = 40
_WIDTH = 440
_LETTERS = 18  # of a class name at the side of the boxes


@dataclass(frozen=True)
class NamedValue:
    """A number of a case.

    Attributes:
        name: The name of the case.
        value: The number, which is finite.
    """

    name: str
    value: float


def draw_boxes(values: dict[str, list[NamedValue]], title: str) -> Markup:
    """Draw a box for each class: quartiles, median, and the cases as dots.

    Whiskers reach to the last case within 1.5 times the height of the box.

    Args:
        values: Name of a class -> a score from 0 to 1 of each case.
        title: What the scores are.
    """
    height = _ROW * len(values) + 76
    drawing = Drawing(_WIDTH, height, f"{title} of each case as boxes, one for each class")
    across = Scale(0, 1, 126, _WIDTH - 14)
    bottom = height - 44.0
    for tick in across.ticks:
        drawing.line((across(tick), 12), (across(tick), bottom), "grid")
        drawing.text((across(tick), bottom + 17), f"{tick:.1f}", "middle")
    drawing.text(((across.start + across.stop) / 2, bottom + 36), title, "middle", "label")
    for row, (name, cases) in enumerate(values.items()):
        middle = 14 + _ROW * (row + 0.5)
        drawing.text((across.start - 10, middle + 4), shorten(name, _LETTERS), "end")
        if cases:
            _draw_box(drawing, across, middle, cases)
    return drawing.finish()


def _draw_box(drawing: Drawing, across: Scale, middle: float, cases: Sequence[NamedValue]) -> None:
    numbers = np.array([case.value for case in cases])
    low, median, high = np.percentile(numbers, (25, 50, 75))
    reach = 1.5 * (high - low)
    least = numbers[numbers >= low - reach].min()
    largest = numbers[numbers <= high + reach].max()
    for index, case in enumerate(_some(cases)):
        # The dots of neighbouring cases lie at different heights, the same in every report.
        offset = 11 * (((index * 0.618034) % 1) - 0.5)
        tip = f"{case.name}: {show_score(case.value)}"
        drawing.dot((across(case.value), middle + offset), 2.4, "case-dot", tip)
    drawing.line((across(least), middle), (across(low), middle), "whisker")
    drawing.line((across(high), middle), (across(largest), middle), "whisker")
    corner = (across(low), middle - 11)
    drawing.box(corner, max(across(high) - across(low), 1.0), 22, "box")
    drawing.line((across(median), middle - 11), (across(median), middle + 11), "median")


def _some(cases: Sequence[NamedValue]) -> Sequence[NamedValue]:
    """Return at most `MOST_DOTS` cases, spread evenly from the lowest to the highest."""
    ordered = sorted(cases, key=lambda case: (case.value, case.name))
    if len(ordered) <= MOST_DOTS:
        return ordered
    indices = np.linspace(0, len(ordered) - 1, MOST_DOTS).round().astype(int)
    return [ordered[index] for index in indices]


def draw_agreement(agreement: Agreement, title: str, size: str, unit: str) -> Markup:
    """Draw the differences of volumes against their means (Bland and Altman).

    Args:
        agreement: The volumes of a class.
        title: The name of the class.
        size: What is compared: `volume` or `area`.
        unit: Its unit.
    """
    drawing = Drawing(350, 250, f"Bland-Altman chart: {size} of {title}")
    limits = [value for value in (agreement.low, agreement.high) if math.isfinite(value)]
    across = scale_around([0.0, *agreement.means], 66, 336)
    across = Scale(0.0, across.high, across.start, across.stop)
    up = scale_around([*agreement.differences, *limits, 0.0], 208, 34)
    labels = (f"mean of both {size}s ({unit})", f"predicted - true ({unit})")
    drawing.frame(across, up, labels)
    drawing.line((across.start, up(0.0)), (across.stop, up(0.0)), "zero")
    for value in limits:
        drawing.line((across.start, up(value)), (across.stop, up(value)), "limit")
    drawing.line((across.start, up(agreement.bias)), (across.stop, up(agreement.bias)), "bias")
    rows = zip(agreement.names, agreement.means, agreement.differences, strict=True)
    for name, mean, difference in list(rows)[: 4 * MOST_DOTS]:
        tip = f"{name}: {show_size(difference)} {unit} at {show_size(mean)} {unit}"
        drawing.dot((across(mean), up(difference)), 2.6, "case-dot", tip)
    return drawing.finish()
