"""Archives of models that are changed after the export, and what has to happen to bad ones."""

from __future__ import annotations

import hashlib
import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from samnet.core.errors import UserError
from samnet.sharing.archive_checks import DEFAULT_LIMITS, ArchiveLimits
from samnet.sharing.install import install_model

# The content of an archive by the names of its files.
Contents = dict[str, bytes]
WEIGHTS = "fold_0/checkpoint_final.safetensors"


def read_archive(file: Path) -> Contents:
    """Read an archive.

    Args:
        file: The archive, of which no name occurs twice.

    Returns:
        The content of its files, in their order.
    """
    with zipfile.ZipFile(file) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def write_archive(file: Path, contents: Contents, compression: int = zipfile.ZIP_STORED) -> Path:
    """Write an archive.

    Args:
        file: The archive to write.
        contents: The content of its files, in their order.
        compression: A method of `zipfile`.

    Returns:
        The archive.
    """
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, content in contents.items():
            archive.writestr(name, content)
    return file


def update_manifest(contents: Contents) -> None:
    """Let the manifest of an archive agree with its files, in place.

    Args:
        contents: The content of the archive.
    """
    manifest = json.loads(contents["manifest.json"])
    manifest["files"] = {
        name: {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        for name, content in contents.items()
        if name != "manifest.json"
    }
    contents["manifest.json"] = json.dumps(manifest).encode()


def set_keys(contents: Contents, name: str, **values: Any) -> None:
    """Set keys of a JSON file in an archive, in place.

    Args:
        contents: The content of the archive.
        name: The name of the file.
        values: The values by key.
    """
    contents[name] = json.dumps(json.loads(contents[name]) | values).encode()


def assert_nothing_installed(results: Path) -> None:
    """Fail if there is any file in the results folder.

    Args:
        results: The folder.
    """
    assert [path for path in results.rglob("*") if path.is_file()] == []


def assert_refused(
    file: Path, results: Path, message: str, limits: ArchiveLimits = DEFAULT_LIMITS
) -> None:
    """Fail unless an archive is refused with a message that names it, and leaves nothing behind.

    Args:
        file: The archive.
        results: The results folder; nothing called `evil` may appear in its parent folder either.
        message: A regular expression that the message has to match.
        limits: How large the archive may be.
    """
    with pytest.raises(UserError, match=message) as caught:
        install_model(file, limits=limits)
    assert str(file) in str(caught.value)
    assert_nothing_installed(results)
    assert list(results.parent.glob("evil*")) == []
