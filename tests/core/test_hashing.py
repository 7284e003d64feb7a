"""The sha256 of files, and the notes that store it."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest

from samnet.core.hashing import file_sha256, is_sha256, remember_sha256, remembered_sha256

CONTENT = b"weights" * 1000
DIGEST = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "sam.pth"
    path.write_bytes(CONTENT)
    return path


def test_file_sha256_hashes_the_whole_content(tmp_path: Path) -> None:
    content = b"weights" * 1_500_000  # 10.5 MB are read in several chunks
    path = tmp_path / "large.pth"
    path.write_bytes(content)
    assert file_sha256(path) == hashlib.sha256(content).hexdigest()


def test_remembered_sha256_does_not_read_an_unchanged_file_again(file: Path) -> None:
    assert remembered_sha256(file) == DIGEST
    mtime_ns = file.stat().st_mtime_ns
    file.write_bytes(b"W" + CONTENT[1:])  # only reading the file could reveal this change
    os.utime(file, ns=(mtime_ns, mtime_ns))
    assert remembered_sha256(file) == DIGEST


def test_remembered_sha256_reads_a_file_of_another_size_or_time_again(file: Path) -> None:
    remembered_sha256(file)
    file.write_bytes(CONTENT + b"!")
    assert remembered_sha256(file) == hashlib.sha256(CONTENT + b"!").hexdigest()
    changed = b"W" + CONTENT[1:] + b"!"
    file.write_bytes(changed)
    os.utime(file, ns=(1, 1))
    assert remembered_sha256(file) == hashlib.sha256(changed).hexdigest()


@pytest.mark.parametrize("note", ["", "[]", "{}", '{"sha256": "short"}', '{"sha256": 5}'])
def test_remembered_sha256_replaces_a_damaged_note(file: Path, note: str) -> None:
    status = file.stat()
    path = file.with_name("sam.pth.sha256.json")
    path.write_text(note)
    assert remembered_sha256(file) == DIGEST
    assert json.loads(path.read_text()) == {
        "sha256": DIGEST,
        "size": 7000,
        "mtime_ns": status.st_mtime_ns,
    }


def test_remembered_sha256_is_right_where_it_cannot_be_stored(file: Path) -> None:
    obstacle = file.with_name("sam.pth.sha256.json") / "folder"
    obstacle.mkdir(parents=True)
    assert remembered_sha256(file) == DIGEST
    assert obstacle.is_dir()


def test_remembered_sha256_returns_what_remember_sha256_stored(file: Path) -> None:
    remember_sha256(file, "a" * 64)
    assert remembered_sha256(file) == "a" * 64


def test_remembered_sha256_raises_for_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        remembered_sha256(tmp_path / "none")


def test_is_sha256_checks_length_and_digits() -> None:
    assert is_sha256(DIGEST)
    for text in ("", DIGEST[1:], DIGEST.upper(), f"{DIGEST}\n", "g" * 64):
        assert not is_sha256(text)
