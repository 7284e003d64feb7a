from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest

from samnet.core import hashing
from samnet.core.hashing import file_sha256, is_sha256, remember_sha256, remembered_sha256

CONTENT = b"weights" * 1000
DIGEST = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "sam.pth"
    path.write_bytes(CONTENT)
    return path


def test_the_hash_is_that_of_the_content(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hashing, "_CHUNK", 100)
    assert file_sha256(file) == DIGEST


def test_a_remembered_hash_is_not_computed_again(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert remembered_sha256(file) == DIGEST
    monkeypatch.setattr(hashing, "file_sha256", lambda path: pytest.fail("read the file again"))
    assert remembered_sha256(file) == DIGEST


def test_another_size_or_time_makes_it_new(file: Path) -> None:
    remembered_sha256(file)
    file.write_bytes(CONTENT + b"!")
    assert remembered_sha256(file) == hashlib.sha256(CONTENT + b"!").hexdigest()
    changed = b"W" + CONTENT[1:] + b"!"
    file.write_bytes(changed)
    os.utime(file, ns=(1, 1))
    assert remembered_sha256(file) == hashlib.sha256(changed).hexdigest()


@pytest.mark.parametrize("note", ["", "[]", "{}", '{"sha256": "short"}', '{"sha256": 5}'])
def test_a_damaged_note_is_no_answer(file: Path, note: str) -> None:
    status = file.stat()
    path = file.with_name("sam.pth.sha256.json")
    path.write_text(note)
    assert remembered_sha256(file) == DIGEST
    assert json.loads(path.read_text()) == {
        "sha256": DIGEST,
        "size": 7000,
        "mtime_ns": status.st_mtime_ns,
    }


def test_a_folder_that_cannot_be_written_to_is_no_hindrance(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, content: object) -> None:
        raise PermissionError(path)

    monkeypatch.setattr(hashing, "write_json", refuse)
    assert remembered_sha256(file) == DIGEST


def test_what_is_noted_is_believed(file: Path) -> None:
    remember_sha256(file, "a" * 64)
    assert remembered_sha256(file) == "a" * 64


def test_a_missing_file_is_an_error_of_the_system(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        remembered_sha256(tmp_path / "none")


def test_the_form_of_a_hash() -> None:
    assert is_sha256(DIGEST)
    for text in ("", DIGEST[1:], DIGEST.upper(), f"{DIGEST}\n", "g" * 64):
        assert not is_sha256(text)
