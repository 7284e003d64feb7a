"""Texts in DICOM files that samnet writes: in UTF-8, plain, and of the lengths allowed."""

from __future__ import annotations

from collections.abc import Sequence

UTF_8 = "ISO_IR 192"
# Longest values of the types LO and ST in characters (DICOM PS3.5 6.2).
LONGEST_LABEL, LONGEST_DESCRIPTION = 64, 1024


def short_names(names: Sequence[str]) -> list[str]:
    """Return names that a label can hold: of limited length, plain, and distinct.

    Args:
        names: Names of classes.

    Returns:
        A name for each, unchanged where possible, else ending in its number.
    """
    found: list[str] = []
    for number, name in enumerate(names, 1):
        short = plain_text(name)
        if len(short) > LONGEST_LABEL or short in found or not short:
            suffix = f" ({number})"
            short = short[: LONGEST_LABEL - len(suffix)] + suffix
        found.append(short)
    return found


def plain_text(text: str) -> str:
    """Return a text without control characters and backslashes, which separate values in DICOM.

    Args:
        text: Any text.
    """
    kept = [character if character.isprintable() else " " for character in text]
    return "".join(kept).replace("\\", "/").strip()
