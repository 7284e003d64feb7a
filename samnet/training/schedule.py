"""The learning rate over a training."""

from __future__ import annotations

from dataclasses import dataclass

from samnet.plan.configuration import Configuration

MAX_WARMUP_SHARE = 0.1
PLATEAU_EPOCHS = 10
PLATEAU_FACTOR = 0.1
PLATEAU_THRESHOLD = 1e-4


def learning_rate(peak: float, warmup_done: float, progress: float, decay_power: float) -> float:
    """Linear rise during the warm-up, then `peak (1 - p)^power`, as in SAMed (arXiv 2304.13785).

    warmup_done: share of the warm-up, 1 at its end. progress: p, the share of what follows it that is gone; by steps,
    or by time where time is what is limited.
    """
    if warmup_done < 1:
        return peak * warmup_done
    return peak * min(1.0, max(0.0, 1.0 - progress)) ** decay_power


def planned_rate(
    configuration: Configuration,
    step: int,
    seconds: float,
    max_seconds: float | None,
    plateau_factor: float = 1.0,
) -> float:
    """The rate of a step by a plan's schedule, which follows the clock where that goes faster than the steps.

    step: counted from 0. seconds: trained so far, of max_seconds; None there: by steps alone. plateau_factor: of
    `Plateau`, for that schedule.
    """
    peak, warmup = configuration.learning_rate, configuration.warmup_steps
    clock = 0.0 if max_seconds is None else min(1.0, seconds / max_seconds)
    # Steps may be slow: the warm-up takes a tenth of the time at most.
    warmup_done = max((step + 1) / warmup if warmup else 1.0, clock / MAX_WARMUP_SHARE)
    if configuration.schedule == "plateau":
        return learning_rate(peak * plateau_factor, warmup_done, 0.0, configuration.decay_power)
    warmup = min(warmup, configuration.steps - 1)
    share = max((step - warmup) / (configuration.steps - warmup), clock)
    return learning_rate(
        peak, warmup_done, configuration.decay_share * share, configuration.decay_power
    )


@dataclass
class Plateau:
    """A rate that falls to a tenth whenever the loss has not fallen, by a ten-thousandth, for more than ten epochs.

    The numbers are the defaults of torch's `ReduceLROnPlateau`. factor: of the peak rate now. best_loss: of an epoch so
    far, None before the first. epochs_since: that one.
    """

    factor: float = 1.0
    best_loss: float | None = None
    epochs_since: int = 0

    def finish_epoch(self, loss: float) -> None:
        """Take note of the mean training loss of an epoch."""
        if self.best_loss is None or loss < self.best_loss * (1 - PLATEAU_THRESHOLD):
            self.best_loss, self.epochs_since = loss, 0
            return
        self.epochs_since += 1
        if self.epochs_since > PLATEAU_EPOCHS:
            self.factor, self.epochs_since = self.factor * PLATEAU_FACTOR, 0
