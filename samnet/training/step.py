"""One step of a training run: forward, loss, backward, clipping and optimiser."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from samnet.models.network import SegmentationNetwork
from samnet.models.precision import autocast
from samnet.training.distributed import Distributed
from samnet.training.divergence import check_step
from samnet.training.embeddings.samples import EmbeddedInputs, predict_logits
from samnet.training.loss import segmentation_loss
from samnet.training.optimizer import set_rate
from samnet.training.out_of_memory import BatchGradients, Fallback, call_optimizer
from samnet.training.task import TrainingTask
from samnet.training.unlabelled.consistency import Consistency
from samnet.training.weight_average import WeightAverage

Inputs = Tensor | EmbeddedInputs


class TrainingStep:
    """Makes steps. Every operator of a step is launched by itself, and its loss is read at once.

    Attributes:
        network: The network.
        task: What to do.
        optimizer: The optimiser of the network.
        distributed: The processes that train the network together.
        device: Where the network is.
        trained: The weights that are trained.
        gradients: Computes the gradients of a batch in as little memory as needed.
        average: The average of the trained weights, to which each step is added.
        consistency: Adds slices without labels to each batch; None for labelled ones alone.
        reads_at_once: Whether the loss of a step is known when it has been made.
    """

    reads_at_once = True

    def __init__(
        self,
        network: SegmentationNetwork,
        task: TrainingTask,
        optimizer: torch.optim.Optimizer,
        distributed: Distributed,
        device: torch.device,
        on_fallback: Callable[[Fallback], None],
        average: WeightAverage,
        consistency: Consistency | None = None,
    ) -> None:
        """Prepare for a run.

        Args:
            network: The network.
            task: What to do.
            optimizer: The optimiser of the network.
            distributed: The processes that train it together.
            device: Where the network is.
            on_fallback: Called when memory has run out, with what is changed for it.
            average: The average of the trained weights.
            consistency: Adds slices without labels to each batch; None for labelled ones alone.
        """
        self.network, self.task, self.optimizer = network, task, optimizer
        self.distributed, self.device, self._on_fallback = distributed, device, on_fallback
        self.average, self.consistency = average, consistency
        rows = len(distributed.share_batch(task.configuration.batch_size))
        if consistency is not None:
            rows += consistency.rows
        self.gradients = BatchGradients(network, rows, may_fall_back=distributed.world_size == 1)
        self.trained = self.gradients.trained
        self._losses: list[float] = []

    def make(self, inputs: Inputs, target: Tensor, rate: float, number: int) -> None:
        """Make one step with a batch.

        Args:
            inputs: Images `(B, C, S, S)`, 0 to 1, or embeddings of them.
            target: Classes `(B, h, w)`, or a mask of each region `(B, R, h, w)`.
            rate: The learning rate.
            number: The number of the step, from 0.

        Raises:
            SamnetError: The loss or a gradient is not finite; no weight has changed then.
        """
        set_rate(self.optimizer, rate)
        loss_of: Callable[[Tensor], Tensor] = partial(self.loss, target)
        if self.consistency is not None:
            assert isinstance(inputs, Tensor)  # embeddings are not kept
            inputs, loss_of = self.consistency.join(inputs, loss_of, self.predict)
        loss = self.gradients.compute(inputs, self.predict, loss_of, number, self._on_fallback)
        self.distributed.all_reduce_gradients(self.trained)
        norm = self.clip()
        value = float(loss)  # waits for the device
        check_step(value, float(norm), number, self.task.configuration.learning_rate)
        call_optimizer(self.optimizer.step)
        self.average.add_step()
        self._losses.append(value)

    def losses(self) -> list[float]:
        """Return the losses of the steps since the last call, each that of the whole batch."""
        losses, self._losses = self._losses, []
        return losses

    def release_memory(self) -> None:
        """Release what is kept from one step to the next: nothing."""

    def predict(self, inputs: Inputs) -> Tensor:
        """Return the logits of inputs in single precision.

        Args:
            inputs: Images, or embeddings of them.
        """
        with autocast(self.task.configuration.precision, self.device):
            return predict_logits(self.network, inputs, self.device).float()

    def loss(self, target: Tensor, logits: Tensor) -> Tensor:
        """Return the loss of the whole batch, whichever process computed a row of it.

        Args:
            target: The target of this process's rows.
            logits: Their logits.
        """
        configuration = self.task.configuration
        return segmentation_loss(
            self.distributed.gather_batch(logits),
            self.distributed.gather_batch(target.to(self.device, non_blocking=True)),
            form=configuration.loss,
            cross_entropy_weight=configuration.cross_entropy_weight,
            dice_weight=configuration.dice_weight,
            ignore=self.task.label_scheme.ignore_label,
        )

    def clip(self) -> Tensor:
        """Clip the gradients as planned, and return their norm before that, a scalar."""
        # An infinite limit leaves the gradients unchanged.
        limit = self.task.configuration.gradient_clip or math.inf
        return torch.nn.utils.clip_grad_norm_(self.trained, limit)
