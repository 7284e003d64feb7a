"""What the first steps of a session tell about the time that the training will take."""

from __future__ import annotations

import logging
import time

log = logging.getLogger(__name__)
MIN_STEPS = 5
ENOUGH_STEPS = 50
ENOUGH_SECONDS = 30.0
LONG_SECONDS = 3600.0


class Forecast:
    """Says once how long a training will take, where that is an hour or more.

    The first step of a session is not counted, as it waits for the first samples.
    """

    def __init__(self) -> None:
        """Begin before the first step of a session."""
        self._began: float | None = None
        self._steps = 0
        self._is_said = False

    def count_step(self, steps_left: int, max_seconds: float | None, seconds_done: float) -> None:
        """Take note of a step, and say how long the rest takes when enough are done.

        Args:
            steps_left: Steps until the end of the plan.
            max_seconds: Limit of the training time; None for no limit.
            seconds_done: Time trained so far.
        """
        now = time.monotonic()
        if self._is_said:
            return
        if self._began is None:
            self._began = now
            return
        self._steps += 1
        spent = now - self._began
        is_enough = self._steps >= ENOUGH_STEPS or spent >= ENOUGH_SECONDS
        if self._steps < MIN_STEPS or not is_enough:
            return
        self._is_said = True
        each = spent / self._steps
        left = each * steps_left
        if max_seconds is not None:
            left = min(left, max_seconds - seconds_done)
        if left >= LONG_SECONDS:
            log.info(
                "the training takes about %.0f h more on this machine, at %.2g s a step, and "
                "longer with its validations; --max-time or --steps limit it, and the same "
                "command resumes it when it was stopped",
                max(1.0, left / 3600),
                each,
            )
