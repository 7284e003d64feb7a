from __future__ import annotations

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

import samnet
from samnet.core import locks
from samnet.core.files import TEMPORARY_PREFIX
from samnet.core.locks import FolderBusy, Owner, lock_folder

FOREIGN = Owner("node7", "node7 other-boot", 1234, "1", "work", "foreign")
FILE = ".work.samnet-lock"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "BEAT_SECONDS", 0.05)
    monkeypatch.setattr(locks, "STALE_SECONDS", 1.0)
    monkeypatch.setattr(locks, "_POLL_SECONDS", 0.02)


def leave(folder: Path, owner: Owner) -> Path:
    file = folder / FILE
    file.write_text(json.dumps(asdict(owner)))
    return file


@pytest.fixture
def dead_owner(tmp_path: Path) -> Owner:
    """Of a process that was killed while it held the lock."""
    program = (
        "import os, sys\nfrom pathlib import Path\nfrom samnet.core.locks import lock_folder\n"
        "with lock_folder(Path(sys.argv[1]), 'work'):\n    os.kill(os.getpid(), 9)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(samnet.__file__).parents[1])}
    assert (
        subprocess.run(
            [sys.executable, "-c", program, tmp_path], env=environment, check=False
        ).returncode
        == -9
    )
    return Owner(**json.loads((tmp_path / FILE).read_text()))


@pytest.fixture
def beating(tmp_path: Path) -> Iterator[Path]:
    """A lock of another machine whose owner renews it."""
    file, stop = leave(tmp_path, FOREIGN), threading.Event()
    thread = threading.Thread(target=locks._keep_alive, args=(file, stop))
    thread.start()
    yield file
    stop.set()
    thread.join()


def test_two_do_it_one_after_the_other(tmp_path: Path) -> None:
    order: list[str] = []

    def work(name: str) -> None:
        with lock_folder(tmp_path / "made", "work"):
            order.append(f"{name} begins")
            time.sleep(0.2)
            order.append(f"{name} ends")

    threads = [threading.Thread(target=work, args=(name,)) for name in "abc"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(order) == 6
    assert all(order[at].replace("begins", "ends") == order[at + 1] for at in (0, 2, 4))
    assert list((tmp_path / "made").iterdir()) == []


def test_other_tasks_go_on_beside_it(tmp_path: Path) -> None:
    with lock_folder(tmp_path, "part 0"), lock_folder(tmp_path, "part 1", waits=False):
        pass


def test_a_living_owner_is_named_to_who_does_not_wait(tmp_path: Path) -> None:
    with (
        lock_folder(tmp_path, "work"),
        pytest.raises(FolderBusy, match=rf"process {os.getpid()} on .* \(work\) is at work there"),
        lock_folder(tmp_path, "work", waits=False),
    ):
        pass


def test_a_dead_owner_of_this_machine_is_succeeded_at_once(
    tmp_path: Path, dead_owner: Owner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "STALE_SECONDS", 1e9)
    with lock_folder(tmp_path, "work", waits=False):
        assert json.loads((tmp_path / FILE).read_text())["token"] != dead_owner.token
    assert not (tmp_path / FILE).exists()


def test_a_number_that_another_process_has_by_now_is_not_the_owner(
    tmp_path: Path, dead_owner: Owner
) -> None:
    leave(tmp_path, replace(dead_owner, process=os.getpid(), started="1"))
    with lock_folder(tmp_path, "work", waits=False):
        pass


def test_a_silent_owner_elsewhere_is_succeeded_after_a_while(tmp_path: Path) -> None:
    file = leave(tmp_path, FOREIGN)
    os.utime(file, (2e9, 2e9))  # its clock is years ahead: only standing still counts
    started = time.monotonic()
    with lock_folder(tmp_path, "work", waits=False):
        assert time.monotonic() - started >= 1


def test_a_beating_owner_elsewhere_keeps_its_lock(tmp_path: Path, beating: Path) -> None:
    with (
        pytest.raises(FolderBusy, match="process 1234 on node7"),
        lock_folder(tmp_path, "work", waits=False),
    ):
        pass
    waiting = threading.Thread(
        target=lambda: lock_folder(tmp_path, "work").__enter__(), daemon=True
    )
    waiting.start()
    waiting.join(2)
    assert waiting.is_alive()
    beating.unlink()
    waiting.join(10)
    assert not waiting.is_alive()


def test_a_lock_that_was_never_written_is_stale_after_a_while(tmp_path: Path) -> None:
    (tmp_path / FILE).touch()
    with lock_folder(tmp_path, "work"):
        pass


def test_who_comes_late_puts_back_the_lock_of_who_was_quicker(
    tmp_path: Path, dead_owner: Owner
) -> None:
    file = leave(tmp_path, FOREIGN)
    locks._take_away(file, dead_owner)
    assert json.loads(file.read_text()) == asdict(FOREIGN)
    assert [entry.name for entry in tmp_path.iterdir()] == [FILE]


def test_half_written_files_are_removed_unless_somebody_may_be_writing_them(
    tmp_path: Path, dead_owner: Owner
) -> None:
    file, folder = tmp_path / f"{TEMPORARY_PREFIX}1-a", tmp_path / f"{TEMPORARY_PREFIX}2-b"
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


def test_a_lock_cut_short_before_it_had_its_name_protects_nothing(tmp_path: Path) -> None:
    (tmp_path / f"{TEMPORARY_PREFIX}plan.json").write_text("half")
    (tmp_path / f".new-lock-0123abcd{FILE}").write_text("")
    with lock_folder(tmp_path, "work"):
        assert os.listdir(tmp_path) == [FILE]


def test_a_lock_that_is_removed_while_it_is_made_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    link, removed = os.link, []

    def remove_once(source: Path, target: Path) -> None:
        if not removed:
            removed.append(source)
            source.unlink()
        link(source, target)

    monkeypatch.setattr(os, "link", remove_once)
    with lock_folder(tmp_path, "work"):
        assert os.listdir(tmp_path) == [FILE]
    assert removed


def test_file_systems_without_second_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError("no links here")

    monkeypatch.setattr(os, "link", refuse)
    with lock_folder(tmp_path, "work"):
        with pytest.raises(FolderBusy), lock_folder(tmp_path, "work", waits=False):
            pass
        assert (tmp_path / FILE).exists()
    assert list(tmp_path.iterdir()) == []
