"""The gradients of a batch, by less memory where there is too little: smaller parts, then computing blocks again."""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from samnet.core.errors import SamnetError
from samnet.models.network import SegmentationNetwork
from samnet.training.embeddings.samples import EmbeddedInputs, take_rows

log = logging.getLogger(__name__)
_OUT_OF_MEMORY = (
    "out of memory",
    "not enough memory",
    "can't allocate memory",
    "STATUS_ALLOC_FAILED",  # of cuBLAS and of cuDNN
    # A convolution tries one way after the other, and does not say that each wanted more work space than there is.
    "unable to find an engine to execute this computation",
)
_REMEDY = (
    "Train with a smaller --batch-size or --set input_size=..., with --backbone small or the configuration frozen, "
    "or where there is more memory; samnet_plan --memory SIZE plans for what there is"
)


@dataclass(frozen=True)
class Fallback:
    """What a training has come to for want of memory.

    step: from which on. rows: of a batch that are computed at once. gradient_checkpointing: whether the encoder's
    blocks are computed again in the backward pass. reason: the first line of the error.
    """

    step: int
    rows: int
    gradient_checkpointing: bool
    reason: str


class BatchGradients:
    """Computes loss and gradients of batches; when memory runs out it gives way one step, and does the batch again.

    First the batch is cut in halves, again and again down to single rows, then the encoder's blocks are computed again
    in the backward pass. The gradients stay those of the whole batch: the loss is that of the logits of all parts
    together, and each part is computed twice, for its logits and for its gradients.

    rows: of a batch in this process. may_fall_back: False where other processes would wait for this one's part.
    """

    def __init__(self, network: SegmentationNetwork, rows: int, *, may_fall_back: bool) -> None:
        self.network, self.rows, self.part, self.may_fall_back = network, rows, rows, may_fall_back

    def compute(
        self,
        inputs: Tensor | EmbeddedInputs,
        predict: Callable[[Tensor | EmbeddedInputs], Tensor],
        loss_of: Callable[[Tensor], Tensor],
        step: int,
        note: Callable[[Fallback], None],
    ) -> Tensor:
        """The loss of a batch, a scalar; the gradients are added to those of the parameters.

        predict: logits of inputs. loss_of: the loss of the logits of the whole batch. note: told of each concession.

        Raises:
            SamnetError: memory is too small even for the most economical way.
        """
        while True:
            try:
                return self._compute(inputs, predict, loss_of)
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
                reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            # Not before here: the error holds on to all tensors of the step.
            self._free()
            note(self._fall_back(step, reason))

    def _compute(
        self,
        inputs: Tensor | EmbeddedInputs,
        predict: Callable[[Tensor | EmbeddedInputs], Tensor],
        loss_of: Callable[[Tensor], Tensor],
    ) -> Tensor:
        self.network.zero_grad(set_to_none=True)
        if self.part >= self.rows:
            loss = loss_of(predict(inputs))
            loss.backward()
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
        starts = range(0, self.rows, self.part)
        return [
            take_rows(inputs, start, min(start + self.part, self.rows), uses_image)
            for start in starts
        ]

    def _free(self) -> None:
        self.network.zero_grad(set_to_none=True)
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _fall_back(self, step: int, reason: str) -> Fallback:
        encoder: Any = self.network.encoder
        if not self.may_fall_back:
            raise SamnetError(f"a training step does not fit into the memory ({reason}). {_REMEDY}")
        if self.part > 1:
            self.part = -(-self.part // 2)
            change = f"batches are computed in parts of {self.part}, with the same gradients in more time"
        elif not encoder.gradient_checkpointing and any(
            weight.requires_grad for weight in encoder.parameters()
        ):
            encoder.gradient_checkpointing = True
            change = "the encoder's blocks are computed again in the backward pass"
        else:
            raise SamnetError(
                f"a training step does not fit into the memory, one image at a time ({reason}). {_REMEDY}"
            )
        log.warning("out of memory at step %d (%s): from here on %s", step, reason, change)
        return Fallback(step, self.part, encoder.gradient_checkpointing, reason)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error, of torch's or of Python's, says that memory is too small."""
    if isinstance(error, (MemoryError, torch.cuda.OutOfMemoryError)):
        return True
    return any(mark in str(error) for mark in _OUT_OF_MEMORY)
