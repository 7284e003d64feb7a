"""The training loop."""

from __future__ import annotations

import contextlib
import logging
import math
import signal
import time
from collections.abc import Generator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader
from tqdm import tqdm

from samnet.core.errors import SamnetError
from samnet.core.records import to_json
from samnet.core.signals import STOP_SIGNALS, Interrupted, StopSignals
from samnet.models.network import SegmentationNetwork, load_weights, save_weights
from samnet.models.precision import autocast
from samnet.training.checkpoint import BEST, FINAL, PREVIOUS, resume_training, save_training
from samnet.training.distributed import SINGLE_PROCESS, Distributed
from samnet.training.embeddings.encoder import SliceEncoder
from samnet.training.embeddings.samples import (
    EmbeddedInputs,
    EmbeddedSamples,
    collate,
    embed_samples,
    predict_logits,
)
from samnet.training.history import History
from samnet.training.loss import segmentation_loss
from samnet.training.out_of_memory import BatchGradients, Fallback
from samnet.training.run_folder import note_in_sitting
from samnet.training.sampling import SliceSamples
from samnet.training.schedule import planned_rate
from samnet.training.task import TrainingTask
from samnet.training.validation import choose_validation_cases, validate

log = logging.getLogger(__name__)
OPTIMIZERS = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam}
FUSED_DEVICES = ("cuda", "cpu")  # that have a step of all weights at once
NOTEWORTHY_WAITING = 0.1


