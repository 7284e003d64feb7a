"""Colours and line styles that people with any colour vision tell apart.

The colours are those of Okabe and Ito (https://jfly.uni-koeln.de/color/). Kinds of errors also
differ in their hatching, and classes beyond the seventh in their line style.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from samnet.evaluation.overlays.error_maps import CONFUSED, FALSE, MISSED, TRUE

Colour = tuple[float, float, float]
LineStyle = Literal["solid", "dashed", "dotted", "dashdot"]


def _rgb(code: str) -> Colour:
    red, green, blue = (int(code[start : start + 2], 16) / 255 for start in (0, 2, 4))
    return red, green, blue


WHITE: Colour = (1.0, 1.0, 1.0)
ORANGE, SKY_BLUE, GREEN, YELLOW = map(_rgb, ("E69F00", "56B4E9", "009E73", "F0E442"))
BLUE, VERMILION, PURPLE = map(_rgb, ("0072B2", "D55E00", "CC79A7"))
# Yellow and sky blue are the brightest on grey images, so most figures need only these.
_CLASS_COLOURS = (YELLOW, SKY_BLUE, VERMILION, GREEN, PURPLE, ORANGE, BLUE)
_LINE_STYLES: tuple[LineStyle, ...] = ("solid", "dashed", "dotted", "dashdot")


_NAMES = {
    YELLOW: "yellow",
    SKY_BLUE: "sky blue",
    VERMILION: "red",
    GREEN: "green",
    PURPLE: "pink",
    ORANGE: "orange",
    BLUE: "blue",
}


@dataclass(frozen=True)
class ErrorStyle:
    """How one kind of voxel is drawn.

    Attributes:
        name: Its name in the legend.
        colour: Its colour.
        opacity: That of the filled area.
        hatch: The hatching on it; empty for none.
    """

    name: str
    colour: Colour
    opacity: float
    hatch: str = ""


ERROR_STYLES = {
    TRUE: ErrorStyle("true", GREEN, 0.30),
    MISSED: ErrorStyle("missed", VERMILION, 0.55, "////"),
    FALSE: ErrorStyle("false", SKY_BLUE, 0.55, "...."),
    CONFUSED: ErrorStyle("another class", PURPLE, 0.55, "xxxx"),
}


def class_colour(number: int) -> Colour:
    """Return the colour of a class or region.

    Args:
        number: Number of the class or region, from 1 on.

    Returns:
        Red, green and blue from 0 to 1; those of the first seven differ.
    """
    return _CLASS_COLOURS[(number - 1) % len(_CLASS_COLOURS)]


def name_colours(class_names: Sequence[str]) -> str:
    """Name the colour of each class, for people who see figures without a legend.

    Args:
        class_names: The names of the classes or regions, in their order.

    Returns:
        Such as `liver yellow, spleen sky blue`.
    """
    parts = []
    for number, name in enumerate(class_names, 1):
        parts.append(f"{name} {_NAMES[class_colour(number)]}")
    return ", ".join(parts)


def class_line_style(number: int) -> LineStyle:
    """Return the line style of a class or region.

    Args:
        number: Number of the class or region, from 1 on.

    Returns:
        matplotlib's name of it; that of seven classes at a time is the same.
    """
    return _LINE_STYLES[(number - 1) // len(_CLASS_COLOURS) % len(_LINE_STYLES)]
