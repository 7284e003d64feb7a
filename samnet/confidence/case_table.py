"""A CSV file with rows for each case, to which several jobs add."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from samnet.core.files import write_text
from samnet.core.locks import lock_folder

CASE = "case"


@dataclass(frozen=True)
class CaseTable:
    """Rows of numbers and texts, each of one case.

    A case is added in one piece, so that the rows of a job that is killed are complete, and the
    time for a case does not grow with their number.

    Attributes:
        file: The CSV file. Its folder holds the label maps of the cases.
        columns: The names of its columns after the first, which is `case`.
    """

    file: Path
    columns: Sequence[str]

    def rows(self) -> list[dict[str, str]]:
        """Read the rows.

        Returns:
            Texts by column, in the order of the cases. Rows that are not of this form, as of an
            incomplete or changed file, are left out.
        """
        try:
            text = self.file.read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return []
        reader = csv.reader(io.StringIO(text.replace("\0", "")))
        names = [CASE, *self.columns]
        if next(reader, None) != names:
            return []
        return [dict(zip(names, row, strict=True)) for row in reader if len(row) == len(names)]

    def add(self, case: str, rows: Iterable[Mapping[str, object]]) -> None:
        """Add the rows of a case.

        Args:
            case: The name of the case, of which there are no rows.
            rows: Values by column.
        """
        lines = self._lines({CASE: case} | dict(row) for row in rows)
        with lock_folder(self.file.parent, self.file.name):
            if not self._has_header():
                write_text(self.file, self._header() + lines)
                return
            with self.file.open("a", encoding="utf-8", newline="") as handle:
                handle.write(lines if self._ends_a_line() else f"\n{lines}")

    def forget(self, cases: Collection[str]) -> None:
        """Leave out the rows of some cases, and sort the others.

        Args:
            cases: The names of the cases.
        """
        if not self.file.exists():
            return
        with lock_folder(self.file.parent, self.file.name):
            kept = [row for row in self.rows() if row[CASE] not in cases]
            if kept:
                kept.sort(key=lambda row: row[CASE])
                write_text(self.file, self._header() + self._lines(kept))
            else:
                self.file.unlink(missing_ok=True)

    def _has_header(self) -> bool:
        """Tell whether there is a file, with these columns."""
        try:
            with self.file.open(encoding="utf-8", errors="replace") as handle:
                return handle.readline() == self._header()
        except FileNotFoundError:
            return False

    def _ends_a_line(self) -> bool:
        """Tell whether the last row is complete: it is not where a process was killed."""
        with self.file.open("rb") as handle:
            handle.seek(-1, os.SEEK_END)
            return handle.read() == b"\n"

    def _header(self) -> str:
        return ",".join([CASE, *self.columns]) + "\n"

    def _lines(self, rows: Iterable[Mapping[str, object]]) -> str:
        text = io.StringIO()
        csv.DictWriter(text, [CASE, *self.columns], lineterminator="\n").writerows(rows)
        return text.getvalue()
