"""Files that hold one part of a case each: a channel of its image, or the mask of one class.

The part is told by the same word in all cases. The word is the end of the name of the file, its
beginning, all of it, or the name of a folder.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from samnet.dataset.pairing.candidates import Candidate
from samnet.dataset.pairing.found_files import FoundFile
from samnet.dataset.pairing.role_words import ROLE_WORDS

_SEPARATORS = "_-. "
_ONLY_CASE = "case"  # its files lie in the top folder, and have only the names of their parts
_Form = Callable[[FoundFile, str], FoundFile | None]


def part_name(suffix: str) -> str:
    """Return the name of the part that a suffix stands for.

    Args:
        suffix: Such as `_t1`.

    Returns:
        The suffix without separators at its beginning, such as `t1`.
    """
    return suffix.lstrip(_SEPARATORS) or suffix


@dataclass(frozen=True)
class PartFiles:
    """Files, sorted by the parts that they hold.

    Attributes:
        candidates: One for each case, with the files of its parts.
        others: Files that hold none of the parts.
        absent: Parts that no file holds.
        faults: Texts on files that hold the same part of the same case.
        form: What tells the part, for people.
    """

    candidates: list[Candidate]
    others: list[FoundFile]
    absent: list[str]
    faults: list[str]
    form: str


def group_parts(found: Sequence[FoundFile], suffixes: Sequence[str]) -> PartFiles:
    """Sort files by case and part.

    Of the forms that a name may have, the one that tells all parts is taken; of several, the one
    that fits the most files.

    Args:
        found: The files.
        suffixes: One for each part, such as `_t1`.

    Returns:
        The groups.
    """
    results = []
    for form, match in _FORMS.items():
        sorted_files = _sort(found, suffixes, match)
        parts = {part for part, _ in sorted_files.values()}
        results.append((len(parts), len(sorted_files), form, sorted_files))
    _, _, form, sorted_files = max(results, key=lambda result: result[:2])
    held = {part for part, _ in sorted_files.values()}
    files_of: dict[str, list[FoundFile | None]] = {}
    folder_of: dict[str, str] = {}
    faults = []
    for entry, (part, rest) in sorted_files.items():
        name = rest.name or _ONLY_CASE
        files = files_of.setdefault(name, [None] * len(suffixes))
        folder_of.setdefault(name, "_".join(rest.folders))
        other = files[part]
        if other is not None:
            faults.append(
                f"{entry.file}: is the second file of {part_name(suffixes[part])} in the case "
                f"{name}, after {other.file}; rename or remove one"
            )
        files[part] = entry
    names = tuple(part_name(suffix) for suffix in suffixes)
    candidates = []
    for name, files in files_of.items():
        paths = tuple(entry.file if entry else None for entry in files)
        candidates.append(Candidate(name, paths, folder_of[name], names))
    others = [entry for entry in found if entry not in sorted_files]
    absent = [suffix for part, suffix in enumerate(suffixes) if part not in held]
    return PartFiles(candidates, others, absent, faults, form)


def _sort(
    found: Sequence[FoundFile], suffixes: Sequence[str], match: _Form
) -> dict[FoundFile, tuple[int, FoundFile]]:
    """Return the part of each file that a form tells, and the file without the word."""
    # A long word first: the end of `case_ce-gad_T1w` is not that of `case_T1w`.
    order = sorted(range(len(suffixes)), key=lambda part: -len(suffixes[part]))
    result = {}
    for entry in found:
        for part in order:
            rest = match(entry, suffixes[part])
            if rest is not None:
                result[entry] = part, rest
                break
    return result


def _by_pattern(pattern: str, entry: FoundFile, suffix: str) -> FoundFile | None:
    word = re.escape(part_name(suffix))
    found = re.fullmatch(pattern.replace("WORD", word).replace("ROLES", ROLE_WORDS), entry.stem)
    if found is None:
        return None
    rest = "".join(text or "" for text in found.groups()).strip(_SEPARATORS)
    folders = tuple(folder for folder in entry.folders if folder != part_name(suffix))
    return replace(entry, folders=folders, stem=rest)


def _by_folder(entry: FoundFile, suffix: str) -> FoundFile | None:
    if part_name(suffix) not in entry.folders:
        return None
    # The name of the file may tell the part again.
    for pattern in (_FILE, _END, _BEGINNING):
        rest = _by_pattern(pattern, entry, suffix)
        if rest is not None:
            return rest
    folders = tuple(folder for folder in entry.folders if folder != part_name(suffix))
    return replace(entry, folders=folders)


def _by_literal_end(entry: FoundFile, suffix: str) -> FoundFile | None:
    if not entry.stem.endswith(suffix) or entry.stem == suffix:
        return None
    return replace(entry, stem=entry.stem[: -len(suffix)])


_FILE = r"(?:(?:ROLES)[\W_]+)*WORD(?:[\W_]+(?:ROLES))*"
_END = r"(.+?)[\W_]+WORD(?:[\W_]+(?:ROLES))*"
_BEGINNING = r"(?:(?:ROLES)[\W_]+)*WORD[\W_]+(.+)"
_ENTITY = r"(.+?)_(?:label|desc)-WORD(?:(_.+))?"
_FORMS: dict[str, _Form] = {
    "the names of the files": partial(_by_pattern, _FILE),
    "the entities label or desc in the names": partial(_by_pattern, _ENTITY),
    "the names of the folders": _by_folder,
    "the ends of the names": partial(_by_pattern, _END),
    "the beginnings of the names": partial(_by_pattern, _BEGINNING),
    "the last letters of the names": _by_literal_end,
}
