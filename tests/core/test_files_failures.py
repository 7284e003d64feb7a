"""Writing where links, drives or other processes get in the way."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from samnet.core.files import TEMPORARY_PREFIX, atomic_path, remove_partial_files, write_text


def write_folder_with_links(target: Path, outside: Path) -> None:
    """Write a folder of private files, with a link to a file and links to nothing between them."""
    with atomic_path(target) as folder:
        folder.mkdir()
        for number in range(4):
            (folder / f"missing_{number}").symlink_to("nothing")
            (folder / f"outside_{number}").symlink_to(outside)
            file = folder / f"file_{number}"
            file.write_text("text")
            file.chmod(0o600)


def test_links_in_a_folder_stay_as_they_are(tmp_path: Path) -> None:
    outside, target = tmp_path / "outside", tmp_path / "target"
    outside.write_text("private")
    outside.chmod(0o600)
    umask = os.umask(0o022)
    try:
        write_folder_with_links(target, outside)
    finally:
        os.umask(umask)
    modes = {entry.name: stat.S_IMODE(entry.stat().st_mode) for entry in target.glob("file_*")}
    assert modes == {f"file_{number}": 0o644 for number in range(4)}
    assert stat.S_IMODE(outside.stat().st_mode) == 0o600
    assert os.readlink(target / "missing_0") == "nothing"


def test_every_file_beside_links_is_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fsync, flushed = os.fsync, set()

    def note(handle: int) -> None:
        flushed.add(os.fstat(handle).st_ino)
        fsync(handle)

    monkeypatch.setattr(os, "fsync", note)
    outside, target = tmp_path / "outside", tmp_path / "target"
    outside.touch()
    write_folder_with_links(target, outside)
    assert {file.stat().st_ino for file in target.glob("file_*")} < flushed
    assert outside.stat().st_ino not in flushed


@pytest.fixture
def open_umask() -> Iterator[None]:
    """Files are to get all permissions."""
    umask = os.umask(0)
    yield
    os.umask(umask)


@pytest.mark.usefixtures("open_umask")
def test_file_is_written_on_a_drive_without_modes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Path, mode: int) -> None:
        raise PermissionError(1, "not permitted", str(self))

    with atomic_path(tmp_path / "file") as temporary:
        temporary.write_text("text")
        temporary.chmod(0o600)
        monkeypatch.setattr(Path, "chmod", refuse)
    assert (tmp_path / "file").read_text() == "text"


def test_file_is_written_on_a_drive_whose_folders_cannot_be_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = os.open

    def refuse_folders(path: Any, *rest: Any, **options: Any) -> int:
        if os.path.isdir(path):
            raise PermissionError(13, "is a folder", str(path))
        return opened(path, *rest, **options)

    monkeypatch.setattr(os, "open", refuse_folders)
    write_text(tmp_path / "file", "text")
    assert (tmp_path / "file").read_text() == "text"


def test_temporary_folder_that_is_gone_already_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rmtree = shutil.rmtree

    def remove_twice(path: Path, ignore_errors: bool = False) -> None:
        rmtree(path)
        rmtree(path, ignore_errors=ignore_errors)

    monkeypatch.setattr(shutil, "rmtree", remove_twice)
    write_text(tmp_path / "file", "text")
    (tmp_path / f"{TEMPORARY_PREFIX}0123").mkdir()
    remove_partial_files(tmp_path)
    assert os.listdir(tmp_path) == ["file"]
