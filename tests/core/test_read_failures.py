"""Failures of the machine are told from damaged files wherever a file is read."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from samnet.core.errors import UserError
from samnet.core.read_failures import ReadFailure
from samnet.models import checkpoints, network
from samnet.training import checkpoint

READERS = [
    (network, "load_file", network.load_weights, "w.safetensors"),
    (checkpoint, "safe_open", checkpoint.read_progress, "w.safetensors"),
    (checkpoints, "load_file", checkpoints.load_checkpoint, "w.safetensors"),
    (checkpoints.torch, "load", checkpoints.load_checkpoint, "w.pth"),
]


@pytest.mark.parametrize(("module", "name", "read", "file_name"), READERS)
@pytest.mark.parametrize(
    ("failure", "expected"),
    [
        (MemoryError("full"), ReadFailure),
        (OSError(errno.EIO, "Input/output error"), ReadFailure),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), ReadFailure),
        (ValueError("header too large"), UserError),
        (OSError("no such format"), UserError),
    ],
)
def test_reader_of_weights_reports_what_failed(
    module: Any,
    name: str,
    read: Callable[[Path], Any],
    file_name: str,
    failure: Exception,
    expected: type[Exception],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*arguments: Any, **options: Any) -> None:
        raise failure

    file = tmp_path / file_name
    file.touch()
    monkeypatch.setattr(module, name, fail)
    with pytest.raises(expected, match=file_name):
        read(file)
