"""Tables as CSV files that spreadsheet programs read and write."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path

from samnet.core.errors import UserError
from samnet.core.files import require_readable

_SEPARATORS = ",;\t"  # that of a spreadsheet program depends on the language


def to_csv(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a table as text. It begins with a mark by which programs recognise UTF-8.

    Args:
        columns: Names of the columns.
        rows: The rows.

    Returns:
        The text of the file.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return "\ufeff" + text.getvalue()


def read_rows(file: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    """Read a table, whatever its separator.

    Args:
        file: The file, in UTF-8.
        columns: Columns that it has to have; others are ignored.

    Returns:
        The rows, without empty ones; values have no spaces around them.

    Raises:
        UserError: It cannot be read, or lacks a column.
    """
    require_readable(file)
    try:
        text = file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{file}: is not in UTF-8; save it as CSV in UTF-8") from error
    title = text.partition("\n")[0]
    separator = max(_SEPARATORS, key=title.count)
    reader = csv.DictReader(io.StringIO(text), delimiter=separator)
    missing = [column for column in columns if column not in (reader.fieldnames or ())]
    if missing:
        raise UserError(
            f"{file}: has no column {missing[0]!r}; its first line has to name {', '.join(columns)}"
        )
    rows = []
    for row in reader:
        values = {column: (row[column] or "").strip() for column in columns}
        if any(values.values()):
            rows.append(values)
    return rows
