"""What happens in the middle of a training run, and what the run leaves."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from samnet.models.model_folder import LAST, RunFolder
from samnet.models.network import load_weights
from samnet.training.loop import Trainer


def read_rows(folder: RunFolder) -> list[dict[str, Any]]:
    """Read the numbers of every epoch."""
    return [json.loads(line) for line in folder.metrics_file.read_text().splitlines()]


def load_last_weights(folder: RunFolder) -> dict[str, torch.Tensor]:
    """Read the network's weights from the last checkpoint."""
    weights = load_weights(folder.checkpoint(LAST))
    prefix = "network."
    return {
        name.removeprefix(prefix): value
        for name, value in weights.items()
        if name.startswith(prefix)
    }


class Stopped(Exception):
    """Ends a training run as if it were killed: no state is saved."""


def stop() -> None:
    """End a training run from a hook."""
    raise Stopped


def send_signal(number: int) -> None:
    """Send a signal to this process."""
    os.kill(os.getpid(), number)


def after_step(number: int, action: Callable[[], object]) -> Callable[[int, float], None]:
    """Return an `on_step` that does something after a step, whose number is counted from 1."""

    def on_step(step: int, loss: float) -> None:
        if step == number:
            action()

    return on_step


def in_validation(trainer: Trainer, number: int, action: Callable[[], object]) -> None:
    """Do something once in the middle of a validation, whose number is counted from 1."""
    done: list[int] = []

    def before_forward(network: torch.nn.Module, inputs: tuple) -> None:
        is_validation = not network.training and trainer.progress.epoch == number - 1
        if is_validation and not done:
            done.append(number)
            action()

    trainer.network.register_forward_pre_hook(before_forward)


def fixed_dice(*values: float) -> Callable[..., np.ndarray]:
    """Return a `validator` that finds these mean Dice values, then the last one for ever."""
    left = list(values)

    def validator(*arguments: Any, **options: Any) -> np.ndarray:
        value = left.pop(0) if len(left) > 1 else left[0]
        return np.full(2, value)

    return validator
