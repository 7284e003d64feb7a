"""The ranking as a table: `next.csv`, and for the screen."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from samnet.annotation.ranking import RankedCase
from samnet.core.errors import UserError
from samnet.core.files import write_text
from samnet.core.tables import align_columns

NEXT_FILE = "next.csv"
COLUMNS = ("case", "rank", "score", "why")


def write_ranking(ranked: Sequence[RankedCase], folder: Path) -> Path:
    """Write all cases in their order.

    Args:
        ranked: The cases.
        folder: Where to write; it is created.

    Returns:
        The file.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for case in ranked:
        writer.writerow((case.identifier, case.rank, _show_score(case), case.why))
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / NEXT_FILE
    write_text(file, text.getvalue())
    return file


def read_ranking(file: Path) -> list[str]:
    """Read the order of the cases from a file that `write_ranking` wrote.

    Args:
        file: The file.

    Returns:
        The names of the cases, the one to label first at the beginning.

    Raises:
        UserError: The file cannot be read, or is no such table.
    """
    try:
        with file.open(encoding="utf-8", newline="") as handle:
            lines = list(csv.DictReader(handle))
        ranks = [(int(line["rank"]), line["case"]) for line in lines]
    except OSError as error:
        raise UserError(f"{file}: cannot be read ({error.strerror})") from None
    except (KeyError, TypeError, ValueError, csv.Error):
        raise UserError(
            f"{file}: is no table with the columns case and rank; samnet_next writes {NEXT_FILE}"
        ) from None
    return [name for _, name in sorted(ranks)]


def format_ranking(ranked: Sequence[RankedCase], number: int) -> str:
    """Return the first cases as a table for the screen.

    Args:
        ranked: All cases in their order.
        number: How many to show.

    Returns:
        One line for each case, under the titles.
    """
    rows = [("rank", "case", "score", "why")]
    for case in ranked[:number]:
        rows.append((str(case.rank), case.identifier, _show_score(case), case.why))
    return align_columns(rows)


def _show_score(case: RankedCase) -> str:
    return "" if case.score is None else f"{case.score:.3f}"
