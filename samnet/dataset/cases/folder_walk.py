"""Going through a folder and those below it; links are followed, and what cannot be is named."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class LeftOut:
    """Something in a folder that is not predicted.

    Attributes:
        path: The file or folder.
        reason: Why it is left out, and what helps.
    """

    path: Path
    reason: str


@dataclass(frozen=True)
class Contents:
    """What a folder directly contains, without hidden entries.

    Attributes:
        folder: The folder.
        files: Its files, sorted by name.
        folders: The folders in it, sorted by name.
        left_out: Entries that are neither, such as broken links.
    """

    folder: Path
    files: list[Path] = field(default_factory=list)
    folders: list[Path] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)


def list_contents(folder: Path) -> Contents:
    """List what a folder directly contains.

    Args:
        folder: The folder.

    Returns:
        Its files and folders; links count as what they lead to.
    """
    contents = Contents(folder)
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        contents.left_out.append(LeftOut(folder, f"cannot be read ({error.strerror})"))
        return contents
    for entry in entries:
        if not entry.name.startswith("."):
            _add(entry, contents)
    return contents


def _add(entry: Path, contents: Contents) -> None:
    try:
        mode = entry.stat().st_mode
    except OSError as error:
        reason = f"cannot be read ({error.strerror})"
        if entry.is_symlink():
            reason = f"is a broken link to {os.readlink(entry)}; correct it, or remove it"
        contents.left_out.append(LeftOut(entry, reason))
        return
    if stat.S_ISDIR(mode):
        contents.folders.append(entry)
    elif stat.S_ISREG(mode):
        contents.files.append(entry)
    else:
        contents.left_out.append(LeftOut(entry, "is neither a file nor a folder"))


def walk(top: Path) -> Iterator[Contents]:
    """Go through a folder and all folders below it, in the order of their paths.

    Args:
        top: The folder.

    Yields:
        The contents of each folder. A link to a folder is followed, unless it leads to a folder
        that contains it: then it is left out, and named.
    """
    # Each folder with the real paths of itself and of those that contain it.
    pending: list[tuple[Path, tuple[str, ...]]] = [(top, (os.path.realpath(top),))]
    while pending:
        folder, real_paths = pending.pop()
        contents = list_contents(folder)
        below: list[tuple[Path, tuple[str, ...]]] = []
        for entry in contents.folders:
            real_path = os.path.realpath(entry)
            if real_path in real_paths:
                reason = f"is a link to {real_path}, which contains it; remove it"
                contents.left_out.append(LeftOut(entry, reason))
            else:
                below.append((entry, (*real_paths, real_path)))
        yield contents
        pending += reversed(below)
