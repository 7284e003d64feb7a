"""One panel of a figure: an image with areas and outlines on it, its directions and its scale."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from samnet.evaluation.overlays.colours import YELLOW, Colour
from samnet.evaluation.overlays.planes import Edges

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_FONT_POINTS = 9
_BAR_SHARE = 0.3  # of the width of a panel is the longest scale bar
_LEAST_PIXELS_FOR_TEXT = 50  # of height and width, at the usual size of letters
_HATCHED_PIXELS = 40  # hatching is no help on smaller areas


@dataclass(frozen=True)
class Area:
    """A filled area.

    Attributes:
        mask: Booleans `(rows, columns)`.
        colour: Its colour.
        opacity: From 0 to 1.
        hatch: matplotlib's name of the hatching; empty for none.
    """

    mask: np.ndarray
    colour: Colour
    opacity: float
    hatch: str = ""


@dataclass(frozen=True)
class Outline:
    """The outline of a mask.

    Attributes:
        mask: Booleans `(rows, columns)`.
        colour: Its colour.
        style: matplotlib's name of the line style.
    """

    mask: np.ndarray
    colour: Colour
    style: str = "solid"


@dataclass(frozen=True)
class Panel:
    """What one panel shows.

    Attributes:
        image: Numbers from 0 to 1, `(rows, columns)`, or `(rows, columns, 3)` in colours.
        pixel_size: Height and width of a pixel in units of `unit`.
        unit: `mm`, `pixels` or `voxels`.
        caption: The text above it.
        edges: The directions of its edges.
        areas: What is filled, later ones over earlier ones.
        outlines: What is outlined.
        marked: Row and column that small triangles at the edges point to, or None.
        frame: First row, first column, number of rows and of columns of a frame, or None.
    """

    image: np.ndarray
    pixel_size: tuple[float, float]
    unit: str
    caption: str = ""
    edges: Edges = field(default_factory=Edges)
    areas: tuple[Area, ...] = ()
    outlines: tuple[Outline, ...] = ()
    marked: tuple[float, float] | None = None
    frame: tuple[float, float, float, float] | None = None

    @property
    def size(self) -> tuple[float, float]:
        """Height and width in units of `unit`."""
        rows, columns = self.image.shape[:2]
        return rows * self.pixel_size[0], columns * self.pixel_size[1]


def blend(image: np.ndarray, areas: Sequence[Area]) -> np.ndarray:
    """Lay areas over an image.

    Args:
        image: Numbers from 0 to 1, `(rows, columns)` or `(rows, columns, 3)`.
        areas: The areas, later ones over earlier ones.

    Returns:
        Colours from 0 to 1, `(rows, columns, 3)`, float32.
    """
    grey = image if image.ndim == 3 else np.repeat(image[..., None], 3, axis=-1)
    colours = grey.astype(np.float32)
    for area in areas:
        under = colours[area.mask]
        colours[area.mask] = (1 - area.opacity) * under + area.opacity * np.array(area.colour)
    return colours


def scale_bar_length(width: float) -> float:
    """Choose the length of a scale bar.

    Args:
        width: Width of the panel.

    Returns:
        1, 2 or 5 times a power of ten, at most 0.3 of the width.
    """
    longest = _BAR_SHARE * width
    power = 10.0 ** math.floor(math.log10(longest))
    factor = max(factor for factor in (1, 2, 5) if factor * power <= longest * (1 + 1e-9))
    return factor * power


def describe_length(length: float, unit: str) -> str:
    """Return a length as text.

    Args:
        length: The length.
        unit: `mm`, `pixels` or `voxels`.

    Returns:
        The number and its unit; micrometres and nanometres for small fractions of a millimetre.
    """
    if unit != "mm":
        return f"{length:g} {unit}"
    if length < 1e-3:
        return f"{length * 1e6:g} nm"
    if length < 0.1:
        return f"{length * 1e3:g} \u00b5m"
    return f"{length:g} mm"


def draw_panel(axes: Axes, panel: Panel, size: tuple[int, int], zoom: float = 1.0) -> None:
    """Draw a panel.

    Args:
        axes: Where to draw; its proportions are those of the panel.
        panel: The panel.
        size: Height and width of the axes in screen pixels. Small ones have no texts.
        zoom: By how much letters and lines are larger than usual.
    """
    height, width = panel.image.shape[:2]
    axes.set_axis_off()
    axes.set(xticks=[], yticks=[])  # even those that are not shown take time
    axes.imshow(
        blend(panel.image, panel.areas),
        aspect="auto",
        interpolation="antialiased" if height > size[0] else "nearest",
    )
    for area in panel.areas:
        if area.hatch and area.mask.sum() >= _HATCHED_PIXELS:
            _draw_hatching(axes, area, zoom)
    for outline in panel.outlines:
        _draw_outline(axes, outline, zoom)
    axes.set_xlim(-0.5, width - 0.5)
    axes.set_ylim(height - 0.5, -0.5)
    if panel.frame is not None:
        _draw_frame(axes, panel.frame, zoom)
    if min(size) >= _LEAST_PIXELS_FOR_TEXT * zoom:
        marks = _Marks(axes, size, zoom)
        marks.point_to(panel)
        marks.draw_scale_bar(panel)
        marks.write_edges(panel)


def _framed(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return columns, rows and values of a mask within a frame of background.

    The frame closes the outline of a structure that touches the edge or fills the panel.
    """
    height, width = mask.shape
    values = np.pad(mask, 1).astype(np.float32)
    return np.arange(-1, width + 1), np.arange(-1, height + 1), values


