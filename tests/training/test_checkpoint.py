"""The state from which a run is resumed."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from samnet.core.errors import UserError
from samnet.core.read_failures import ReadFailure
from samnet.models.model_folder import LAST, PREVIOUS, RunFolder
from samnet.models.network import save_weights
from samnet.training import checkpoint
from samnet.training.checkpoint import Progress, find_state, read_progress, save_training


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


class OneWeight(torch.nn.Linear):
    """A network of a single weight, as far as checkpoints need a network."""

    def __init__(self) -> None:
        super().__init__(1, 1, bias=False)

    def adapter(self) -> dict[str, torch.Tensor]:
        return {"weight": self.weight.detach()}

    def load_adapter(self, weights: dict[str, torch.Tensor], where: str) -> None:
        self.weight.data = weights["weight"]


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path)


def save(folder: RunFolder, *steps: int) -> None:
    """Save the states of some steps, one after the other."""
    network = OneWeight()
    for step in steps:
        save_training(folder, network, torch.optim.Adam([network.weight]), Progress(step=step))


def saved_steps(folder: RunFolder) -> list[int]:
    """Return the steps of the last state and of the one before."""
    return [read_progress(folder.checkpoint(kind)).step for kind in (LAST, PREVIOUS)]


def test_damaged_state_does_not_replace_the_one_before_it(folder: RunFolder) -> None:
    save(folder, 1, 2)
    last = folder.checkpoint(LAST)
    os.truncate(last, last.stat().st_size - 1)
    save(folder, 3)
    assert saved_steps(folder) == [3, 1]


def test_state_before_is_kept_where_files_have_a_single_name(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on file systems without hard links."""

    def refuse(*arguments: Any) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    save(folder, 1, 2)
    assert saved_steps(folder) == [2, 1]


def test_state_that_the_disk_cannot_read_is_not_called_damaged(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else an older state would be resumed."""
    save(folder, 1, 2)

    def fail(*arguments: Any) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(checkpoint, "safe_open", fail)
    with pytest.raises(ReadFailure, match="Input/output error"):
        find_state(folder)


def test_weights_without_progress_are_no_state(folder: RunFolder) -> None:
    save_weights(OneWeight().adapter(), folder.checkpoint(LAST))
    with pytest.raises(UserError, match="is no checkpoint of a running training"):
        find_state(folder)


@pytest.mark.parametrize(
    ("worse", "best_epoch", "patience", "has_stalled"),
    [(2, 2, 2, True), (1, 2, 2, False), (2, 2, 0, False), (2, -1, 2, False)],
    ids=["too long", "not too long", "no patience", "no validation"],
)
def test_progress_has_stalled_when_the_best_validation_is_too_long_ago(
    worse: int, best_epoch: int, patience: int, has_stalled: bool
) -> None:
    progress = Progress(epoch=9, best_epoch=best_epoch, worse_validations=worse)
    assert progress.has_stalled(patience) == has_stalled
