"""The training loop."""

from __future__ import annotations

import contextlib
import logging
import math
import signal
import time
from collections.abc import Callable, Generator
from functools import partial

import numpy as np
import torch
from torch import Tensor

from samnet.core.errors import SamnetError
from samnet.core.progress import ProgressBar
from samnet.core.progress_listener import ProgressStopped
from samnet.core.signals import Interrupted, StopSignals
from samnet.models.model_folder import RunFolder
from samnet.models.network import SegmentationNetwork
from samnet.training.checkpoint import Kept, resume_training
from samnet.training.collapse import CollapseWatch
from samnet.training.curves import Epoch
from samnet.training.distributed import SINGLE_PROCESS, Distributed
from samnet.training.divergence import check_weights
from samnet.training.forecast import Forecast
from samnet.training.history import History, epoch_row
from samnet.training.loader import build_loader, build_samples, ignore_signals
from samnet.training.optimizer import allocate_state, build_optimizer
from samnet.training.out_of_memory import Fallback, call_optimizer
from samnet.training.run_files import RunFiles
from samnet.training.schedule import BY_PASS, planned_rate, share_done
from samnet.training.static_step import StaticStep, may_be_static
from samnet.training.step import Inputs, TrainingStep
from samnet.training.step_losses import StepLosses
from samnet.training.task import TrainingTask
from samnet.training.time_limit import TimeLimit
from samnet.training.unlabelled.consistency import build_consistency
from samnet.training.validation import choose_validation_cases, validate
from samnet.training.weight_average import WeightAverage

log = logging.getLogger(__name__)
Validator = Callable[..., np.ndarray]  # as `validate`