def _draw_outline(axes: Axes, outline: Outline, zoom: float) -> None:
    if not outline.mask.any():
        return
    from matplotlib.patheffects import withStroke

    columns, rows, values = _framed(outline.mask)
    lines = axes.contour(columns, rows, values, levels=[0.5], colors=[outline.colour])
    lines.set(linewidth=1.1 * zoom, linestyle=outline.style)
    # A dark rim makes the outline visible on bright images.
    lines.set_path_effects([withStroke(linewidth=2.2 * zoom, foreground="black", alpha=0.45)])


def _draw_hatching(axes: Axes, area: Area, zoom: float) -> None:
    # Each further sign of a hatching makes it denser.
    hatch = area.hatch[: max(1, round(len(area.hatch) / zoom))]
    columns, rows, values = _framed(area.mask)
    hatched = axes.contourf(
        columns, rows, values, levels=[0.5, 1.5], colors="none", hatches=[hatch]
    )
    hatched.set_edgecolor(area.colour)
    hatched.set_linewidth(0)


def _draw_frame(axes: Axes, frame: tuple[float, float, float, float], zoom: float) -> None:
    from matplotlib.patches import Rectangle

    row, column, num_rows, num_columns = frame
    for colour, width in (("black", 2.2), (YELLOW, 1.0)):
        axes.add_patch(
            Rectangle(
                (column - 0.5, row - 0.5),
                num_columns,
                num_rows,
                fill=False,
                edgecolor=colour,
                linewidth=width * zoom,
            )
        )


class _Marks:
    """What is written on a panel, at distances from its edges in screen pixels."""

    def __init__(self, axes: Axes, size: tuple[int, int], zoom: float) -> None:
        self._axes, self._zoom = axes, zoom
        height, width = size
        self._down, self._right = zoom / height, zoom / width  # a screen pixel, as a share

    def point_to(self, panel: Panel) -> None:
        """Draw triangles at the edges, in the row and the column of the place."""
        if panel.marked is None:
            return
        up, right = self._share(panel, panel.marked)
        near_x, near_y = 5 * self._right, 5 * self._down
        places = (
            (right, 1 - near_y, "v"),
            (right, near_y, "^"),
            (near_x, up, ">"),
            (1 - near_x, up, "<"),
        )
        for x, y, marker in places:
            self._axes.plot(
                [x],
                [y],
                marker=marker,
                markersize=6 * self._zoom,
                color=YELLOW,
                markeredgecolor="black",
                markeredgewidth=0.6 * self._zoom,
                transform=self._axes.transAxes,
                scalex=False,
                scaley=False,
            )

    @staticmethod
    def _share(panel: Panel, marked: tuple[float, float]) -> tuple[float, float]:
        """Return where the middle of a pixel lies, from the lower left corner."""
        rows, columns = panel.image.shape[:2]
        return 1 - (marked[0] + 0.5) / rows, (marked[1] + 0.5) / columns

    def draw_scale_bar(self, panel: Panel) -> None:
        """Draw a bar at the lower left with its length."""
        width = panel.size[1]
        length = scale_bar_length(width)
        left, bottom = 12 * self._right, 10 * self._down
        for colour, line_width in (("black", 5), ("white", 2.5)):
            self._axes.plot(
                [left, left + length / width],
                [bottom, bottom],
                color=colour,
                linewidth=line_width * self._zoom,
                solid_capstyle="butt",
                transform=self._axes.transAxes,
                scalex=False,
                scaley=False,
            )
        text = describe_length(length, panel.unit)
        self._write(left, bottom + 5 * self._down, text, "bottom", "left")

    def write_edges(self, panel: Panel) -> None:
        """Write the directions in the middle of the edges, or next to the triangles there."""
        up, right = (None, None) if panel.marked is None else self._share(panel, panel.marked)
        x = _beside(right, 16 * self._right)
        y = _beside(up, 16 * self._down)
        edges = panel.edges
        near_x, near_y = 12 * self._right, 3 * self._down
        self._write(near_x, y, edges.left, "center", "left")
        self._write(1 - near_x, y, edges.right, "center", "right")
        self._write(x, 1 - near_y, edges.top, "top", "center")
        self._write(x, near_y, edges.bottom, "bottom", "center")

    def _write(self, x: float, y: float, text: str, down: str, across: str) -> None:
        """Write white letters with a dark rim at a share of the panel's width and height."""
        from matplotlib.patheffects import withStroke

        if text:
            self._axes.text(
                x,
                y,
                text,
                color="white",
                fontsize=_FONT_POINTS * self._zoom,
                horizontalalignment=across,
                verticalalignment=down,
                transform=self._axes.transAxes,
                path_effects=[withStroke(linewidth=2 * self._zoom, foreground="black")],
            )


def _beside(marked: float | None, distance: float) -> float:
    """Return the middle of an edge, or a place so far from a mark there that both can be read."""
    if marked is None or abs(marked - 0.5) >= distance:
        return 0.5
    return marked + distance
