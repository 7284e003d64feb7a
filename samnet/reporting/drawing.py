"""Drawings as inline SVG: they print sharply, and the page's colours apply to them.

The classes of elements are those of `templates/style.css`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

Point = tuple[float, float]
_STEPS = (1.0, 2.0, 5.0, 10.0)


@dataclass(frozen=True)
class Scale:
    """The place of numbers along one side of a drawing.

    Attributes:
        low: The number at `start`.
        high: The number at `stop`.
        start: A place in units of the drawing.
        stop: The other end; it may be smaller, as places count from the top.
    """

    low: float
    high: float
    start: float
    stop: float

    def __call__(self, value: float) -> float:
        """Return the place of a number.

        Args:
            value: The number.
        """
        share = (value - self.low) / (self.high - self.low)
        return self.start + share * (self.stop - self.start)

    @property
    def ticks(self) -> list[float]:
        """Round numbers within the range, three to six."""
        step = _round_step((self.high - self.low) / 5.5)
        first = math.ceil(self.low / step - 1e-9)
        last = math.floor(self.high / step + 1e-9)
        return [number * step for number in range(first, last + 1)]


def scale_around(values: Sequence[float], start: float, stop: float) -> Scale:
    """Return a scale that holds some numbers, with a margin.

    Args:
        values: At least one finite number.
        start: The place of the lower end.
        stop: The place of the upper end.
    """
    low, high = min(values), max(values)
    margin = 0.06 * (high - low)
    if margin == 0:  # all are equal
        margin = abs(low) / 2 or 1.0
    return Scale(low - margin, high + margin, start, stop)


def _round_step(width: float) -> float:
    """Return the smallest of 1, 2, 5, 10, ... that is no smaller than a width."""
    power = 10.0 ** math.floor(math.log10(width))
    return power * next(step for step in _STEPS if step * power >= width * (1 - 1e-9))


class Drawing:
    """An SVG drawing. All texts are escaped."""

    def __init__(self, width: float, height: float, description: str) -> None:
        """Begin an empty drawing.

        Args:
            width: In pixels, at the page's normal size.
            height: In pixels.
            description: What it shows, for people who hear the page.
        """
        self.width, self.height = width, height
        self._parts = [
            Markup(
                '<svg viewBox="0 0 {} {}" style="max-width:{}px" role="img" aria-label="{}">'
            ).format(_place(width), _place(height), _place(width), description)
        ]

    def line(self, start: Point, end: Point, kind: str) -> None:
        """Draw a straight line.

        Args:
            start: Its beginning `(x, y)`.
            end: Its end `(x, y)`.
            kind: Its class.
        """
        places = [_place(number) for number in (*start, *end)]
        self._add('<line x1="{}" y1="{}" x2="{}" y2="{}" class="{}"/>', *places, kind)

    def path(self, points: Sequence[Point], kind: str) -> None:
        """Draw a line through points.

        Args:
            points: The points `(x, y)`.
            kind: Its class.
        """
        text = " ".join(f"{_place(x)},{_place(y)}" for x, y in points)
        self._add('<polyline points="{}" class="{}"/>', text, kind)

    def box(self, corner: Point, width: float, height: float, kind: str) -> None:
        """Draw a rectangle.

        Args:
            corner: Its upper left corner `(x, y)`.
            width: Its width.
            height: Its height.
            kind: Its class.
        """
        places = [_place(number) for number in (*corner, width, height)]
        self._add('<rect x="{}" y="{}" width="{}" height="{}" class="{}"/>', *places, kind)

    def dot(self, centre: Point, radius: float, kind: str, tip: str) -> None:
        """Draw a dot with a text that shows under the mouse.

        Args:
            centre: Its place `(x, y)`.
            radius: Its radius.
            kind: Its class.
            tip: The text; empty for none.
        """
        places = [_place(number) for number in (*centre, radius)]
        title = Markup("<title>{}</title>").format(tip) if tip else ""
        self._add('<circle cx="{}" cy="{}" r="{}" class="{}">{}</circle>', *places, kind, title)

    def text(self, place: Point, text: str, anchor: str = "start", kind: str = "") -> None:
        """Write a line of text.

        Args:
            place: Its place `(x, y)`, at the base line.
            text: The text.
            anchor: Which end of it lies there: `start`, `middle` or `end`.
            kind: Its class; empty for none.
        """
        places = [_place(number) for number in place]
        self._add(
            '<text x="{}" y="{}" text-anchor="{}" class="{}">{}</text>', *places, anchor, kind, text
        )

    def frame(
        self, across: Scale, up: Scale, labels: tuple[str, str], *, whole: bool = False
    ) -> None:
        """Draw the grid, the numbers and the titles of both axes.

        Args:
            across: The scale of the horizontal axis.
            up: The scale of the vertical axis.
            labels: The titles of the horizontal and of the vertical axis.
            whole: Whether the horizontal axis counts something.
        """
        for tick in up.ticks:
            self.line((across.start, up(tick)), (across.stop, up(tick)), "grid")
            self.text((across.start - 6, up(tick) + 4), show_tick(tick, up.ticks), "end")
        ticks = [tick for tick in across.ticks if not whole or tick == round(tick)]
        for tick in ticks:
            self.line((across(tick), up.start), (across(tick), up.start + 4), "axis")
            self.text((across(tick), up.start + 17), show_tick(tick, ticks), "middle")
        self.line((across.start, up.start), (across.stop, up.start), "axis")
        self.text(((across.start + across.stop) / 2, up.start + 34), labels[0], "middle", "label")
        self.text((4, up.stop - 10), labels[1], "start", "label")

    def finish(self) -> Markup:
        """Return the drawing as an element of the page."""
        return Markup("").join([*self._parts, Markup("</svg>")])

    def _add(self, form: str, *values: object) -> None:
        self._parts.append(Markup(form).format(*values))


def show_tick(tick: float, ticks: Sequence[float]) -> str:
    """Return the number of a tick, with as many decimals as the ticks need.

    Args:
        tick: The tick.
        ticks: All ticks of the axis.
    """
    largest = max(abs(entry) for entry in ticks)
    step = ticks[1] - ticks[0] if len(ticks) > 1 else largest
    if step == 0 or largest == 0:
        return f"{tick:g}"
    if largest < 1e-3 or largest >= 1e6:
        return f"{tick:.3g}".replace("e-0", "e-").replace("e+0", "e")
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    return f"{tick + 0.0:,.{decimals}f}"


def _place(number: float) -> str:
    return f"{number:.1f}".removesuffix(".0")
