"""Locks of folders: waiting, renewal, dead owners, and the removal of incomplete files."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from builders.locks import FILE, FOREIGN, killed_owner, leave_lock, renewed, shorten_times
from builders.waiting import becomes_true

from samnet.core import locks
from samnet.core.files import TEMPORARY_PREFIX
from samnet.core.lock_owner import Owner
from samnet.core.locks import FolderBusy, LockLost, find_owner, lock_folder


@pytest.fixture(autouse=True)
def short_times(monkeypatch: pytest.MonkeyPatch) -> None:
    shorten_times(monkeypatch)


@pytest.fixture
def short_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a lock whose date stands still count as left after a second."""
    monkeypatch.setattr(locks, "STALE_SECONDS", 1.0)


@pytest.fixture
def dead_owner(tmp_path: Path) -> Owner:
    """The owner of a lock in `tmp_path`, which was killed while it held it."""
    return killed_owner(tmp_path)


@pytest.fixture
def living_foreign_lock(tmp_path: Path) -> Iterator[Path]:
    """The lock of a living process on another machine."""
    file = leave_lock(tmp_path, FOREIGN)
    with renewed(file):
        yield file


def test_lock_lets_threads_work_one_after_the_other(tmp_path: Path) -> None:
    order: list[str] = []

    def work(name: str) -> None:
        with lock_folder(tmp_path / "new", "work"):
            order.append(f"{name} begins")
            time.sleep(0.2)
            order.append(f"{name} ends")

    threads = [threading.Thread(target=work, args=(name,)) for name in "abc"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(order) == 6
    for index in (0, 2, 4):
        assert order[index].replace("begins", "ends") == order[index + 1]
    assert list((tmp_path / "new").iterdir()) == []


def test_lock_does_not_exclude_other_tasks_in_the_folder(tmp_path: Path) -> None:
    with lock_folder(tmp_path, "part 0"), lock_folder(tmp_path, "part 1", waits=False):
        locks_there = sorted(os.listdir(tmp_path))
    assert locks_there == [".part-0.samnet-lock", ".part-1.samnet-lock"]


def test_taking_over_a_dead_lock_is_said(
    tmp_path: Path, dead_owner: Owner, caplog: pytest.LogCaptureFixture
) -> None:
    with lock_folder(tmp_path, "work", waits=False):
        pass
    assert caplog.messages == [f"{tmp_path}: taking over from {dead_owner}, which is gone"]


def test_lock_is_renewed_while_it_is_held(tmp_path: Path) -> None:
    with lock_folder(tmp_path, "work"):
        date = (tmp_path / FILE).stat().st_mtime_ns
        assert becomes_true(lambda: (tmp_path / FILE).stat().st_mtime_ns > date, seconds=10)


def test_find_owner_returns_the_living_owner_of_a_lock(tmp_path: Path) -> None:
    assert find_owner(tmp_path, "work") is None
    with lock_folder(tmp_path, "work"):
        owner = find_owner(tmp_path, "work")
        assert owner is not None
        assert owner.process == os.getpid()
    assert find_owner(tmp_path, "work") is None


def test_find_owner_ignores_dead_owners(tmp_path: Path, dead_owner: Owner) -> None:
    assert find_owner(tmp_path, "work") is None
    file = leave_lock(tmp_path, FOREIGN)
    assert find_owner(tmp_path, "work") == FOREIGN
    os.utime(file, (1e9, 1e9))
    assert find_owner(tmp_path, "work") is None
    assert os.listdir(tmp_path) == [FILE]


@pytest.mark.parametrize("seconds_off", [3600, -3600])
def test_find_owner_dates_locks_by_the_clock_of_the_file_system(
    seconds_off: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = leave_lock(tmp_path, FOREIGN)
    now = file.stat().st_mtime
    monkeypatch.setattr(time, "time", lambda: now + seconds_off)
    monkeypatch.setattr(time, "time_ns", lambda: int((now + seconds_off) * 1e9))
    assert find_owner(tmp_path, "work") == FOREIGN
    os.utime(file, (now - 10, now - 10))
    assert find_owner(tmp_path, "work") == FOREIGN
    os.utime(file, (now - 60, now - 60))
    assert find_owner(tmp_path, "work") is None


def test_find_owner_knows_that_a_suspended_owner_on_this_machine_lives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "BEAT_SECONDS", 1e9)
    with lock_folder(tmp_path, "work"):
        os.utime(tmp_path / FILE, (1e9, 1e9))
        assert find_owner(tmp_path, "work") is not None


def test_lock_names_its_living_owner_to_a_process_that_does_not_wait(tmp_path: Path) -> None:
    with (
        lock_folder(tmp_path, "work"),
        pytest.raises(FolderBusy, match=rf"process {os.getpid()} on .* \(work\) is at work there"),
        lock_folder(tmp_path, "work", waits=False),
    ):
        pass


def test_owner_that_lost_its_lock_neither_renews_nor_removes_that_of_another(
    tmp_path: Path,
) -> None:
    """The owner was suspended, and a process of another machine has taken the lock over."""
    with lock_folder(tmp_path, "work") as lock:
        lock.check()
        file = leave_lock(tmp_path, FOREIGN)
        date = file.stat().st_mtime_ns
        with pytest.raises(LockLost, match=r"process 1234 on node7 \(work\) has taken over"):
            lock.check()
        time.sleep(0.3)
        assert file.stat().st_mtime_ns == date
    assert json.loads(file.read_text()) == asdict(FOREIGN)


def test_lock_counts_as_lost_when_it_is_deleted(tmp_path: Path) -> None:
    with lock_folder(tmp_path, "work") as lock:
        (tmp_path / FILE).unlink()
        with pytest.raises(LockLost, match="its lock is deleted"):
            lock.check()
    assert list(tmp_path.iterdir()) == []


def test_lock_is_not_lost_while_another_process_puts_it_back(tmp_path: Path) -> None:
    with lock_folder(tmp_path, "work") as lock:
        away = tmp_path / "away"
        (tmp_path / FILE).rename(away)
        putting_back = threading.Timer(0.01, away.rename, [tmp_path / FILE])
        putting_back.start()
        lock.check()
        putting_back.join()


@pytest.mark.usefixtures("short_patience")
def test_lock_of_another_machine_is_taken_over_when_its_date_stands_still(tmp_path: Path) -> None:
    file = leave_lock(tmp_path, FOREIGN)
    os.utime(file, (2e9, 2e9))  # a clock that is years ahead does no harm
    started = time.monotonic()
    with lock_folder(tmp_path, "work", waits=False):
        assert time.monotonic() - started >= 1


def test_lock_of_another_machine_is_kept_while_it_is_renewed(
    tmp_path: Path, living_foreign_lock: Path
) -> None:
    with (
        pytest.raises(FolderBusy, match="process 1234 on node7"),
        lock_folder(tmp_path, "work", waits=False),
    ):
        pass

    def wait_for_lock() -> None:
        with lock_folder(tmp_path, "work"):
            pass

    waiting = threading.Thread(target=wait_for_lock, daemon=True)
    waiting.start()
    waiting.join(2)
    assert waiting.is_alive()
    living_foreign_lock.unlink()
    waiting.join(10)
    assert not waiting.is_alive()


@pytest.mark.usefixtures("short_patience")
def test_empty_lock_is_taken_over_after_a_while(tmp_path: Path) -> None:
    (tmp_path / FILE).touch()
    with lock_folder(tmp_path, "work"):
        pass


@pytest.mark.usefixtures("dead_owner")
@pytest.mark.parametrize("has_links", [True, False])
def test_lock_of_a_quicker_process_is_put_back(
    has_links: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process takes over the dead owner's lock just before this one removes it."""
    if not has_links:
        monkeypatch.setattr(os, "link", refuse_link)
    file = tmp_path / FILE
    rename = os.rename

    def rename_after_another_took_over(source: Path, target: Path) -> None:
        leave_lock(tmp_path, FOREIGN)
        rename(source, target)

    monkeypatch.setattr(os, "rename", rename_after_another_took_over)
    with (
        renewed(file),
        pytest.raises(FolderBusy, match="process 1234 on node7"),
        lock_folder(tmp_path, "work", waits=False),
    ):
        pass
    assert json.loads(file.read_text()) == asdict(FOREIGN)
    assert [entry.name for entry in tmp_path.iterdir()] == [FILE]


def test_incomplete_files_are_removed_unless_a_living_process_may_be_writing_them(
    tmp_path: Path, dead_owner: Owner
) -> None:
    file = tmp_path / f"{TEMPORARY_PREFIX}1-a"
    folder = tmp_path / f"{TEMPORARY_PREFIX}2-b"
    other = tmp_path / ".other.samnet-lock"
    other.write_text(json.dumps(asdict(replace(FOREIGN, task="other"))))
    file.touch()
    folder.mkdir()
    with lock_folder(tmp_path, "work"):
        assert file.exists()
    other.write_text(json.dumps(asdict(dead_owner)))
    with lock_folder(tmp_path, "work"):
        assert not file.exists()
        assert not folder.exists()


def test_lock_that_was_cut_short_is_removed_with_incomplete_files(tmp_path: Path) -> None:
    (tmp_path / f"{TEMPORARY_PREFIX}plan.json").write_text("half")
    (tmp_path / f".new-lock-0123abcd{FILE}").write_text("")
    with lock_folder(tmp_path, "work"):
        assert os.listdir(tmp_path) == [FILE]


def test_lock_that_is_removed_while_it_is_created_is_created_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = os.link
    removed: list[Path] = []

    def remove_once(source: Path, target: Path) -> None:
        if not removed:
            removed.append(source)
            source.unlink()
        link(source, target)

    monkeypatch.setattr(os, "link", remove_once)
    with lock_folder(tmp_path, "work"):
        assert os.listdir(tmp_path) == [FILE]
    assert removed


def test_lock_works_on_a_file_system_without_hard_links(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "link", refuse_link)
    with lock_folder(tmp_path, "work"):
        with pytest.raises(FolderBusy), lock_folder(tmp_path, "work", waits=False):
            pass
        assert (tmp_path / FILE).exists()
    assert list(tmp_path.iterdir()) == []


def refuse_link(*_: object) -> None:
    raise PermissionError("no links here")