class Trainer:
    """Trains one network in one folder. `run` may be called again after any interruption.

    Attributes:
        network: The network.
        task: What to do.
        folder: The folder of the run.
        device: What it trains on.
        distributed: The processes that train the network together.
        on_fallback: Called when memory has run out, with what is changed for it.
        on_step: Called after each step, with the number of steps done and its loss.
        on_epoch: Called after each epoch, with its line of `metrics.jsonl`.
        validator: Computes the Dice of each class over whole volumes.
        average: The average of the trained weights, which is validated and kept.
        consistency: Adds slices without labels to the batches; None for labelled ones alone.
        steps: Makes the steps.
        progress: How far the run is.
        history: The numbers of its epochs.
    """

    def __init__(
        self,
        network: SegmentationNetwork,
        task: TrainingTask,
        folder: RunFolder,
        device: torch.device,
        distributed: Distributed = SINGLE_PROCESS,
        *,
        on_fallback: Callable[[Fallback], None] = lambda fallback: None,
        on_step: Callable[[int, float], None] = lambda step, loss: None,
        on_epoch: Callable[[Epoch], None] = lambda epoch: None,
        before_writing: Callable[[], None] = lambda: None,
        validator: Validator = validate,
    ) -> None:
        """Resume the run in a folder, or begin it.

        Args:
            network: The network, with the weights it starts from.
            task: What to do.
            folder: The folder of the run.
            device: What to train on.
            distributed: The processes that train it together. Each has a trainer, and the master
                process writes the files.
            on_fallback: Called when memory has run out, with what is changed for it.
            on_step: Called after each step, with the number of steps done and its loss. What it
                raises ends the training.
            on_epoch: Called after each epoch, with its line of `metrics.jsonl`.
            before_writing: Called by the master process before it writes a file. What it raises
                ends the training.
            validator: Called after each epoch with the arguments of `validate`, and returns what
                `validate` returns.

        Raises:
            SamnetError: The processes find different checkpoints.
        """
        self.network, self.task, self.folder = network.to(device), task, folder
        self.device, self.distributed = device, distributed
        self.on_fallback, self.on_step, self.on_epoch = on_fallback, on_step, on_epoch
        self.validator = validator
        self._rows = distributed.share_batch(task.configuration.batch_size)
        self._files = RunFiles(folder, distributed.is_master, before_writing)
        self._optimizer = build_optimizer(network, task.configuration, device)
        self.average = WeightAverage(network, task.configuration.weight_average)
        self.consistency = build_consistency(
            task, self.average, distributed, device, network.stride, self._share_done
        )
        others = [self.consistency] if self.consistency else []
        self._kept: list[Kept] = [self.average, *others]
        self.progress = resume_training(folder, network, self._optimizer, self._kept)
        call_optimizer(partial(allocate_state, self._optimizer))
        distributed.broadcast_weights(network)
        self.average.begin_if_new()
        if len(set(distributed.gather(self.progress.step))) > 1:
            raise SamnetError(
                f"{folder}: the processes find different checkpoints there; start them again"
            )
        self._ordinary = TrainingStep(
            network,
            task,
            self._optimizer,
            distributed,
            device,
            lambda fallback: self.on_fallback(fallback),
            self.average,
            self.consistency,
        )
        self.steps = StaticStep(self._ordinary) if may_be_static(self._ordinary) else self._ordinary
        self._losses = StepLosses(self.steps, task, self.progress)
        self.history = History(folder.path, self.progress.epoch, is_master=distributed.is_master)
        self._validation_cases = choose_validation_cases(task.validation_cases)
        self._collapse = CollapseWatch(task, self._validation_cases)
        self._time_limit = TimeLimit(
            task,
            self.progress.seconds,
            distributed,
            validated_seconds=sum(row.get("validation_seconds", 0.0) for row in self.history.rows),
        )
        self._forecast = Forecast(task.configuration, self._time_limit)
        self._signals = StopSignals()
        self._waited = self._worked = 0.0
        self._rate = task.configuration.learning_rate

    def _share_done(self) -> float:
        progress, limit = self.progress, self._time_limit.max_seconds
        return share_done(self.task.configuration, progress.step, progress.seconds, limit)

    def run(self) -> None:
        """Train to the end of the plan, the time limit, or the early stop; write the final weights.

        Raises:
            Interrupted: A signal has come; the state is saved.
            KeyboardInterrupt: Ctrl-C was pressed; the state is saved. A second Ctrl-C raises it at
                once, and nothing is saved.
            ProgressStopped: The function that is told of the progress has raised an error; the
                state is saved.
        """
        with self._signals.held():
            try:
                self._train()
            except Interrupted as stop:
                self._save()
                saved = f"state saved at step {self.progress.step}"
                raise _stopped(stop.number, saved) from None
            except ProgressStopped:
                self._save()
                raise
            with self.average.in_network():
                self._files.save_final(self.network, has_best=self.task.held_out)
        self.distributed.barrier()
        if self._signals.number is not None:
            raise _stopped(self._signals.number, "the training is finished, what follows it is not")

    def _train(self) -> None:
        configuration, progress = self.task.configuration, self.progress
        self.network.train()
        began, last_saved = time.monotonic() - progress.seconds, time.monotonic()
        bar = ProgressBar(
            total=configuration.steps,
            initial=progress.step,
            desc="training",
            unit="step",
            disable=not self.distributed.is_master,
        )
        with bar, contextlib.closing(self._batches()) as batches:
            while True:
                # Also right after a start: the last session may have ended between the last step of
                # an epoch and its validation.
                if progress.loss_count and progress.step % configuration.steps_per_epoch == 0:
                    self._finish_epoch()
                    self._count_seconds(began)
                    self._save()
                    last_saved = time.monotonic()
                batch = None if self._is_over() else next(batches, None)
                if batch is None:
                    break
                self._timed_step(*batch)
                self._count_seconds(began)
                if time.monotonic() - last_saved > self.task.save_seconds:
                    self._save()
                    last_saved = time.monotonic()
                self._forecast.count_step(progress.step, progress.seconds)
                bar.note = self._note()
                bar.seconds_left = self._forecast.training_left(progress.step, progress.seconds)
                bar.update()
                self._losses.report(self.on_step)
                self._stop_if_requested()
        if progress.loss_count:
            self._finish_epoch()
            self._save()
        self._losses.report(self.on_step)
        self._stop_if_requested()

    def _count_seconds(self, began: float) -> None:
        [self.progress.seconds] = self.distributed.maximum(time.monotonic() - began)

    def _batches(self) -> Generator[tuple[Inputs, Tensor], None, None]:
        """Yield batches from where the run is; the time spent waiting for them is counted."""
        progress, task = self.progress, self.task
        with self._signals.at_once():  # nothing has changed yet
            seconds = progress.seconds
            samples = build_samples(self.network, task, self.device, self.distributed, seconds)
        iterator = iter(build_loader(samples, task, self._rows, progress.step, self.device))
        with self._unlabelled_batches():
            while True:
                waiting_since = time.monotonic()
                batch = next(iterator, None)
                self._waited += time.monotonic() - waiting_since
                if batch is None:
                    return
                yield batch[0], batch[1]

    def _unlabelled_batches(self) -> contextlib.AbstractContextManager[None]:
        if self.consistency is None:
            return contextlib.nullcontext()
        return self.consistency.batches(self.progress.step, ignore_signals)

    def _timed_step(self, inputs: Inputs, target: Tensor) -> None:
        started = time.monotonic()
        self._make_step(inputs, target)
        self.progress.step += 1
        self.progress.loss_count += 1
        self._losses.read_if_needed()
        self._worked += time.monotonic() - started

    def step(self, inputs: Inputs, target: Tensor) -> float:
        """Make one step with a batch: forward, loss, backward and optimiser.

        The progress of the run is not changed; `run` counts its steps.

        Args:
            inputs: Images `(B, C, S, S)`, 0 to 1, or embeddings of them.
            target: Classes `(B, h, w)`, or a mask of each region `(B, R, h, w)`.

        Returns:
            The loss of the whole batch.

        Raises:
            SamnetError: The loss or a gradient is not finite.
        """
        self._make_step(inputs, target)
        [loss] = self.steps.losses()
        return loss

    def _make_step(self, inputs: Inputs, target: Tensor) -> None:
        progress, limit = self.progress, self._time_limit.max_seconds
        self._rate = planned_rate(
            self.task.configuration, progress.step, progress.seconds, limit, progress.plateau.factor
        )
        self.steps.make(inputs, target, self._rate, progress.step)

    def _read_losses(self) -> None:
        started = time.monotonic()
        self._losses.read()
        self._worked += time.monotonic() - started

    def _is_complete(self) -> bool:
        """Tell whether the steps are done or the time is over, though not without a single step."""
        limit, progress = self._time_limit.max_seconds, self.progress
        is_late = limit is not None and progress.seconds >= limit
        return progress.step > 0 and (is_late or progress.step >= self.task.configuration.steps)

    def _is_over(self) -> bool:
        """Tell whether the training is complete, or to stop it early."""
        progress = self.progress
        if self._is_complete():
            return True
        patience = self.task.configuration.patience if self.task.held_out else 0
        if progress.loss_count or not progress.has_stalled(patience):
            return False
        log.info("%d validations without a better one: stopping early", patience)
        return True

    def _finish_epoch(self) -> None:
        """Validate, record, and keep the weights if they are the best so far.

        A stop in between undoes nothing.
        """
        progress, task = self.progress, self.task
        self._read_losses()
        self._check_weights()
        started = time.monotonic()
        names = task.label_scheme.class_names
        has_time = self._time_limit.has_time_to_validate(progress.seconds, self._is_complete())
        dice = self._validate() if has_time else np.full(len(names), math.nan)
        seconds = time.monotonic() - started
        if has_time:
            self._time_limit.learn_from_validation(seconds, progress.seconds + seconds)
            self._forecast.count_validation(seconds)
        progress.epoch += 1
        if task.configuration.schedule != BY_PASS:
            progress.plateau.finish_epoch(progress.mean_loss)
        mean = math.nan if np.isnan(dice).all() else float(np.nanmean(dice))
        named = dict(zip(names, dice.tolist(), strict=True))
        row = epoch_row(progress, mean, named, held_out=task.held_out) | {
            "learning_rate": self._rate,
            "seconds": round(progress.seconds, 1),
            "waiting_seconds": round(self._waited, 1),
            "waiting_share": round(self._waited / max(1e-9, self._waited + self._worked), 4),
            "validation_seconds": round(seconds, 1),
        }
        if self.consistency is not None:
            row |= self.consistency.finish_epoch(self._ordinary.predict)
        row |= self._collapse.judge(self.history.rows, row, self._share_done())
        self._waited = self._worked = progress.loss_sum = 0.0
        progress.loss_count = 0
        progress.worse_validations += int(has_time)
        if mean > progress.best_dice:
            progress.best_dice, progress.best_epoch = mean, progress.epoch
            progress.worse_validations = 0
            if task.held_out:
                with self.average.in_network():
                    self._files.save_best(self.network)
        self._files.check()
        self.history.add(row)
        self.history.draw()
        self.on_epoch(row)

    def _validate(self) -> np.ndarray:
        """Return the Dice of each class.

        A case may take minutes, so one process stops in the middle; several stop together.
        """
        self.steps.release_memory()
        is_alone = self.distributed.world_size == 1
        stops = self._signals.at_once() if is_alone else contextlib.nullcontext()
        with stops, self.average.in_network():
            return self.validator(
                self.network,
                self.task.configuration,
                self._validation_cases,
                self.task.label_scheme,
                self.distributed,
                after_case=self._stop_if_requested,
            )

    def _check_weights(self) -> None:
        check_weights(self.network, self.progress.step, self.task.configuration.learning_rate)

    def _save(self) -> None:
        self._read_losses()
        self._check_weights()
        self._files.save_state(self.network, self._optimizer, self.progress, self._kept)

    def _stop_if_requested(self) -> None:
        """Raise `Interrupted` in every process when a signal has come to one of them."""
        [number] = self.distributed.maximum(self._signals.number or 0)
        if number:
            raise Interrupted(int(number))

    def _note(self) -> str:
        return ", ".join([f"loss {self._losses.last:.3f}", *self.history.notes()])


def _stopped(number: int, saved: str) -> BaseException:
    return KeyboardInterrupt() if number == signal.SIGINT else Interrupted(number, saved)
