"""Files that this user may not read are reported as such."""

from __future__ import annotations

import errno
import io
from collections.abc import Callable
from pathlib import Path

import pytest

from samnet.core.errors import UserError
from samnet.core.files import read_json
from samnet.dataset.images import read_labels
from samnet.models.checkpoints import load_checkpoint
from samnet.models.network import load_weights


@pytest.mark.parametrize("read", [read_json, load_weights, load_checkpoint, read_labels])
def test_a_file_without_permission_is_not_called_missing_or_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read: Callable[[Path], object]
) -> None:
    file = tmp_path / "file.png"
    file.write_bytes(b"content")

    def refuse(*arguments: object, **options: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(file))

    # As a mode of 000 does for everybody except the administrator.
    monkeypatch.setattr(Path, "open", refuse)
    monkeypatch.setattr(io, "open", refuse)
    with pytest.raises(UserError) as caught:
        read(file)
    assert str(caught.value).startswith(f"{file}: is not readable for this user")
