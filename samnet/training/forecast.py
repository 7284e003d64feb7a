"""How long a training run takes from here on, by what its steps and validations have taken."""

from __future__ import annotations

import logging
import time

from samnet.plan.configuration import Configuration
from samnet.training.time_limit import MARGIN, TimeLimit

log = logging.getLogger(__name__)
MIN_STEPS = 5
ENOUGH_STEPS = 50
ENOUGH_SECONDS = 30.0
LONG_SECONDS = 3600.0


class Forecast:
    """Estimates the time that is left, and says it once where it is an hour or more.

    The first step of a session is not counted, as it waits for the first samples.
    """

    def __init__(self, configuration: Configuration, time_limit: TimeLimit) -> None:
        """Begin before the first step of a session.

        Args:
            configuration: Tells the number of steps, and after how many a validation comes.
            time_limit: The limit, and what validation and final prediction are expected to take.
        """
        self._configuration, self._time_limit = configuration, time_limit
        self._resumed_at: float | None = None  # when the last step or validation ended
        self._steps = 0
        self._step_seconds = 0.0
        self._validations: list[float] = []
        self._is_said = False

    def count_step(self, step: int, seconds_done: float) -> None:
        """Take note of a step, and say how long the rest takes when enough are done.

        Args:
            step: Steps done so far, in all sessions.
            seconds_done: Time trained so far, in all sessions.
        """
        now = time.monotonic()
        if self._resumed_at is not None:
            self._steps += 1
            self._step_seconds += now - self._resumed_at
        self._resumed_at = now
        if not self._is_said and self._is_enough():
            self._is_said = True
            self._announce(step, seconds_done)

    def count_validation(self, seconds: float) -> None:
        """Take note of the end of an epoch with its validation.

        Args:
            seconds: How long it took.
        """
        self._validations.append(seconds)
        if self._resumed_at is not None:
            self._resumed_at = time.monotonic()

    def training_left(self, step: int, seconds_done: float) -> float | None:
        """Estimate how long the rest of the training takes, with its validations.

        Args:
            step: Steps done so far, in all sessions.
            seconds_done: Time trained so far, in all sessions.

        Returns:
            Seconds; None before enough steps are done.
        """
        if self._steps < MIN_STEPS:
            return None
        configuration, limit = self._configuration, self._time_limit.max_seconds
        validation = self._validation()
        epochs_done = step // configuration.steps_per_epoch
        epochs_left = -(-configuration.steps // configuration.steps_per_epoch) - epochs_done
        left = self._each() * (configuration.steps - step) + validation * epochs_left
        if limit is not None:
            last = min(validation, self._time_limit.last_validation_seconds)
            left = min(left, max(0.0, limit - seconds_done) + last)
        return left

    def _each(self) -> float:
        return self._step_seconds / self._steps

    def _validation(self) -> float:
        if self._validations:
            return sum(self._validations) / len(self._validations)
        return self._time_limit.validation_seconds / MARGIN

    def _is_enough(self) -> bool:
        is_long = self._steps >= ENOUGH_STEPS or self._step_seconds >= ENOUGH_SECONDS
        return self._steps >= MIN_STEPS and is_long

    def _announce(self, step: int, seconds_done: float) -> None:
        left = self.training_left(step, seconds_done) or 0.0
        left += self._time_limit.prediction_seconds / MARGIN
        if left < LONG_SECONDS:
            return
        log.info(
            "this takes about %.2g h more on this machine, at %.2g s a step and %.2g s a "
            "validation; --max-time or --steps limit it, and the same command resumes it when it "
            "was stopped",
            left / 3600,
            self._each(),
            self._validation(),
        )
