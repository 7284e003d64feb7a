"""Tables of plain text for the screen, and its width."""

from __future__ import annotations

from collections.abc import Collection, Sequence

WIDTH = 80  # characters of a line of the screen
_GAP = "  "
_ELLIPSIS = "..."
_SMALLEST_NAME = 11


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
        lines.append(_GAP.join([*cells, row[-1]]).rstrip())
    return "\n".join(lines)


def align_numbers(rows: Sequence[Sequence[str]], has_total: bool = True) -> str:
    """Join the rows of a table: names to the left, numbers to the right, a rule around the rows.

    Names are shortened in their middle where the table would be wider than `WIDTH` columns.

    Args:
        rows: The titles, a row for each name, and where there is one the row of all names.
        has_total: Whether the last row is that of all names.

    Returns:
        Plain text.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    room = WIDTH - sum(len(_GAP) + width for width in widths[1:])
    widths[0] = min(widths[0], max(room, _SMALLEST_NAME))
    lines = []
    names = shorten_all([row[0] for row in rows], widths[0])
    for name, row in zip(names, rows, strict=True):
        cells = [name.ljust(widths[0])]
        for cell, width in zip(row[1:], widths[1:], strict=True):
            cells.append(cell.rjust(width))
        lines.append(_GAP.join(cells).rstrip())
    rule = "-" * max(map(len, lines))
    if not has_total:
        return "\n".join([lines[0], rule, *lines[1:]])
    return "\n".join([lines[0], rule, *lines[1:-1], rule, lines[-1]])


def shorten(text: str, width: int) -> str:
    """Shorten a text in its middle.

    Args:
        text: The text.
        width: The largest number of characters, at least 5.

    Returns:
        The text, or its beginning and its end with an ellipsis between them.
    """
    if len(text) <= width:
        return text
    kept = width - len(_ELLIPSIS)
    at_end = kept // 2
    return f"{text[: kept - at_end]}{_ELLIPSIS}{text[len(text) - at_end :]}"


def shorten_all(texts: Sequence[str], width: int) -> list[str]:
    """Shorten texts so that they can be told apart.

    Args:
        texts: The texts.
        width: The largest number of characters, at least 11.

    Returns:
        The texts, each shortened in its middle where it is too long. Of those that would look the
        same, the part is shown in which they begin to differ.
    """
    shortened = [shorten(text, width) for text in texts]
    alike: dict[str, set[str]] = {}
    for text, short in zip(texts, shortened, strict=True):
        alike.setdefault(short, set()).add(text)
    found = []
    for text, short in zip(texts, shortened, strict=True):
        several = len(alike[short]) > 1
        found.append(_part_from(text, _common_start(alike[short]), width) if several else short)
    return found


def _common_start(texts: Collection[str]) -> int:
    """Return how many characters texts have in common at their beginnings."""
    count = 0
    for characters in zip(*texts, strict=False):
        if len(set(characters)) > 1:
            break
        count += 1
    return count


def _part_from(text: str, place: int, width: int) -> str:
    """Return the part of a long text around a place, with an ellipsis where it is cut."""
    room = width - 2 * len(_ELLIPSIS)
    start = max(0, place - room // 2)
    end = start + room
    if end + len(_ELLIPSIS) >= len(text):
        return f"{_ELLIPSIS}{text[len(text) - room - len(_ELLIPSIS) :]}"
    return f"{_ELLIPSIS}{text[start:end]}{_ELLIPSIS}"
