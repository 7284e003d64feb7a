"""The state of a training run in one file, so that it is never half one state and half another."""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Protocol

import torch
from safetensors import safe_open
from torch import Tensor

from samnet.core.errors import UserError
from samnet.core.files import atomic_path, require_readable
from samnet.core.read_failures import raise_failure_of_machine
from samnet.core.records import from_json
from samnet.models.model_folder import LAST, PREVIOUS, RunFolder
from samnet.models.network import load_weights, save_weights
from samnet.training.schedule import Plateau

log = logging.getLogger(__name__)


@dataclass
class Progress:
    """How far a training run is.

    Attributes:
        step: Optimiser steps done.
        epoch: Finished epochs.
        seconds: Time trained so far, over all sessions.
        best_dice: Best mean Dice of the validations; -1 before the first.
        best_epoch: The epoch it came from; -1 before the first.
        worse_validations: Validations since then.
        loss_sum: Sum of the losses of the unfinished epoch.
        loss_count: Steps of the unfinished epoch.
        plateau: State of the `plateau` schedule.
    """

    step: int = 0
    epoch: int = 0
    seconds: float = 0.0
    best_dice: float = -1.0
    best_epoch: int = -1
    worse_validations: int = 0
    loss_sum: float = 0.0
    loss_count: int = 0
    plateau: Plateau = field(default_factory=Plateau)

    @property
    def mean_loss(self) -> float:
        """The mean loss of the unfinished epoch; 0 before its first step."""
        return self.loss_sum / max(1, self.loss_count)

    def has_stalled(self, patience: int) -> bool:
        """Tell whether the validations have not become better for too long.

        Args:
            patience: After how many validations; 0 for never.

        Returns:
            Whether it is so.
        """
        if patience == 0 or self.best_epoch < 0:
            return False
        return self.worse_validations >= patience


class Resumable(Protocol):
    """A network whose training can be resumed, as it can return and take its trained weights."""

    def adapter(self) -> dict[str, Tensor]:
        """Return the trained weights.

        Returns:
            Tensors by name.
        """
        ...

    def load_adapter(self, weights: dict[str, Tensor], where: str) -> None:
        """Take trained weights.

        Args:
            weights: Tensors by name, as `adapter` returns them.
            where: What to call their source in messages.
        """
        ...


class Kept(Protocol):
    """What a checkpoint keeps in addition to network, optimiser and progress."""

    def state(self) -> dict[str, Tensor]:
        """Return what is kept.

        Returns:
            Tensors by name, which nothing else has.
        """
        ...

    def load_state(self, tensors: dict[str, Tensor]) -> None:
        """Take what was kept, or begin where the checkpoint is older.

        Args:
            tensors: All tensors of the checkpoint by name.
        """
        ...


def save_training(
    folder: RunFolder,
    network: Resumable,
    optimizer: torch.optim.Optimizer,
    progress: Progress,
    others: Sequence[Kept] = (),
) -> None:
    """Write network, optimiser, progress and what else is kept as the last checkpoint.

    What was the last checkpoint before becomes the previous one.

    Args:
        folder: The folder of the run.
        network: The network.
        optimizer: Its optimiser.
        progress: How far the run is.
        others: What is kept in addition, such as the average of the weights.
    """
    tensors = {f"network.{name}": value for name, value in network.adapter().items()}
    for index, parameter in enumerate(_parameters(optimizer)):
        for name, value in optimizer.state.get(parameter, {}).items():
            tensors[f"optimizer.{index}.{name}"] = torch.as_tensor(value)
    for other in others:
        tensors |= other.state()
    _keep_as_previous(folder)
    metadata = {"progress": json.dumps(asdict(progress))}
    save_weights(tensors, folder.checkpoint(LAST), metadata)


def _keep_as_previous(folder: RunFolder) -> None:
    """Give the last checkpoint a second name, or copy it where the file system has no links.

    So there is a last checkpoint at any time.
    """
    last = folder.checkpoint(LAST)
    if not last.is_file() or not _is_whole(last):
        return
    with atomic_path(folder.checkpoint(PREVIOUS)) as temporary:
        try:
            os.link(last, temporary)
        except OSError:
            shutil.copyfile(last, temporary)


def find_state(folder: RunFolder) -> Path | None:
    """Find the checkpoint from which a run is resumed.

    Args:
        folder: The folder of the run.

    Returns:
        The last checkpoint, or the previous one where that is damaged; None where there is none.

    Raises:
        UserError: There are only damaged ones, or one is not readable for this user.
    """
    candidates = (folder.checkpoint(LAST), folder.checkpoint(PREVIOUS))
    there = [file for file in candidates if file.is_file()]
    for file in there:
        require_readable(file)  # else it would be taken for damaged, and an older one resumed
    whole = [file for file in there if _is_whole(file)]
    if there and not whole:
        read_progress(there[0])
    return whole[0] if whole else None


def resume_training(
    folder: RunFolder,
    network: Resumable,
    optimizer: torch.optim.Optimizer,
    others: Sequence[Kept] = (),
) -> Progress:
    """Restore the state of a run.

    Args:
        folder: The folder of the run.
        network: The network, which is changed in place.
        optimizer: Its optimiser, which is changed in place.
        others: What is kept in addition, which is changed in place.

    Returns:
        How far the run is; a new `Progress` where it has not saved anything.

    Raises:
        UserError: There are only damaged states, or the state is of another network.
    """
    file = find_state(folder)
    if file is None:
        return Progress()
    progress = load_training(file, network, optimizer, others)
    if file == folder.checkpoint(PREVIOUS):
        last = folder.checkpoint(LAST)
        log.warning("%s is damaged: resuming from the one before it, %s", last, file.name)
    log.info("resuming from step %d", progress.step)
    return progress


def _is_whole(file: Path) -> bool:
    try:
        read_progress(file)
    except UserError:
        return False
    return True


def load_training(
    file: Path,
    network: Resumable,
    optimizer: torch.optim.Optimizer,
    others: Sequence[Kept] = (),
) -> Progress:
    """Restore what `save_training` wrote.

    Args:
        file: The checkpoint.
        network: The network, which is changed in place.
        optimizer: Its optimiser, which is changed in place.
        others: What is kept in addition, which is changed in place.

    Returns:
        How far the run was.

    Raises:
        UserError: The file is damaged, or is of another network.
    """
    tensors = load_weights(file)
    progress = read_progress(file)
    network.load_adapter(_with_prefix(tensors, "network."), str(file))
    for other in others:
        other.load_state(tensors)
    states = _with_prefix(tensors, "optimizer.")
    # Only a fused optimiser counts its steps on the device.
    on_cpu = () if optimizer.defaults.get("fused") else ("step",)
    for index, parameter in enumerate(_parameters(optimizer)):
        state = _with_prefix(states, f"{index}.")
        if state:
            optimizer.state[parameter] = {
                name: value if name in on_cpu else value.to(parameter.device)
                for name, value in state.items()
            }
    return progress


def read_progress(file: Path) -> Progress:
    """Read how far a run was that `save_training` wrote.

    Args:
        file: The checkpoint. Its length is checked against its table of contents.

    Returns:
        How far the run was.

    Raises:
        UserError: The file is no such checkpoint, or is damaged.
    """
    try:
        with safe_open(file, "pt") as handle:
            metadata = handle.metadata() or {}
    except Exception as error:
        raise_failure_of_machine(file, error)
        raise UserError(f"{file}: cannot be read ({error}); --restart trains again") from None
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
