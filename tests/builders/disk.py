"""Which changes of files reach the disk in which order, and disks that fail."""

from __future__ import annotations

import errno
import itertools
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

Number = tuple[int, int]


def number_of(path: Path) -> Number:
    """Return what identifies a file or folder, whatever its name.

    Args:
        path: A file or folder.

    Returns:
        Its device and its number there.
    """
    found = path.stat()
    return found.st_dev, found.st_ino


@dataclass
class DiskRecorder:
    """The order in which files and folders were flushed to the disk and renamed.

    Attributes:
        events: A pair for each: `flush` or `rename`, and the number of the file or folder.
    """

    events: list[tuple[str, Number]] = field(default_factory=list)

    def order(self, kind: str, path: Path) -> int:
        """Return when something happened to a file or folder.

        Args:
            kind: `flush` or `rename`.
            path: The file or folder, which is there now.

        Returns:
            Its place among the events; the last one, where it happened several times.

        Raises:
            AssertionError: It has not happened.
        """
        places = [
            place for place, event in enumerate(self.events) if event == (kind, number_of(path))
        ]
        assert places, f"no {kind} of {path}"
        return places[-1]


def record_disk(monkeypatch: pytest.MonkeyPatch) -> DiskRecorder:
    """Note what is flushed and renamed from now on.

    Args:
        monkeypatch: Restores the functions of the operating system.

    Returns:
        The recorder.
    """
    recorder = DiskRecorder()
    flush, replace, rename = os.fsync, os.replace, os.rename

    def note_flush(handle: int) -> None:
        found = os.fstat(handle)
        recorder.events.append(("flush", (found.st_dev, found.st_ino)))
        flush(handle)

    def noting(move: Callable[..., None]) -> Callable[..., None]:
        def note_rename(source: Path, *rest: Any, **options: Any) -> None:
            recorder.events.append(("rename", number_of(Path(source))))
            move(source, *rest, **options)

        return note_rename

    monkeypatch.setattr(os, "fsync", note_flush)
    monkeypatch.setattr(os, "replace", noting(replace))
    monkeypatch.setattr(os, "rename", noting(rename))
    return recorder


def fill_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the disk be full, as a file server says it: when what was written is flushed to it.

    Args:
        monkeypatch: Restores the function of the operating system.
    """

    def fail(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", fail)


def forbid_writing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the disk be mounted for reading only: no folder can be created.

    Args:
        monkeypatch: Restores the function of the operating system.
    """

    def fail(path: Any, *rest: Any, **options: Any) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    monkeypatch.setattr(os, "mkdir", fail)


def call_at_changes(monkeypatch: pytest.MonkeyPatch, act: Callable[[int], None]) -> None:
    """Call a function before each flush, rename, link and removal of a file, with its number.

    Between two of them the files that have their final names do not change.

    Args:
        monkeypatch: Restores the functions of the operating system.
        act: Called with the number of the change, from 0.
    """
    numbers = itertools.count()

    def preceded(change: Callable[..., None]) -> Callable[..., None]:
        def act_and_change(*arguments: Any, **options: Any) -> None:
            act(next(numbers))
            change(*arguments, **options)

        return act_and_change

    for name in ("fsync", "replace", "rename", "link", "unlink"):
        monkeypatch.setattr(os, name, preceded(getattr(os, name)))
