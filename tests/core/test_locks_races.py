"""Locks that other processes change between two steps of this one."""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from builders.locks import FILE, FOREIGN, killed_owner, leave_lock, renewed, shorten_times
from builders.waiting import becomes_true

from samnet.core import locks
from samnet.core.locks import FolderBusy, find_owner, lock_folder

THIRD = replace(FOREIGN, host="node8", token="third")


@pytest.fixture(autouse=True)
def short_times(monkeypatch: pytest.MonkeyPatch) -> None:
    shorten_times(monkeypatch)


@pytest.fixture
def lock_vanishes(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Lets the next lock whose date is read be removed just before."""
    opened = Path.open

    def arrange() -> None:
        waiting = [True]

        def vanish_first(self: Path, mode: str = "r", *rest: Any, **options: Any) -> Any:
            if mode == "rb" and self.name == FILE and waiting.pop():
                self.unlink()
                monkeypatch.setattr(Path, "open", opened)
            return opened(self, mode, *rest, **options)

        monkeypatch.setattr(Path, "open", vanish_first)

    return arrange


def test_lock_that_is_released_while_it_is_looked_at_is_free(
    tmp_path: Path, lock_vanishes: Callable[[], None]
) -> None:
    leave_lock(tmp_path, FOREIGN)
    lock_vanishes()
    assert find_owner(tmp_path, "work") is None
    leave_lock(tmp_path, FOREIGN)
    lock_vanishes()
    with lock_folder(tmp_path, "work", waits=False) as lock:
        assert lock.is_held()


def test_files_that_another_process_removes_first_are_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as a lock that counts as left, or a folder that is deleted."""
    unlink = Path.unlink

    def unlink_twice(self: Path, missing_ok: bool = False) -> None:
        unlink(self)
        unlink(self, missing_ok)

    dead = killed_owner(tmp_path)
    unfinished = tmp_path / f".new-lock-0123abcd{FILE}"
    unfinished.write_text(json.dumps(asdict(dead)))
    monkeypatch.setattr(Path, "unlink", unlink_twice)
    with lock_folder(tmp_path, "work"):
        assert os.listdir(tmp_path) == [FILE]
    leave_lock(tmp_path, FOREIGN)
    assert find_owner(tmp_path, "work") == FOREIGN
    assert os.listdir(tmp_path) == [FILE]


def test_dead_lock_that_another_process_removes_first_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = os.rename
    killed_owner(tmp_path)

    def rename_too_late(source: Path, target: Path) -> None:
        source.unlink()
        monkeypatch.setattr(os, "rename", rename)
        rename(source, target)

    monkeypatch.setattr(os, "rename", rename_too_late)
    with lock_folder(tmp_path, "work", waits=False) as lock:
        assert lock.is_held()


def test_lock_is_not_put_back_over_that_of_a_third_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = os.rename
    killed_owner(tmp_path)

    def rename_between_two_others(source: Path, target: Path) -> None:
        leave_lock(tmp_path, FOREIGN)
        rename(source, target)
        leave_lock(tmp_path, THIRD)

    monkeypatch.setattr(os, "rename", rename_between_two_others)
    with (
        renewed(tmp_path / FILE),
        pytest.raises(FolderBusy, match="process 1234 on node8"),
        lock_folder(tmp_path, "work", waits=False),
    ):
        pass
    assert os.listdir(tmp_path) == [FILE]


def test_lock_that_passes_from_one_dead_process_to_another_is_not_renewed_by_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "STALE_SECONDS", 1.0)
    leave_lock(tmp_path, FOREIGN)
    passing_on = threading.Timer(0.2, leave_lock, [tmp_path, THIRD])
    passing_on.start()
    started = time.monotonic()
    with lock_folder(tmp_path, "work", waits=False):
        assert time.monotonic() - started >= 1.2
    passing_on.join()


def test_lock_is_renewed_again_after_a_failure_of_the_file_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    utime, failures = os.utime, [OSError(5, "no answer")] * 2

    def fail_first(file: Path) -> None:
        if failures:
            raise failures.pop()
        utime(file)

    monkeypatch.setattr(os, "utime", fail_first)
    with lock_folder(tmp_path, "work"):
        date = (tmp_path / FILE).stat().st_mtime_ns
        assert becomes_true(lambda: (tmp_path / FILE).stat().st_mtime_ns > date, seconds=10)
    assert not failures


def test_waiting_is_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "samnet")
    file = leave_lock(tmp_path, FOREIGN)
    ending = threading.Timer(0.3, file.unlink)
    with renewed(file):
        ending.start()
        with lock_folder(tmp_path, "work"):
            pass
    ending.join()
    said = [message for message in caplog.messages if "waiting for" in message]
    assert said == [f"{tmp_path}: waiting for process 1234 on node7 (work)"]
