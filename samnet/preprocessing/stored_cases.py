"""Which prepared cases a folder has, and removing those that the data set no longer has."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from samnet.preprocessing.storage import load_case


def list_cases(folder: Path) -> list[str]:
    """List the prepared cases of a folder.

    Args:
        folder: Folder of the prepared cases, which may be missing.

    Returns:
        Their names in order.
    """
    return sorted(file.stem for file in folder.glob("[!.]*.json"))


def remove_other_cases(folder: Path, names: Collection[str]) -> None:
    """Remove prepared cases that are no longer in the data set.

    Args:
        folder: Folder of the prepared cases, which may be missing.
        names: The cases that stay.
    """
    for name in list_cases(folder):
        if name not in names:
            for file in load_case(folder, name).files:
                file.unlink(missing_ok=True)
