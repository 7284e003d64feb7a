"""Tables of plain text for the screen."""

from __future__ import annotations

from collections.abc import Sequence


def align_columns(rows: Sequence[Sequence[str]]) -> str:
    """Join cells into lines whose columns begin at the same places.

    Args:
        rows: The cells of each row, equally many. The first row holds the titles.

    Returns:
        One line for each row, without spaces at its end. The last column may have any length.
    """
    columns = list(zip(*rows, strict=True))
    widths = [max(map(len, column)) for column in columns[:-1]]
    lines = []
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row[:-1], widths, strict=True)]
        lines.append("  ".join([*cells, row[-1]]).rstrip())
    return "\n".join(lines)
