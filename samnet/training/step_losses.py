"""Reads the losses of training steps, at once or now and then, and adds them to the progress."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Protocol

from samnet.training.checkpoint import Progress
from samnet.training.schedule import BY_PASS
from samnet.training.task import TrainingTask

READ_SECONDS = 0.5  # between two looks at the losses of steps that a device makes by itself


class Steps(Protocol):
    """Makes steps whose losses are read here."""

    @property
    def reads_at_once(self) -> bool:
        """Whether the loss of a step is known when it has been made."""
        ...

    def losses(self) -> list[float]:
        """Return the losses of the steps since the last call, and wait for them where needed.

        Raises:
            SamnetError: A step has diverged.
        """
        ...


class StepLosses:
    """The losses of the steps of a run.

    Reading a loss waits for the device, which then has nothing to do until the next step. So losses
    that are not known at once are read now and then.

    Attributes:
        last: The last loss that was read; NaN before the first.
    """

    def __init__(self, steps: Steps, task: TrainingTask, progress: Progress) -> None:
        """Read nothing yet.

        Args:
            steps: Makes the steps.
            task: What the run is to do.
            progress: How far it is, which is changed.
        """
        self._steps, self._task, self._progress = steps, task, progress
        self.last = math.nan
        self._last_read = time.monotonic()
        self._unreported: list[tuple[int, float]] = []

    def read_if_needed(self) -> None:
        """Read losses where they are known at once, needed by the next step, or old."""
        by_pass = self._task.configuration.schedule == BY_PASS
        is_old = time.monotonic() - self._last_read > READ_SECONDS
        if self._steps.reads_at_once or by_pass or is_old:
            self.read()

    def read(self) -> None:
        """Read the losses of all steps so far, and add them to the progress.

        Raises:
            SamnetError: A step has diverged.
        """
        progress, configuration = self._progress, self._task.configuration
        losses = self._steps.losses()
        first = progress.step - len(losses) + 1
        for number, loss in enumerate(losses, first):
            progress.loss_sum += loss
            progress.plateau.finish_step(configuration, number, self._task.num_slices, loss)
            self._unreported.append((number, loss))
            self.last = loss
        self._last_read = time.monotonic()

    def report(self, on_step: Callable[[int, float], None]) -> None:
        """Pass on what was read since the last call.

        Args:
            on_step: Called for each step with its number, from 1, and its loss.
        """
        while self._unreported:
            on_step(*self._unreported.pop(0))
