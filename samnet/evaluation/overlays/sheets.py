"""A sheet: rows of panels at a common scale, below a title and above a legend.

Everything is placed by screen pixels, so that nothing is cut off and 2D images can be shown pixel
by pixel.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from samnet.core.figures import name_legend, new_figure
from samnet.evaluation.overlays.panels import Panel, draw_panel

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DPI = 100
_WIDEST_ROW = 1380  # screen pixels
_TALLEST_ROW = 440
_LEAST_WIDTH = 760
_GAP = 12
_MARGIN = 14
_LINE = 18  # height of a line of text
_LETTER = 7.1  # mean width of a letter
_LEAST_COLUMN = 150
_LEAST_PANEL = 24
_FONT_POINTS = 9


@dataclass(frozen=True)
class Row:
    """A row of panels.

    Attributes:
        heading: The text above it; empty for none.
        panels: At least one panel.
        is_pixel_exact: Whether every pixel of the images becomes a whole number of screen pixels.
        tallest: Largest height of its panels on the screen, except where exact pixels need more.
        cell: Height and width on a usual screen into which each panel is fitted by itself; None for
            one scale of all panels.
    """

    heading: str
    panels: tuple[Panel, ...]
    is_pixel_exact: bool = False
    tallest: int = _TALLEST_ROW
    cell: int | None = None

    @property
    def num_caption_lines(self) -> int:
        """The lines of the longest caption."""
        return max(_num_lines(panel.caption) for panel in self.panels)


@dataclass(frozen=True)
class LegendEntry:
    """An entry of the legend.

    Attributes:
        name: The text.
        symbol: matplotlib's patch or line.
    """

    name: str
    symbol: Any


def _num_lines(text: str) -> int:
    return len(text.splitlines()) if text else 0


def draw_sheet(title: Sequence[str], rows: Sequence[Row], legend: Sequence[LegendEntry]) -> Figure:
    """Draw a sheet.

    Args:
        title: Lines of text; long ones are wrapped. The first one is bold.
        rows: At least one row.
        legend: What colours and lines mean; empty for no legend.

    Returns:
        The figure, to be saved with `DPI`.
    """
    # On a sheet that is larger than a screen, letters and lines are larger too.
    zoom = max(1.0, max(_place(row).panels_width for row in rows) / _WIDEST_ROW)
    placed = [_place(row, zoom) for row in rows]
    measures = _Measures(zoom)
    width = max(measures.width_of(row) for row in placed)
    width = round(max(width, _LEAST_WIDTH * zoom) + 2 * measures.margin)
    lines = measures.wrap(title, width)
    per_line = max(1, int((width - 2 * measures.margin) // measures.legend_column(legend)))
    legend_height = measures.line * -(-len(legend) // per_line) + measures.margin if legend else 0
    rows_height = sum(measures.height_of(row) for row in placed)
    texts_height = measures.line * len(lines) + measures.gap / 2 + legend_height
    height = round(2 * measures.margin + texts_height + rows_height)
    canvas = _Canvas(width, height, measures)
    top = height - measures.margin
    for number, line in enumerate(lines):
        canvas.write(measures.margin, top, line, "bold" if number == 0 else "normal")
        top -= measures.line
    top -= measures.gap / 2
    for row in placed:
        canvas.draw_row(row, top)
        top -= measures.height_of(row)
    canvas.draw_legend(legend, per_line)
    return canvas.figure


@dataclass(frozen=True)
class _PlacedRow:
    """A row with the height and width of each panel in screen pixels."""

    row: Row
    sizes: tuple[tuple[int, int], ...]

    @property
    def panels_width(self) -> int:
        return sum(width for _, width in self.sizes) + _GAP * (len(self.sizes) - 1)


def _place(row: Row, zoom: float = 1.0) -> _PlacedRow:
    common = _scale_of(row)
    sizes = []
    for panel in row.panels:
        scale = common if row.cell is None else zoom * row.cell / max(panel.size)
        height, width = (max(_LEAST_PANEL, round(length * scale)) for length in panel.size)
        sizes.append((height, width))
    return _PlacedRow(row, tuple(sizes))


def _scale_of(row: Row) -> float:
    """Return the screen pixels for each unit of length in a row."""
    widths = [panel.size[1] for panel in row.panels]
    heights = [panel.size[0] for panel in row.panels]
    room = _WIDEST_ROW - _GAP * (len(row.panels) - 1)
    scale = min(room / sum(widths), row.tallest / max(heights))
    if not row.is_pixel_exact:
        return scale
    pixel = row.panels[0].pixel_size[1]
    return max(1, int(scale * pixel)) / pixel


class _Measures:
    """The sizes of texts and gaps in screen pixels."""

    def __init__(self, zoom: float) -> None:
        self.zoom = zoom
        self.line, self.gap, self.margin = _LINE * zoom, _GAP * zoom, _MARGIN * zoom

    def columns_of(self, row: _PlacedRow) -> list[float]:
        """Return the width of each column, which also holds the caption of its panel."""
        columns = []
        for panel, (_, width) in zip(row.row.panels, row.sizes, strict=True):
            longest = max((len(line) for line in panel.caption.splitlines()), default=0)
            columns.append(max(width, _LEAST_COLUMN * self.zoom, longest * _LETTER * self.zoom))
        return columns

    def width_of(self, row: _PlacedRow) -> float:
        columns = self.columns_of(row)
        return sum(columns) + self.gap * (len(columns) - 1)

    def height_of(self, row: _PlacedRow) -> float:
        num_lines = bool(row.row.heading) + row.row.num_caption_lines
        return self.line * num_lines + max(height for height, _ in row.sizes) + self.gap

    def wrap(self, title: Sequence[str], width: int) -> list[str]:
        letters = int((width - 2 * self.margin) / (_LETTER * self.zoom * 1.1))
        lines: list[str] = []
        for line in title:
            lines += textwrap.wrap(line, letters)
        return lines

    def legend_column(self, legend: Sequence[LegendEntry]) -> float:
        """Return the width of an entry of the legend with its symbol."""
        longest = max((len(entry.name) for entry in legend), default=1)
        return (longest * _LETTER + 60) * self.zoom


class _Canvas:
    """A figure on which things are placed by screen pixels from the lower left corner."""

    def __init__(self, width: int, height: int, measures: _Measures) -> None:
        self._width, self._height, self._measures = width, height, measures
        self.figure = new_figure(width / DPI, height / DPI)
        self.figure.set_layout_engine("none")  # everything has its place

    def write(self, left: float, top: float, text: str, weight: str = "normal") -> None:
        self.figure.text(
            left / self._width,
            top / self._height,
            text,
            fontsize=_FONT_POINTS * self._measures.zoom,
            fontweight=weight,
            verticalalignment="top",
            horizontalalignment="left",
        )

    def draw_row(self, placed: _PlacedRow, top: float) -> None:
        """Draw a row whose upper edge is at `top`."""
        measures, row = self._measures, placed.row
        if row.heading:
            self.write(measures.margin, top - 2, row.heading, "bold")
            top -= measures.line
        left = measures.margin
        columns = measures.columns_of(placed)
        for panel, size, column in zip(row.panels, placed.sizes, columns, strict=True):
            for number, line in enumerate(panel.caption.splitlines()):
                self.write(left, top - 2 - number * measures.line, line)
            height, width = size
            # Whole numbers, or pixels of images would not be those of the screen.
            below = round(top - row.num_caption_lines * measures.line - height)
            first = round(left)
            axes = self.figure.add_axes(
                (
                    first / self._width,
                    below / self._height,
                    width / self._width,
                    height / self._height,
                )
            )
            draw_panel(axes, panel, size, measures.zoom)
            left += column + measures.gap

    def draw_legend(self, entries: Sequence[LegendEntry], per_line: int) -> None:
        if not entries:
            return
        placeholders = [f"entry {number}" for number in range(len(entries))]
        legend = self.figure.legend(
            [entry.symbol for entry in entries],
            placeholders,
            loc="lower left",
            ncols=min(per_line, len(entries)),
            fontsize=_FONT_POINTS * self._measures.zoom,
            frameon=False,
            borderaxespad=0.4,
            handlelength=3,
            handleheight=1.1,
            labelspacing=0.3,
        )
        name_legend(legend, [entry.name for entry in entries])
