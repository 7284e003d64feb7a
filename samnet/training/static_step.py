"""Training steps without launch overhead: recorded once as a CUDA graph, then replayed.

A recorded step may only use memory that stays where it is, and may not wait for the device: batches
are copied into fixed buffers, the learning rate lies on the device, and losses are read later. A
step whose loss or gradients are not finite changes nothing there, nor does any step after it; the
error is raised when its loss is read.
"""

from __future__ import annotations

import logging

import torch
from torch import Tensor

from samnet.models.cuda_graph import Record, Replay, have_same_form, record_graph, try_to_record
from samnet.training.divergence import check_step
from samnet.training.embeddings.samples import EmbeddedInputs
from samnet.training.gradients import set_gradients
from samnet.training.optimizer import step_on_device
from samnet.training.out_of_memory import clear_gradients
from samnet.training.step import Inputs, TrainingStep

log = logging.getLogger(__name__)
# Steps that are launched one by one before a recording: kernels choose their algorithms in them,
# and memory that is too small shows in them.
WARM_UP_STEPS = 3
_MAX_UNREAD = 64
# More would hide from the loop whether it waits for the device or for batches.
_MAX_IN_FLIGHT = 2


def may_be_static(step: TrainingStep) -> bool:
    """Tell whether steps may be recorded and replayed.

    Args:
        step: The steps of a run.

    Returns:
        True on CUDA devices, for a process that trains alone with a fused optimiser, on labelled
        slices alone.
    """
    is_fused = bool(step.optimizer.defaults.get("fused"))
    is_alone = step.distributed.world_size == 1 and step.consistency is None
    return step.device.type == "cuda" and is_fused and is_alone


