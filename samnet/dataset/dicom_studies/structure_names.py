"""The names of structures, and the table by which a user merges, renames and drops them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from samnet.core.errors import UserError
from samnet.core.files import write_text
from samnet.core.tables import align_columns
from samnet.dataset.dicom_studies.csv_files import read_rows, to_csv
from samnet.dataset.dicom_studies.near_duplicates import find_similar, normal_form

_COLUMNS = ("structure", "label", "cases", "type", "similar")
_SEPARATOR = "; "
_RESERVED = ("background", "ignore")


@dataclass(frozen=True)
class FoundName:
    """A name of structures.

    Attributes:
        name: The name.
        num_cases: Number of cases that have a structure of this name.
        kinds: What such structures are stated to be.
        similar: Names that may mean the same.
    """

    name: str
    num_cases: int
    kinds: tuple[str, ...]
    similar: tuple[str, ...]


@dataclass(frozen=True)
class NameTable:
    """What the structures become.

    Attributes:
        labels: Name of a structure -> name of its class; empty for structures that are dropped.
    """

    labels: dict[str, str]

    @property
    def class_names(self) -> list[str]:
        """The classes in the order of the table."""
        return list(dict.fromkeys(label for label in self.labels.values() if label))


def count_names(cases: Iterable[Iterable[tuple[str, str]]]) -> list[FoundName]:
    """Count the names of structures.

    Args:
        cases: For each case the names and kinds of its structures.

    Returns:
        The names, the most frequent first, equally frequent ones in their order in the files.
    """
    counts: Counter[str] = Counter()
    kinds: dict[str, dict[str, None]] = {}
    for structures in cases:
        listed = list(structures)
        counts.update({name for name, _ in listed})
        for name, kind in listed:
            known = kinds.setdefault(name, {})
            if kind:
                known[kind] = None
    similar = find_similar(sorted(counts))
    names = sorted(kinds, key=lambda name: -counts[name])
    return [
        FoundName(name, counts[name], tuple(kinds[name]), tuple(similar.get(name, ())))
        for name in names
    ]


def propose_table(found: Sequence[FoundName]) -> NameTable:
    """Propose what the structures become: themselves.

    Names that differ only in case, spaces and punctuation become the most frequent of them.

    Args:
        found: The names, the most frequent first.

    Returns:
        The proposal.
    """
    first: dict[str, str] = {}
    for entry in found:
        first.setdefault(normal_form(entry.name) or entry.name, entry.name)
    return NameTable({entry.name: first[normal_form(entry.name) or entry.name] for entry in found})


def write_table(found: Sequence[FoundName], file: Path) -> None:
    """Write the table that a user edits.

    Args:
        found: The names.
        file: The file.
    """
    labels = propose_table(found).labels
    rows = [
        (
            entry.name,
            labels[entry.name],
            entry.num_cases,
            _SEPARATOR.join(entry.kinds),
            _SEPARATOR.join(entry.similar),
        )
        for entry in found
    ]
    write_text(file, to_csv(_COLUMNS, rows))


def read_table(file: Path, found: Sequence[FoundName]) -> NameTable:
    """Read the table, and check that it fits the structures.

    Args:
        file: The file.
        found: The names of the structures that there are.

    Returns:
        What the structures become.

    Raises:
        UserError: It has another form, names a structure twice, lacks one, uses a name that labels
            cannot have, or drops all structures.
    """
    rows = read_rows(file, _COLUMNS[:2])
    counts = Counter(row["structure"] for row in rows)
    twice = [name for name, count in counts.items() if count > 1]
    if twice:
        raise UserError(f"{file}: has the structure {twice[0]!r} twice; remove one of the rows")
    labels = {row["structure"]: row["label"] for row in rows}
    missing = [entry.name for entry in found if entry.name not in labels]
    if missing:
        raise UserError(
            f"{file}: has no row for {len(missing)} structures ({', '.join(missing[:5])}); add "
            "them (an empty label drops a structure), or remove the file to have it written again"
        )
    reserved = [label for label in labels.values() if label.casefold() in _RESERVED]
    if reserved:
        raise UserError(
            f"{file}: {reserved[0]!r} cannot be a label; leave the label empty to drop a structure"
        )
    names = {entry.name for entry in found}
    table = NameTable({name: label for name, label in labels.items() if name in names})
    if not table.class_names:
        raise UserError(f"{file}: drops all structures; give at least one a label")
    return table


def find_doubts(found: Sequence[FoundName], num_cases: int) -> list[str]:
    """Say why names cannot be taken as they are.

    Args:
        found: The names.
        num_cases: Number of all cases.

    Returns:
        A sentence on each name that some cases lack, or that is like another one.
    """
    doubts = []
    for entry in found:
        if entry.similar:
            doubts.append(f"{entry.name!r} is like {', '.join(map(repr, entry.similar))}")
        elif entry.num_cases < num_cases:
            doubts.append(f"{entry.name!r} is in {entry.num_cases} of {num_cases} cases")
    return doubts


def show_names(found: Sequence[FoundName]) -> str:
    """Return a table of the names for the screen.

    Args:
        found: The names.
    """
    rows = [("structure", "cases", "type", "similar")]
    for entry in found:
        kinds, similar = _SEPARATOR.join(entry.kinds), _SEPARATOR.join(entry.similar)
        rows.append((entry.name, str(entry.num_cases), kinds, similar))
    return align_columns(rows)
