"""Names of structures that probably mean the same: another case, spacing or spelling."""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Sequence

_ALIKE = 0.8  # share of letters that two spellings have in common
# Words for sides in English, German, French, Spanish: names that differ in them are no spellings.
_SIDES = {
    "left": "l", "l": "l", "lt": "l", "li": "l", "links": "l", "gauche": "l", "izquierdo": "l",
    "right": "r", "r": "r", "rt": "r", "re": "r", "rechts": "r", "droit": "r", "derecho": "r",
}  # fmt: skip


def normal_form(name: str) -> str:
    """Return a name without what people write differently: case, spaces and punctuation.

    Args:
        name: The name of a structure.

    Returns:
        Its letters and digits in small letters.
    """
    return "".join(_words(name))


def find_similar(names: Sequence[str]) -> dict[str, list[str]]:
    """Find the names that may mean the same.

    Names whose numbers or sides differ (`PTV1` and `PTV2`, `lung_l` and `lung_r`) are not similar.

    Args:
        names: Distinct names.

    Returns:
        Name -> the names that are like it, for those that have any.
    """
    keys = {name: (_fixed_part(name), "".join(_free_words(name))) for name in names}
    found: dict[str, list[str]] = {}
    for name in names:
        alike = [other for other in names if other != name and _are_alike(keys[name], keys[other])]
        if alike:
            found[name] = alike
    return found


def _are_alike(one: tuple[list[str], str], other: tuple[list[str], str]) -> bool:
    if one[0] != other[0]:
        return False
    return difflib.SequenceMatcher(None, one[1], other[1], autojunk=False).ratio() >= _ALIKE


def _words(name: str) -> list[str]:
    """Return the words and numbers of a name; a capital within a word begins another one."""
    plain = unicodedata.normalize("NFKC", name)
    divided = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", plain).casefold()
    return re.findall(r"[^\W\d_]+|\d+", divided)


def _fixed_part(name: str) -> list[str]:
    """Return the numbers and sides of a name."""
    words = _words(name)
    numbers = [word.lstrip("0") for word in words if word.isdigit()]
    return [*numbers, *sorted(_SIDES[word] for word in words if word in _SIDES)]


def _free_words(name: str) -> list[str]:
    return [word for word in _words(name) if not word.isdigit() and word not in _SIDES]
