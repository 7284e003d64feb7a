"""Whether the owner of a lock is alive."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
from builders.locks import FILE, killed_owner, leave_lock

from samnet.core import locks
from samnet.core.lock_owner import Owner
from samnet.core.locks import FolderBusy, lock_folder


@pytest.fixture(autouse=True)
def short_times(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten all waiting times, so that the tests are quick."""
    monkeypatch.setattr(locks, "STALE_SECONDS", 0.5)
    monkeypatch.setattr(locks, "POLL_SECONDS", 0.02)


@pytest.fixture
def dead_owner(tmp_path: Path) -> Owner:
    """The owner of a lock in `tmp_path`, which was killed while it held it."""
    return killed_owner(tmp_path)


def refuse(process: int, number: int) -> None:
    """Refuse a signal, as to the process of another user."""
    raise PermissionError


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


@pytest.mark.parametrize("is_hidden", [False, True])
def test_lock_is_taken_over_when_a_process_of_another_user_has_the_number_of_its_owner(
    is_hidden: bool, tmp_path: Path, dead_owner: Owner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some systems hide what the processes of other users are."""
    number = 2**22 + 1 if is_hidden else os.getpid()  # Linux has no numbers above 2**22
    leave_lock(tmp_path, replace(dead_owner, process=number))
    monkeypatch.setattr(os, "kill", refuse)
    with lock_folder(tmp_path, "work", waits=False):
        pass


def test_lock_is_kept_while_its_owner_is_a_living_process_of_another_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with lock_folder(tmp_path, "work"):
        monkeypatch.setattr(os, "kill", refuse)
        with pytest.raises(FolderBusy), lock_folder(tmp_path, "work", waits=False):
            pass
