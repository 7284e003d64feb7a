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


@dataclass(frozen=True)
class Row:
    """A row of panels.

    Attributes:
        heading: The text above it; empty for none.
        panels: At least one panel.
        is_pixel_exact: Whether every pixel of the images becomes a whole number of screen pixels.
        tallest: Largest height of its panels on the screen, except where exact pixels need more.
        cell: Height and width on the screen into which each panel is fitted by itself; None for
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


def _sizes_of(row: Row) -> list[tuple[int, int]]:
    """Return the height and width of each panel in screen pixels."""
    common = _scale_of(row)
    sizes = []
    for panel in row.panels:
        scale = common if row.cell is None else row.cell / max(panel.size)
        height, width = (max(_LEAST_PANEL, round(length * scale)) for length in panel.size)
        sizes.append((height, width))
    return sizes


def _columns_of(row: Row, sizes: Sequence[tuple[int, int]]) -> list[int]:
    """Return the width of each column, which also holds the caption of its panel."""
    columns = []
    for panel, (_, width) in zip(row.panels, sizes, strict=True):
        longest = max((len(line) for line in panel.caption.splitlines()), default=0)
        columns.append(max(width, _LEAST_COLUMN, round(longest * _LETTER)))
    return columns


def draw_sheet(title: Sequence[str], rows: Sequence[Row], legend: Sequence[LegendEntry]) -> Figure:
    """Draw a sheet.

    Args:
        title: Lines of text; long ones are wrapped. The first one is bold.
        rows: At least one row.
        legend: What colours and lines mean; empty for no legend.

    Returns:
        The figure, to be saved with `DPI`.
    """
    sizes = [_sizes_of(row) for row in rows]
    columns = [_columns_of(row, found) for row, found in zip(rows, sizes, strict=True)]
    widest = max(sum(widths) + _GAP * (len(widths) - 1) for widths in columns)
    width = max(widest, _LEAST_WIDTH) + 2 * _MARGIN
    lines = _wrap(title, width)
    per_line = max(1, (width - 2 * _MARGIN) // _legend_column(legend))
    legend_height = _LINE * -(-len(legend) // per_line) + _MARGIN if legend else 0
    heights = [_height_of(row, found) for row, found in zip(rows, sizes, strict=True)]
    height = _MARGIN + _LINE * len(lines) + _GAP // 2 + sum(heights) + legend_height + _MARGIN
    figure = new_figure(width / DPI, height / DPI)
    figure.set_layout_engine("none")  # everything has its place
    top = height - _MARGIN
    for number, line in enumerate(lines):
        _write(figure, _MARGIN, top, line, "bold" if number == 0 else "normal")
        top -= _LINE
    top -= _GAP // 2
    for row, found, widths, used in zip(rows, sizes, columns, heights, strict=True):
        _draw_row(figure, row, found, widths, top)
        top -= used
    _draw_legend(figure, legend, per_line)
    return figure


def _wrap(title: Sequence[str], width: int) -> list[str]:
    letters = int((width - 2 * _MARGIN) / (_LETTER * 1.1))
    lines: list[str] = []
    for line in title:
        lines += textwrap.wrap(line, letters)
    return lines


def _height_of(row: Row, sizes: Sequence[tuple[int, int]]) -> int:
    texts = _LINE * (bool(row.heading) + row.num_caption_lines)
    return texts + max(height for height, _ in sizes) + _GAP


def _draw_row(
    figure: Figure, row: Row, sizes: Sequence[tuple[int, int]], columns: Sequence[int], top: float
) -> None:
    """Draw a row whose upper edge is `top` screen pixels above the lower edge of the figure."""
    if row.heading:
        _write(figure, _MARGIN, top - 2, row.heading, "bold")
        top -= _LINE
    left = _MARGIN
    for panel, (height, width), column in zip(row.panels, sizes, columns, strict=True):
        for number, line in enumerate(panel.caption.splitlines()):
            _write(figure, left, top - 2 - number * _LINE, line)
        below = top - row.num_caption_lines * _LINE - height
        total_width, total_height = (length * DPI for length in figure.get_size_inches())
        axes = figure.add_axes(
            (left / total_width, below / total_height, width / total_width, height / total_height)
        )
        draw_panel(axes, panel, height)
        left += column + _GAP


def _write(figure: Figure, left: float, top: float, text: str, weight: str = "normal") -> None:
    width, height = (length * DPI for length in figure.get_size_inches())
    figure.text(
        left / width,
        top / height,
        text,
        fontsize=9,
        fontweight=weight,
        verticalalignment="top",
        horizontalalignment="left",
    )


def _legend_column(legend: Sequence[LegendEntry]) -> int:
    """Return the width of an entry of the legend in screen pixels, with its symbol."""
    longest = max((len(entry.name) for entry in legend), default=1)
    return round(longest * _LETTER) + 60


def _draw_legend(figure: Figure, entries: Sequence[LegendEntry], per_line: int) -> None:
    if not entries:
        return
    placeholders = [f"entry {number}" for number in range(len(entries))]
    legend = figure.legend(
        [entry.symbol for entry in entries],
        placeholders,
        loc="lower left",
        ncols=min(per_line, len(entries)),
        fontsize=9,
        frameon=False,
        borderaxespad=0.4,
        handlelength=3,
        handleheight=1.1,
        labelspacing=0.3,
    )
    name_legend(legend, [entry.name for entry in entries])
