"""The state of a training in one file, so that it is never half one state and half another."""

from __future__ import annotations

import json
import logging
import os
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Protocol

import torch
from safetensors import safe_open
from torch import Tensor

from samnet.core.errors import UserError
from samnet.core.files import atomic_path
from samnet.core.records import from_json
from samnet.models.network import load_weights, save_weights
from samnet.training.schedule import Plateau

log = logging.getLogger(__name__)
FINAL, BEST, LAST = (
    "checkpoint_final.safetensors",
    "checkpoint_best.safetensors",
    "checkpoint_last.safetensors",
)
PREVIOUS = "checkpoint_previous.safetensors"


@dataclass
class Progress:
    """Where a training stands.

    step: optimiser steps done. seconds: trained so far, over all sittings. best_dice: of the validations, with the
    epoch it came from (-1: none yet). epoch: finished ones. loss_sum, loss_count: of the unfinished epoch.
    plateau: of the `plateau` schedule.
    """

    step: int = 0
    epoch: int = 0
    seconds: float = 0.0
    best_dice: float = -1.0
    best_epoch: int = -1
    loss_sum: float = 0.0
    loss_count: int = 0
    plateau: Plateau = field(default_factory=Plateau)


class Resumable(Protocol):
    """A network whose training can be gone on with: what it has learned goes out by names, and in again."""

    def adapter(self) -> dict[str, Tensor]: ...

    def load_adapter(self, weights: dict[str, Tensor], where: str) -> None: ...


def save_training(
    folder: Path, network: Resumable, optimizer: torch.optim.Optimizer, progress: Progress
) -> None:
    """Write network, optimiser and progress as `LAST`; what was that becomes `PREVIOUS`."""
    tensors = {f"network.{name}": value for name, value in network.adapter().items()}
    for index, parameter in enumerate(_parameters(optimizer)):
        for name, value in optimizer.state.get(parameter, {}).items():
            tensors[f"optimizer.{index}.{name}"] = torch.as_tensor(value)
    _keep_as_previous(folder)
    save_weights(tensors, folder / LAST, {"progress": json.dumps(asdict(progress))})


def _keep_as_previous(folder: Path) -> None:
    """A second name for the file, or a copy where the file system has no such names: `LAST` is never missing."""
    if not (folder / LAST).is_file() or not _is_whole(folder / LAST):
        return
    with atomic_path(folder / PREVIOUS) as temporary:
        try:
            os.link(folder / LAST, temporary)
        except OSError:
            shutil.copyfile(folder / LAST, temporary)


def find_state(folder: Path) -> Path | None:
    """The checkpoint to go on from: the last one, or the one before where that is damaged; None where there is none.

    Raises:
        UserError: there are only damaged ones.
    """
    there = [file for file in (folder / LAST, folder / PREVIOUS) if file.is_file()]
    whole = [file for file in there if _is_whole(file)]
    if there and not whole:
        read_progress(there[0])
    return whole[0] if whole else None


def resume_training(folder: Path, network: Resumable, optimizer: torch.optim.Optimizer) -> Progress:
    """Restore the state `find_state` finds; a new `Progress` where there is none.

    Raises:
        UserError: there are only damaged states, or it is of another network.
    """
    file = find_state(folder)
    if file is None:
        return Progress()
    progress = load_training(file, network, optimizer)
    if file.name == PREVIOUS:
        log.warning("%s is damaged: going on from the one before it, %s", folder / LAST, PREVIOUS)
    log.info("going on from step %d", progress.step)
    return progress


def _is_whole(file: Path) -> bool:
    try:
        read_progress(file)
    except UserError:
        return False
    return True


def load_training(file: Path, network: Resumable, optimizer: torch.optim.Optimizer) -> Progress:
    """Restore what `save_training` wrote.

    Raises:
        UserError: the file is damaged, or is of another network.
    """
    tensors = load_weights(file)
    progress = read_progress(file)
    network.load_adapter(_with_prefix(tensors, "network."), str(file))
    states = _with_prefix(tensors, "optimizer.")
    # Only a fused optimiser counts its steps on the device.
    remains = () if optimizer.defaults.get("fused") else ("step",)
    for index, parameter in enumerate(_parameters(optimizer)):
        state = _with_prefix(states, f"{index}.")
        if state:
            optimizer.state[parameter] = {
                name: value if name in remains else value.to(parameter.device)
                for name, value in state.items()
            }
    return progress


def read_progress(file: Path) -> Progress:
    """Where the training stood that `save_training` wrote.

    Raises:
        UserError: the file is no such checkpoint, or is damaged: its length is checked against its table of contents.
    """
    try:
        with safe_open(file, "pt") as handle:
            metadata = handle.metadata() or {}
    except Exception as error:
        raise UserError(f"{file}: cannot be read ({error}); --restart trains anew") from None
    if "progress" not in metadata:
        raise UserError(f"{file}: is no checkpoint of a running training")
    return from_json(Progress, json.loads(metadata["progress"]), str(file))


def _parameters(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def _with_prefix(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {
        name.removeprefix(prefix): value
        for name, value in tensors.items()
        if name.startswith(prefix)
    }
