"""Reading and writing of files that are always either complete or absent.

Every file is first written under a temporary name in the same folder and then renamed.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import stat
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from samnet.core.errors import UserError

TEMPORARY_PREFIX = ".partial-"


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path near `path`, and rename it to `path` when the block succeeds.

    The temporary file lies in a temporary folder and keeps its final name, because some writers
    choose the format by the name. Files that a writer puts next to it (safetensors first writes to
    another file) lie in the temporary folder too, so they are recognised as temporary.
    Where the block fails, `path` is left unchanged and the temporary folder is removed.
    What was written is on the disk before the rename, and the new name after it.
    Files and folders get at least the mode that the umask gives to new ones: some writers create
    files that only their owner can read.

    Args:
        path: Final path of the file or folder. Its parent folders are created.

    Yields:
        The path to write to.
    """
    path = Path(path)
    folder = path.parent / f"{TEMPORARY_PREFIX}{uuid.uuid4().hex[:8]}"
    folder.mkdir(parents=True)
    temporary = folder / path.name
    try:
        yield temporary
        _open_to_others(temporary)
        _flush_to_disk(temporary)
        os.replace(temporary, path)
        _flush_entries(path.parent)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _open_to_others(path: Path) -> None:
    """Add to what was written the permissions that the umask gives to new files and folders."""
    # Asking the system by creating a file and a folder respects access lists too, and unlike
    # `os.umask` it changes nothing for other threads.
    new_file, new_folder = (
        path.parent / f"{TEMPORARY_PREFIX}{kind}" for kind in ("file", "folder")
    )
    new_file.touch()
    new_folder.mkdir()
    modes = {False: new_file.stat().st_mode, True: new_folder.stat().st_mode}
    new_file.unlink()
    new_folder.rmdir()
    for entry in (path, *path.rglob("*")):
        if entry.is_symlink() or not entry.exists():
            continue
        mode = stat.S_IMODE(entry.stat().st_mode)
        target = mode | stat.S_IMODE(modes[entry.is_dir()])
        if target != mode:
            with contextlib.suppress(OSError):  # another user's file, or a drive without modes
                entry.chmod(target)


def _flush_to_disk(path: Path) -> None:
    """Make sure that a power cut after the rename leaves nothing half-written at the final place.

    That is a file without its content, or a folder without some of its files.
    """
    for entry in (path, *path.rglob("*")):
        if entry.is_symlink():
            continue
        if entry.is_file():
            with entry.open("rb") as handle:
                os.fsync(handle.fileno())
        elif entry.is_dir():
            _flush_entries(entry)


def _flush_entries(folder: Path) -> None:
    """Make sure that a power cut does not undo which names a folder holds.

    Some network drives cannot flush a folder, and Windows does not open one. Files are whole there
    all the same.
    """
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def remove_partial_files(folder: Path) -> None:
    """Delete the temporary files that killed runs left directly in a folder.

    Call it only from the one process that owns the folder: it also deletes files that another
    process is writing at this moment.

    Args:
        folder: Folder to clean. It need not exist.
    """
    if not folder.is_dir():
        return
    for entry in folder.iterdir():
        if entry.name.startswith(TEMPORARY_PREFIX):
            remove_partial_file(entry)


def remove_partial_file(entry: Path) -> None:
    """Delete a file or folder; nothing happens where another process has deleted it already.

    Args:
        entry: The file or folder.
    """
    if entry.is_dir():
        shutil.rmtree(entry, ignore_errors=True)
    else:
        entry.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file in UTF-8.

    Args:
        path: The file; an older one is replaced.
        text: The whole content.
    """
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, content: Any) -> None:
    """Write an indented JSON file.

    Args:
        path: The file; an older one is replaced.
        content: What `json.dumps` accepts.
    """
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def write_json_rows(path: Path, content: dict[str, Any]) -> None:
    """Write a JSON file of many records, one record a line.

    Where a value of `content` is an object, each of its entries takes one line; every other value
    is written on the line of its key. Indenting such a file fully would make it very long.

    Args:
        path: The file; an older one is replaced.
        content: The JSON object to write.
    """
    entries = []
    for key, value in content.items():
        text = _compact_json(value)
        if isinstance(value, dict) and value:
            rows = [
                f"    {_compact_json(name)}: {_compact_json(row)}" for name, row in value.items()
            ]
            text = "{\n" + ",\n".join(rows) + "\n  }"
        entries.append(f"  {_compact_json(key)}: {text}")
    write_text(path, "{\n" + ",\n".join(entries) + "\n}\n")


def _compact_json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def require_readable(path: Path) -> None:
    """Check that a file can be opened; libraries often call one that cannot missing or damaged.

    Args:
        path: The file.

    Raises:
        UserError: There is no such file, or it may not or cannot be opened.
    """
    try:
        with Path(path).open("rb"):
            return
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"{path}: no such file") from None
    except PermissionError:
        raise UserError(_no_permission(path)) from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from None


def _no_permission(path: Path) -> str:
    return (
        f"{path}: is not readable for this user (permission denied); "
        "ask its owner to permit reading it and opening the folders above it"
    )


def read_json(path: Path) -> Any:
    """Read a JSON file in UTF-8.

    Args:
        path: The file.

    Returns:
        The parsed content.

    Raises:
        UserError: The file is missing, unreadable, or not JSON. For the last the message has the
            line and the column.
    """
    try:
        # utf-8-sig, because some editors put a byte order mark at the beginning.
        return json.loads(Path(path).read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except PermissionError:
        raise UserError(_no_permission(path)) from None
    except json.JSONDecodeError as error:
        raise UserError(
            f"{path}: not valid JSON ({error.msg}, line {error.lineno}, column {error.colno})"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read ({error})") from None