class StaticStep:
    """Makes the steps of a `TrainingStep` on fixed buffers.

    The first steps, batches of another shape, and all steps after memory has run out are made by
    the `TrainingStep` itself. So are all steps where recording fails.

    Attributes:
        ordinary: That `TrainingStep`.
        reads_at_once: False: the losses of several steps are read together.
    """

    reads_at_once = False

    def __init__(self, step: TrainingStep, record: Record = record_graph) -> None:
        """Prepare for the steps of a run.

        Args:
            step: Makes the steps that are not static.
            record: Returns a function that repeats some work, see `record_graph`.
        """
        self.ordinary, self._record = step, record
        self._replay: Replay | None = None
        self._may_record, self._warm_up_left = True, WARM_UP_STEPS
        self._was_recorded = False
        self._buffers: list[Tensor] = []
        device = step.device
        self._rate = torch.zeros((), device=device)
        self._has_failed = torch.zeros((), device=device)  # 1 after a step that is not finite
        self._values = torch.zeros(2, device=device)  # loss and norm of the gradients
        self._unread = torch.zeros(_MAX_UNREAD, 2, device=device)
        self._numbers: list[int] = []  # of the steps whose values are unread
        self._losses: list[float] = []
        self._in_flight: list[torch.cuda.Event] = []

    def make(self, inputs: Inputs, target: Tensor, rate: float, number: int) -> None:
        """Make one step with a batch; its loss is read by `losses`.

        Args:
            inputs: Images `(B, C, S, S)`, 0 to 1, or embeddings of them.
            target: Classes `(B, h, w)`, or a mask of each region `(B, R, h, w)`.
            rate: The learning rate.
            number: The number of the step, from 0.

        Raises:
            SamnetError: The loss or a gradient of this step or of an earlier one is not finite; the
                weights are those before that step.
        """
        tensors = _fixed_tensors(inputs, target)
        if self.ordinary.gradients.is_divided:
            self._replay, self._may_record = None, False
        elif self._may_record and self._warm_up_left == 0 and tensors:
            self._prepare(inputs, tensors)
        if self._replay is None or not have_same_form(tensors, self._buffers):
            self._make_unrecorded(inputs, target, rate, number)
            return
        for buffer, tensor in zip(self._buffers, tensors, strict=True):
            buffer.copy_(tensor, non_blocking=True)
        self._rate.fill_(rate)
        self._replay()
        # After a step that is not finite nothing is kept of the run, nor of this average.
        self.ordinary.average.add_step()
        self._unread[len(self._numbers)].copy_(self._values)
        self._numbers.append(number)
        if len(self._numbers) == _MAX_UNREAD:
            self._read()
        self._wait_for_earlier_steps()

    def losses(self) -> list[float]:
        """Wait for the device, and return the losses of the steps since the last call.

        Raises:
            SamnetError: The loss or a gradient of a step is not finite; the weights are those
                before that step.
        """
        self._read()
        losses, self._losses = self._losses, []
        return losses

    def release_memory(self) -> None:
        """Release the memory of the recording. The next step is recorded again.

        Raises:
            SamnetError: The loss or a gradient of a step is not finite.
        """
        if self._replay is None:
            return
        self._read()  # waits for the last step
        self._replay, self._buffers, self._may_record = None, [], True
        clear_gradients(self.ordinary.trained)  # they lie in the memory of the recording

    def _make_unrecorded(self, inputs: Inputs, target: Tensor, rate: float, number: int) -> None:
        self._read()
        self.ordinary.make(inputs, target, rate, number)
        self._losses += self.ordinary.losses()
        self._warm_up_left = max(0, self._warm_up_left - 1)

    def _prepare(self, inputs: Inputs, tensors: list[Tensor]) -> None:
        """Record a step for batches of this form."""
        self._may_record = False  # whether it works or not
        self._buffers = [
            torch.empty_like(tensor, device=self.ordinary.device) for tensor in tensors
        ]
        fixed_inputs = _with_tensors(inputs, self._buffers)
        self._replay = try_to_record(
            self._record, lambda: self._work(fixed_inputs, self._buffers[-1]), "training steps"
        )
        if self._replay is None:
            self._buffers = []
            clear_gradients(self.ordinary.trained)
            return
        if not self._was_recorded:
            log.info("training steps are replayed from a CUDA graph")
        self._was_recorded = True

    def _work(self, inputs: Inputs, target: Tensor) -> None:
        """Make a step on fixed memory, without waiting for the device."""
        step = self.ordinary
        clear_gradients(step.trained)
        loss = step.loss(target, step.predict(inputs))
        set_gradients(loss, step.trained)
        norm = step.clip()
        torch.stack([loss.detach(), norm], out=self._values)
        is_finite = self._values.isfinite().all()
        self._has_failed.masked_fill_(~is_finite, 1)
        step_on_device(step.optimizer, self._rate, self._has_failed)

    def _read(self) -> None:
        numbers, self._numbers = self._numbers, []
        if not numbers:
            return
        peak_rate = self.ordinary.task.configuration.learning_rate
        values = self._unread[: len(numbers)].tolist()  # waits for the device
        self._in_flight.clear()
        for number, (loss, norm) in zip(numbers, values, strict=True):
            check_step(loss, norm, number, peak_rate)
            self._losses.append(loss)

    def _wait_for_earlier_steps(self) -> None:
        if self.ordinary.device.type != "cuda":
            return
        event = torch.cuda.Event()
        event.record()
        self._in_flight.append(event)
        if len(self._in_flight) > _MAX_IN_FLIGHT:
            self._in_flight.pop(0).synchronize()


def _fixed_tensors(inputs: Inputs, target: Tensor) -> list[Tensor]:
    """Return the tensors of a batch whose shapes are the same in each batch; [] where some vary."""
    if isinstance(inputs, Tensor):
        return [inputs, target]
    known = inputs.embeddings
    if known is None or len(known) < len(inputs.is_embedded):
        return []
    return [known, target] if inputs.images is None else [known, inputs.images, target]


def _with_tensors(inputs: Inputs, tensors: list[Tensor]) -> Inputs:
    """Return inputs in the form of others that have the given `_fixed_tensors`."""
    if isinstance(inputs, Tensor):
        return tensors[0]
    images = None if inputs.images is None else tensors[1]
    return EmbeddedInputs(inputs.is_embedded, tensors[0], images)