class Trainer:
    """Trains one network in one folder. `run` may be called again after any interruption, and goes on.

    processes: that train it together; each has a trainer, and the first writes the files.
    """

    def __init__(
        self,
        network: SegmentationNetwork,
        task: TrainingTask,
        folder: Path,
        device: torch.device,
        distributed: Distributed = SINGLE_PROCESS,
    ) -> None:
        self.network, self.task, self.folder, self.device = network.to(device), task, folder, device
        self.distributed, self.rows = distributed, distributed.share_batch(task.configuration.batch_size)
        configuration = task.configuration
        trained = [weight for weight in network.parameters() if weight.requires_grad]
        self.optimizer = OPTIMIZERS[configuration.optimizer](
            trained,
            lr=configuration.learning_rate,
            betas=(0.9, 0.999),
            weight_decay=configuration.weight_decay,
            fused=device.type in FUSED_DEVICES or None,  # None: what torch takes else
        )
        self.progress = resume_training(folder, network, self.optimizer)
        distributed.broadcast_weights(network)
        if len(set(distributed.gather(self.progress.step))) > 1:
            raise SamnetError(
                f"{folder}: the processes find different checkpoints there; start them again"
            )
        self.gradients = BatchGradients(network, len(self.rows), may_fall_back=distributed.size == 1)
        self.history = History(folder, self.progress.epoch, is_master=distributed.is_master)
        self.validation_cases = choose_validation_cases(task.validation_cases)
        self.signals = StopSignals()
        self.waited = self.worked = 0.0

    def run(self) -> None:
        """Train to the end of the plan, the time limit, or the early stop, and write the final weights.

        Raises:
            Interrupted: a signal asked for it; the state is saved.
            KeyboardInterrupt: likewise. At the second Ctrl-C at once, and nothing is saved.
        """
        with self.signals.held():
            try:
                self._train()
            except Interrupted as stop:
                self._save()
                raise _stopped(stop.number, f"state saved at step {self.progress.step}") from None
            if self.distributed.is_master:
                self._finish()
        self.distributed.barrier()
        if self.signals.number is not None:
            raise _stopped(self.signals.number, "the training is finished, what follows it is not")

    def _finish(self) -> None:
        best = self.folder / BEST
        final = (
            load_weights(best) if self.task.held_out and best.is_file() else self.network.adapter()
        )
        save_weights(final, self.folder / FINAL)
        (self.folder / PREVIOUS).unlink(missing_ok=True)

    def _train(self) -> None:
        configuration, progress = self.task.configuration, self.progress
        self.network.train()
        began, last_saved = time.monotonic() - progress.seconds, time.monotonic()
        bar = tqdm(
            total=configuration.steps,
            initial=progress.step,
            desc="training",
            unit="step",
            disable=not self.distributed.is_master,
        )
        with bar, contextlib.closing(self._batches()) as batches:
            while True:
                if progress.loss_count and progress.step % configuration.steps_per_epoch == 0:
                    self._finish_epoch()
                    [progress.seconds] = self.distributed.maximum(time.monotonic() - began)
                    self._save()
                    last_saved = time.monotonic()
                batch = None if self._is_over() else next(batches, None)
                if batch is None:
                    break
                started = time.monotonic()
                loss = self._step(*batch)
                self.worked += time.monotonic() - started
                progress.step += 1
                progress.loss_sum += loss
                progress.loss_count += 1
                [progress.seconds] = self.distributed.maximum(time.monotonic() - began)
                bar.update()
                bar.set_postfix_str(self._postfix(loss), refresh=False)
                if time.monotonic() - last_saved > self.task.save_seconds:
                    self._save()
                    last_saved = time.monotonic()
                self._stop_if_asked()
        if progress.loss_count:
            self._finish_epoch()
            self._save()
        self._stop_if_asked()

    def _batches(self) -> Generator[tuple[Tensor | EmbeddedInputs, Tensor], None, None]:
        """Batches from where the training stands; the time spent waiting for them is counted."""
        configuration, task, rows = self.task.configuration, self.task, self.rows
        with self.signals.at_once():  # nothing has changed yet
            samples = self._samples()
        size = configuration.batch_size
        batches = range(self.progress.step * size, configuration.steps * size, size)
        loader = DataLoader(
            samples,
            batch_size=len(rows),
            sampler=[first + row for first in batches for row in rows],
            num_workers=task.workers,
            pin_memory=self.device.type == "cuda",
            worker_init_fn=_ignore_signals,
            collate_fn=collate if isinstance(samples, EmbeddedSamples) else None,
            prefetch_factor=4 if task.workers else None,
        )
        iterator = iter(loader)
        while True:
            asked = time.monotonic()
            batch = next(iterator, None)
            self.waited += time.monotonic() - asked
            if batch is None:
                return
            yield batch[0], batch[1]

    def _samples(self) -> SliceSamples:
        task, configuration = self.task, self.task.configuration
        options: dict[str, Any] = {"stride": self.network.stride, "seed": task.seed}
        options |= {"ignore_label": task.ignore_label, "regions": task.regions}
        if task.embeddings is None:
            return SliceSamples(task.training_cases, configuration, **options)
        encoder = SliceEncoder(
            self.network, self.device, workers=task.workers, worker_setup=_ignore_signals
        )
        seconds = (
            None if task.max_seconds is None else (task.max_seconds - self.progress.seconds) / 2
        )
        return embed_samples(
            task.embeddings,
            encoder,
            task.training_cases,
            configuration,
            seconds=seconds,
            distributed=self.distributed,
            **options,
        )

    def _step(self, inputs: Tensor | EmbeddedInputs, target: Tensor) -> float:
        configuration, progress = self.task.configuration, self.progress
        factor, limit = progress.plateau.factor, self.task.max_seconds
        for group in self.optimizer.param_groups:
            group["lr"] = planned_rate(
                configuration, progress.step, progress.seconds, limit, factor
            )
        loss_of = partial(self._loss, target)
        loss = self.gradients.compute(
            inputs, self._predict, loss_of, progress.step, self._note_fallback
        )
        self.distributed.all_reduce_gradients(self.network.parameters())
        if configuration.gradient_clip > 0:
            torch.nn.utils.clip_grad_norm_(self.network.parameters(), configuration.gradient_clip)
        self.optimizer.step()
        value = float(loss)
        if not math.isfinite(value):
            raise SamnetError(
                f"the loss is {value} at step {progress.step}: the training has diverged. "
                "Start it again with a lower rate, for example --lr "
                f"{configuration.learning_rate / 3:.1g} --restart"
            )
        return value

    def _predict(self, inputs: Tensor | EmbeddedInputs) -> Tensor:
        with autocast(self.task.configuration.precision, self.device):
            return predict_logits(self.network, inputs, self.device).float()

    def _loss(self, target: Tensor, logits: Tensor) -> Tensor:
        """Of the whole batch, whichever process computed a row of it."""
        configuration = self.task.configuration
        return segmentation_loss(
            self.distributed.gather_batch(logits),
            self.distributed.gather_batch(target.to(self.device, non_blocking=True)),
            form=configuration.loss,
            cross_entropy_weight=configuration.cross_entropy_weight,
            dice_weight=configuration.dice_weight,
            ignore=self.task.ignore_label,
        )

    def _note_fallback(self, economy: Fallback) -> None:
        note_in_sitting(self.folder, "out_of_memory", to_json(economy))

    def _is_over(self) -> bool:
        """By time, though not without a single step, or by the early stop."""
        limit, progress = self.task.max_seconds, self.progress
        if limit is not None and progress.seconds >= limit and progress.step:
            return True
        if progress.loss_count or not self._has_stalled():
            return False
        log.info(
            "no better validation in %d epochs: stopping early", self.task.configuration.patience
        )
        return True

    def _has_stalled(self) -> bool:
        patience = self.task.configuration.patience
        since_best = self.progress.epoch - self.progress.best_epoch
        return (
            self.task.held_out
            and patience > 0
            and self.progress.best_epoch >= 0
            and since_best >= patience
        )

    def _finish_epoch(self) -> None:
        """Validate, record, and keep the weights if they are the best so far. A stop in between undoes nothing."""
        progress, task = self.progress, self.task
        started = time.monotonic()
        dice = self._validate()
        progress.epoch += 1
        loss = progress.loss_sum / max(1, progress.loss_count)
        progress.plateau.finish_epoch(loss)
        mean = float(np.nanmean(dice)) if not np.isnan(dice).all() else math.nan
        row: dict[str, Any] = {
            "epoch": progress.epoch,
            "step": progress.step,
            "loss": loss,
            "mean_dice": _finite(mean),
            "dice": {
                name: _finite(float(value))
                for name, value in zip(task.class_names, dice, strict=True)
            },
            "validated_on": "held-out cases" if task.held_out else "training cases",
            "learning_rate": self.optimizer.param_groups[0]["lr"],
            "seconds": round(progress.seconds, 1),
            "waiting_seconds": round(self.waited, 1),
            "waiting_share": round(self.waited / max(1e-9, self.waited + self.worked), 4),
            "validation_seconds": round(time.monotonic() - started, 1),
        }
        self.waited = self.worked = progress.loss_sum = 0.0
        progress.loss_count = 0
        if mean > progress.best_dice:
            progress.best_dice, progress.best_epoch = mean, progress.epoch
            if task.held_out and self.distributed.is_master:
                save_weights(self.network.adapter(), self.folder / BEST)
        self.history.add(row)
        self.history.draw()

    def _validate(self) -> np.ndarray:
        """Dice of each class. A case may take minutes, so one process stops in the middle; several stop together."""
        task, is_alone = self.task, self.distributed.size == 1
        with self.signals.at_once() if is_alone else contextlib.nullcontext():
            return validate(
                self.network,
                task.configuration,
                self.validation_cases,
                len(task.class_names),
                task.ignore_label,
                self.distributed,
                after_case=self._stop_if_asked,
                regions=task.regions,
            )

    def _save(self) -> None:
        if self.distributed.is_master:
            save_training(self.folder, self.network, self.optimizer, self.progress)

    def _stop_if_asked(self) -> None:
        """Raise `Interrupted` in every process when a signal has come to one of them."""
        [number] = self.distributed.maximum(self.signals.number or 0)
        if number:
            raise Interrupted(int(number))

    def _postfix(self, loss: float) -> str:
        parts = [f"loss {loss:.3f}"]
        epoch = self.history.rows[-1] if self.history.rows else {}
        if epoch.get("mean_dice") is not None:
            parts.append(f"Dice {epoch['mean_dice']:.3f}")
        if epoch.get("waiting_share", 0) >= NOTEWORTHY_WAITING:
            parts.append(f"waiting for samples {epoch['waiting_share']:.0%}")
        if self.task.max_seconds is not None:
            parts.append(
                f"time left {max(0, self.task.max_seconds - self.progress.seconds) / 60:.1f} min"
            )
        return ", ".join(parts)


def _stopped(number: int, saved: str) -> BaseException:
    return KeyboardInterrupt() if number == signal.SIGINT else Interrupted(number, saved)


def _ignore_signals(worker: int) -> None:
    """A signal for the whole process group stops the training, which then ends its workers; they do not die first."""
    for number in (*STOP_SIGNALS, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)


def _finite(value: float) -> float | None:
    return round(value, 5) if math.isfinite(value) else None
