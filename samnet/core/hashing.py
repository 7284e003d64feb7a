"""The sha256 of files, remembered beside large ones."""

from __future__ import annotations

import contextlib
import hashlib
import re
from pathlib import Path
from typing import Any

from samnet.core.errors import UserError
from samnet.core.files import read_json, write_json

_CHUNK = 4 * 2**20
_SHA256 = re.compile(r"[0-9a-f]{64}")


def file_sha256(file: Path) -> str:
    """The sha256 of a file's content, in hexadecimal.

    Raises:
        OSError: the file cannot be read.
    """
    digest = hashlib.sha256()
    with file.open("rb") as handle:
        while chunk := handle.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def is_sha256(text: str) -> bool:
    """Whether a text has the form of a sha256 in (lower-case) hexadecimal."""
    return _SHA256.fullmatch(text) is not None


def remembered_sha256(file: Path) -> str:
    """As `file_sha256`, read from `FILE.sha256.json` beside it as long as the file's size and time stay the same.

    Gigabytes take seconds to read, at every prediction. Where the folder cannot be written to, nothing is remembered.

    Raises:
        OSError: the file cannot be read.
    """
    state = _state(file)
    with contextlib.suppress(UserError):  # no note, or a damaged one
        known = read_json(_note(file))
        if (
            isinstance(known, dict)
            and is_sha256(str(known.get("sha256")))
            and known.items() >= state.items()
        ):
            return known["sha256"]
    digest = file_sha256(file)
    if _state(file) == state:
        remember_sha256(file, digest)
    return digest


def remember_sha256(file: Path, sha256: str) -> None:
    """Note the hash of a file as it is now, for `remembered_sha256`."""
    with contextlib.suppress(OSError):
        write_json(_note(file), {"sha256": sha256, **_state(file)})


def _state(file: Path) -> dict[str, Any]:
    status = file.stat()
    return {"size": status.st_size, "mtime_ns": status.st_mtime_ns}


def _note(file: Path) -> Path:
    return file.with_name(f"{file.name}.sha256.json")
