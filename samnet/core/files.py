"""Files that are either complete or absent: everything is written beside its place and renamed."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from samnet.core.errors import UserError

TEMPORARY_PREFIX = ".partial-"


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path near `path`; on success it takes the final name in one step.

    It lies in a temporary folder of its own: the name stays, for writers that choose a format by it, and what a writer
    puts beside it (safetensors writes to a file of its own first) is known to be temporary too.
    A failure inside the block leaves nothing under the final name and removes the temporary folder.
    """
    path = Path(path)
    folder = path.parent / f"{TEMPORARY_PREFIX}{uuid.uuid4().hex[:8]}"
    folder.mkdir(parents=True)
    temporary = folder / path.name
    try:
        yield temporary
        _flush_to_disk(temporary)
        os.replace(temporary, path)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _flush_to_disk(path: Path) -> None:
    """Without this a power cut after the rename could leave an empty file under the final name."""
    if path.is_file():
        with path.open("rb") as handle:
            os.fsync(handle.fileno())


def remove_partial_files(folder: Path) -> None:
    """Delete what killed runs left behind directly in `folder`. Call it only from the one owner of the folder."""
    if folder.is_dir():
        for entry in folder.iterdir():
            if entry.name.startswith(TEMPORARY_PREFIX):
                remove_partial_file(entry)


def remove_partial_file(entry: Path) -> None:
    """Delete a file or folder; one that is gone meanwhile is no fault."""
    if entry.is_dir():
        shutil.rmtree(entry, ignore_errors=True)
    else:
        entry.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, content: Any) -> None:
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def write_json_rows(path: Path, content: dict[str, Any]) -> None:
    """Write JSON with many records in it: each entry of an object in `content` on one line, where all of it would be
    long and few lines of it worth reading by themselves."""
    entries = []
    for key, value in content.items():
        text = _compact(value)
        if isinstance(value, dict) and value:
            rows = ",\n".join(
                f"    {_compact(name)}: {_compact(row)}" for name, row in value.items()
            )
            text = f"{{\n{rows}\n  }}"
        entries.append(f"  {_compact(key)}: {text}")
    write_text(path, "{\n" + ",\n".join(entries) + "\n}\n")


def _compact(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def read_json(path: Path) -> Any:
    """Parse a JSON file.

    Raises:
        UserError: the file is missing, unreadable, or not JSON; the message has the line and column.
    """
    try:
        return json.loads(
            Path(path).read_text(encoding="utf-8-sig")
        )  # some editors put a byte order mark first
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except json.JSONDecodeError as error:
        raise UserError(
            f"{path}: not valid JSON ({error.msg}, line {error.lineno}, column {error.colno})"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read ({error})") from None
