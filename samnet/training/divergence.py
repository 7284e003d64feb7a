"""Checks that a training run has not diverged, before anything of it is kept."""

from __future__ import annotations

import math

from samnet.core.errors import SamnetError
from samnet.training.checkpoint import Resumable


def check_step(loss: float, gradient_norm: float, step: int, learning_rate: float) -> None:
    """Check the loss and the gradients of a step, before the optimiser uses them.

    Args:
        loss: The loss of the batch.
        gradient_norm: The norm of all gradients together.
        step: The number of the step, from 0.
        learning_rate: The peak rate of the run.

    Raises:
        SamnetError: One of them is not finite.
    """
    if not math.isfinite(loss):
        raise _diverged(f"the loss is {loss}", step, learning_rate)
    if not math.isfinite(gradient_norm):
        raise _diverged(f"the norm of the gradients is {gradient_norm}", step, learning_rate)


def check_weights(network: Resumable, step: int, learning_rate: float) -> None:
    """Check the trained weights of a network, before they are written.

    Args:
        network: The network.
        step: The number of steps done.
        learning_rate: The peak rate of the run.

    Raises:
        SamnetError: A weight is not finite.
    """
    for name, values in network.adapter().items():
        if not bool(values.isfinite().all()):
            raise _diverged(f"weights in {name} are not finite", step, learning_rate)


def _diverged(what: str, step: int, learning_rate: float) -> SamnetError:
    return SamnetError(
        f"{what} at step {step}: the training has diverged. Start it again with a lower rate, "
        f"for example --lr {learning_rate / 3:.1g} --restart"
    )
