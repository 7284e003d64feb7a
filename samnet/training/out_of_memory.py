"""The gradients of a batch, and what to fall back on when memory runs out.

First the batch is cut into smaller parts, then blocks are computed again in the backward pass.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from samnet.core.errors import SamnetError
from samnet.models.network import SegmentationNetwork
from samnet.models.out_of_memory import compute_in_less_memory
from samnet.training.embeddings.samples import EmbeddedInputs, take_rows
from samnet.training.gradients import set_gradients

log = logging.getLogger(__name__)
_REMEDY = (
    "Train with a smaller --batch-size or --set input_size=..., with --backbone small or the "
    "configuration frozen, or where there is more memory; samnet_plan --memory SIZE plans for what "
    "there is"
)


@dataclass(frozen=True)
class Fallback:
    """What a training run has fallen back on for want of memory.

    Attributes:
        step: The step from which on it holds.
        rows: Rows of a batch that are computed at once.
        gradient_checkpointing: Whether the encoder's blocks are computed again in the backward
            pass.
        reason: The first line of the error.
    """

    step: int
    rows: int
    gradient_checkpointing: bool
    reason: str


class BatchGradients:
    """Computes loss and gradients of batches. When memory runs out, it does the batch in less.

    First the batch is cut in halves, again and again down to single rows. Then the encoder's blocks
    are computed again in the backward pass. The gradients stay those of the whole batch: the loss
    is that of the logits of all parts together, and each part is computed twice, for its logits and
    for its gradients.

    Attributes:
        network: The network.
        trained: Its weights that are trained.
        rows: Rows of a batch in this process.
        part: Rows that are computed at once.
        may_fall_back: Whether it may do so; else memory that runs out is an error.
    """

    def __init__(self, network: SegmentationNetwork, rows: int, *, may_fall_back: bool) -> None:
        """Prepare for a network.

        Args:
            network: The network.
            rows: Rows of a batch in this process.
            may_fall_back: False where other processes would wait for this one's part.
        """
        self.network, self.rows, self.part = network, rows, rows
        # Walking over the modules of a network in each step would take milliseconds.
        self.trained = [weight for weight in network.parameters() if weight.requires_grad]
        self.may_fall_back = may_fall_back

    @property
    def is_divided(self) -> bool:
        """Whether batches are computed in parts, as memory has run out."""
        return self.part < self.rows

    def compute(
        self,
        inputs: Tensor | EmbeddedInputs,
        predict: Callable[[Tensor | EmbeddedInputs], Tensor],
        loss_of: Callable[[Tensor], Tensor],
        step: int,
        on_fallback: Callable[[Fallback], None],
    ) -> Tensor:
        """Compute the loss of a batch, and add its gradients to those of the parameters.

        Args:
            inputs: The batch.
            predict: Returns the logits of inputs.
            loss_of: Returns the loss of the logits of the whole batch.
            step: The number of the step.
            on_fallback: Called with each fallback.

        Returns:
            The loss, a scalar.

        Raises:
            SamnetError: The memory is too small for a single row, or falling back is not allowed.
        """
        return compute_in_less_memory(
            lambda: self._compute(inputs, predict, loss_of),
            lambda reason: on_fallback(self._fall_back(step, reason)),
            clean_up=lambda: clear_gradients(self.trained),
        )

    def _compute(
        self,
        inputs: Tensor | EmbeddedInputs,
        predict: Callable[[Tensor | EmbeddedInputs], Tensor],
        loss_of: Callable[[Tensor], Tensor],
    ) -> Tensor:
        clear_gradients(self.trained)
        if not self.is_divided:
            loss = loss_of(predict(inputs))
            set_gradients(loss, self.trained)
            return loss.detach()
        parts = self._parts(inputs)
        with torch.no_grad():
            logits = torch.cat([predict(part) for part in parts])
        logits.requires_grad_(True)
        loss = loss_of(logits)
        loss.backward()
        assert logits.grad is not None
        for part, gradient in zip(parts, logits.grad.split(self.part), strict=True):
            predict(part).backward(gradient)
        return loss.detach()

    def _parts(self, inputs: Tensor | EmbeddedInputs) -> Sequence[Tensor | EmbeddedInputs]:
        if isinstance(inputs, Tensor):
            return inputs.split(self.part)
        uses_image = self.network.head.uses_image
        parts = []
        for start in range(0, self.rows, self.part):
            stop = min(start + self.part, self.rows)
            parts.append(take_rows(inputs, start, stop, uses_image))
        return parts

    def _fall_back(self, step: int, reason: str) -> Fallback:
        encoder: Any = self.network.encoder
        if not self.may_fall_back:
            raise SamnetError(f"a training step does not fit into the memory ({reason}). {_REMEDY}")
        is_trained = any(weight.requires_grad for weight in encoder.parameters())
        if self.part > 1:
            self.part = -(-self.part // 2)
            change = (
                f"batches are computed in parts of {self.part}, with the same gradients in more "
                "time"
            )
        elif is_trained and not encoder.gradient_checkpointing:
            encoder.gradient_checkpointing = True
            change = "the encoder's blocks are computed again in the backward pass"
        else:
            raise SamnetError(
                f"a training step does not fit into the memory, one image at a time ({reason}). "
                f"{_REMEDY}"
            )
        log.warning("out of memory at step %d (%s): from here on %s", step, reason, change)
        return Fallback(step, self.part, encoder.gradient_checkpointing, reason)


def clear_gradients(weights: Iterable[nn.Parameter]) -> None:
    """Remove the gradients of some weights.

    Args:
        weights: The weights.
    """
    for weight in weights:
        weight.grad = None


def call_optimizer(action: Callable[[], Any]) -> None:
    """Let the optimiser do something, for which there is no fallback.

    Args:
        action: What it does: a step, or the allocation of its state.

    Raises:
        SamnetError: The memory is too small.
    """

    def fall_back(reason: str) -> None:
        raise SamnetError(
            f"the state of the optimiser does not fit into the memory ({reason}). {_REMEDY}"
        )

    compute_in_less_memory(action, fall_back)
