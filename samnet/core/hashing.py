"""The sha256 of files, stored next to large files so that they are not read again."""

from __future__ import annotations

import contextlib
import hashlib
import re
from pathlib import Path
from typing import Any

from samnet.core.errors import UserError
from samnet.core.files import read_json, write_json

_CHUNK_BYTES = 4 * 2**20
_SHA256 = re.compile(r"[0-9a-f]{64}")


def file_sha256(file: Path) -> str:
    """Return the sha256 of a file's content in hexadecimal.

    Args:
        file: The file.

    Raises:
        OSError: The file cannot be read.
    """
    digest = hashlib.sha256()
    with file.open("rb") as handle:
        while chunk := handle.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def is_sha256(text: str) -> bool:
    """Return whether a text has the form of a sha256 in lower-case hexadecimal.

    Args:
        text: The text to check.
    """
    return _SHA256.fullmatch(text) is not None


def remembered_sha256(file: Path) -> str:
    """Return the sha256 of a file in hexadecimal, from `FILE.sha256.json` where that is valid.

    Reading gigabytes takes seconds, and every prediction needs the sha256 of a checkpoint. The
    stored value is valid as long as the size and the modification time of the file stay the same.
    Otherwise the file is read and the value is stored. Where the folder cannot be written to,
    nothing is stored.

    Args:
        file: The file.

    Raises:
        OSError: The file cannot be read.
    """
    state = _file_state(file)
    with contextlib.suppress(UserError):  # the note is missing or damaged
        stored = read_json(_note_path(file))
        if _is_valid_note(stored, state):
            return stored["sha256"]
    digest = file_sha256(file)
    # A file that changed while it was read is not remembered.
    if _file_state(file) == state:
        remember_sha256(file, digest)
    return digest


def remember_sha256(file: Path, sha256: str) -> None:
    """Store the known sha256 of a file for `remembered_sha256`.

    Args:
        file: The file, in the state that the sha256 belongs to.
        sha256: Its sha256 in hexadecimal.
    """
    with contextlib.suppress(OSError):
        write_json(_note_path(file), {"sha256": sha256, **_file_state(file)})


def _is_valid_note(stored: Any, state: dict[str, Any]) -> bool:
    if not isinstance(stored, dict) or not is_sha256(str(stored.get("sha256"))):
        return False
    return stored.items() >= state.items()


def _file_state(file: Path) -> dict[str, Any]:
    status = file.stat()
    return {"size": status.st_size, "mtime_ns": status.st_mtime_ns}


def _note_path(file: Path) -> Path:
    return file.with_name(f"{file.name}.sha256.json")
