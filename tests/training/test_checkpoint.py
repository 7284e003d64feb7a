"""The state from which a run is resumed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from samnet.core.errors import UserError
from samnet.models.model_folder import LAST, PREVIOUS, RunFolder
from samnet.training.checkpoint import find_state


@pytest.mark.parametrize("kind", [LAST, PREVIOUS])
def test_find_state_takes_no_other_state_than_one_without_permission(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = RunFolder(tmp_path)
    for each in (LAST, PREVIOUS):
        folder.checkpoint(each).write_bytes(b"content")
    refused, opened = folder.checkpoint(kind), Path.open

    def refuse(file: Path, *arguments: Any, **options: Any) -> Any:
        if file == refused:
            raise PermissionError
        return opened(file, *arguments, **options)

    # As a mode of 000 does for everybody except the administrator.
    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(UserError, match=rf"{refused.name}: is not readable for this user"):
        find_state(folder)
