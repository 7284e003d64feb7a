"""Locks of folders: waiting, renewal, dead owners, and the removal of incomplete files."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from builders.waiting import becomes_true

import samnet
from samnet.core import locks
from samnet.core.files import TEMPORARY_PREFIX
from samnet.core.locks import FolderBusy, Owner, find_owner, lock_folder

FOREIGN = Owner("node7", "node7 other-boot", 1234, "1", "work", "foreign")
FILE = ".work.samnet-lock"


@pytest.fixture(autouse=True)
def short_times(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten all waiting times, so that the tests are quick."""
    monkeypatch.setattr(locks, "BEAT_SECONDS", 0.05)
    monkeypatch.setattr(locks, "STALE_SECONDS", 1.0)
    monkeypatch.setattr(locks, "POLL_SECONDS", 0.02)


def leave_lock(folder: Path, owner: Owner) -> Path:
    """Write the lock that an owner would have left; return its file."""
    file = folder / FILE
    file.write_text(json.dumps(asdict(owner)))
    return file


@pytest.fixture
def dead_owner(tmp_path: Path) -> Owner:
    """Leave the lock of a process that was killed while it held it; return the owner."""
    program = (
        "import os, sys\nfrom pathlib import Path\nfrom samnet.core.locks import lock_folder\n"
        "with lock_folder(Path(sys.argv[1]), 'work'):\n    os.kill(os.getpid(), 9)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(samnet.__file__).parents[1])}
    command = [sys.executable, "-c", program, tmp_path]
    process = subprocess.run(command, env=environment, check=False)
    assert process.returncode == -9
    return Owner(**json.loads((tmp_path / FILE).read_text()))


@contextlib.contextmanager
def renewed(file: Path) -> Iterator[None]:
    """Renew the date of a lock within the block, as a living owner on another machine does."""
    stop = threading.Event()

    def renew() -> None:
        while not stop.wait(0.05):
            with contextlib.suppress(FileNotFoundError):
                os.utime(file)

    thread = threading.Thread(target=renew)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


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
        pass


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


def test_lock_names_its_living_owner_to_a_process_that_does_not_wait(tmp_path: Path) -> None:
    with (
        lock_folder(tmp_path, "work"),
        pytest.raises(FolderBusy, match=rf"process {os.getpid()} on .* \(work\) is at work there"),
        lock_folder(tmp_path, "work", waits=False),
    ):
        pass


def test_lock_is_taken_over_at_once_from_a_dead_owner_on_this_machine(
    tmp_path: Path, dead_owner: Owner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "STALE_SECONDS", 1e9)
    with lock_folder(tmp_path, "work", waits=False):
        assert json.loads((tmp_path / FILE).read_text())["token"] != dead_owner.token
    assert not (tmp_path / FILE).exists()


def test_lock_is_taken_over_when_another_process_has_the_number_of_its_owner(
    tmp_path: Path, dead_owner: Owner
) -> None:
    leave_lock(tmp_path, replace(dead_owner, process=os.getpid(), started="1"))
    with lock_folder(tmp_path, "work", waits=False):
        pass


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


def test_empty_lock_is_taken_over_after_a_while(tmp_path: Path) -> None:
    (tmp_path / FILE).touch()
    with lock_folder(tmp_path, "work"):
        pass


@pytest.mark.usefixtures("dead_owner")
def test_lock_of_a_quicker_process_is_put_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process takes over the dead owner's lock just before this one removes it."""
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
    def refuse(*_: object) -> None:
        raise PermissionError("no links here")

    monkeypatch.setattr(os, "link", refuse)
    with lock_folder(tmp_path, "work"):
        with pytest.raises(FolderBusy), lock_folder(tmp_path, "work", waits=False):
            pass
        assert (tmp_path / FILE).exists()
    assert list(tmp_path.iterdir()) == []
