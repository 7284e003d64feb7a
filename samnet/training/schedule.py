"""The learning rate over the course of a training run."""

from __future__ import annotations

from dataclasses import dataclass

from samnet.plan.configuration import Configuration

MAX_WARMUP_SHARE = 0.1
PLATEAU_EPOCHS = 10
PLATEAU_FACTOR = 0.1
PLATEAU_THRESHOLD = 1e-4
BY_PASS = "plateau_by_pass"  # the schedule in the form of AutoSAM's code
PASSES_BEFORE_PLATEAU = 10  # in which the rate cannot fall


def learning_rate(peak: float, warmup_done: float, progress: float, decay_power: float) -> float:
    """Return the rate of a linear rise and a polynomial fall, as in SAMed (arXiv 2304.13785).

    The fall is `peak (1 - progress)^decay_power`.

    Args:
        peak: The highest rate.
        warmup_done: The share of the warm-up that is done; 1 at its end.
        progress: The share that is done of what follows the warm-up: of the steps, or of the time
            where the time is limited.
        decay_power: The exponent.

    Returns:
        The rate.
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
    """Return the rate of a step by a plan's schedule.

    Where the time is limited and passes faster than the steps, the schedule follows the clock.

    Args:
        configuration: The schedule.
        step: The number of the step, from 0.
        seconds: Time trained so far.
        max_seconds: Limit of the training time; None to go by steps alone.
        plateau_factor: Factor of the peak, for the schedules `plateau` and `plateau_by_pass`, see
            `Plateau`.

    Returns:
        The rate.
    """
    peak, warmup = configuration.learning_rate, configuration.warmup_steps
    clock = 0.0 if max_seconds is None else min(1.0, seconds / max_seconds)
    # Steps may be slow: the warm-up takes a tenth of the time at most.
    warmup_done = max((step + 1) / warmup if warmup else 1.0, clock / MAX_WARMUP_SHARE)
    if configuration.schedule != "polynomial":
        return learning_rate(peak * plateau_factor, warmup_done, 0.0, configuration.decay_power)
    warmup = min(warmup, configuration.steps - 1)
    share = max((step - warmup) / (configuration.steps - warmup), clock)
    return learning_rate(
        peak, warmup_done, configuration.decay_share * share, configuration.decay_power
    )


def share_done(
    configuration: Configuration, step: int, seconds: float, max_seconds: float | None
) -> float:
    """Return the share of a training run that is done, by steps or by its time limit.

    Args:
        configuration: How many steps are planned.
        step: Steps done.
        seconds: Time trained so far.
        max_seconds: Limit of the training time; None to go by steps alone.

    Returns:
        The larger share.
    """
    clock = 0.0 if max_seconds is None else min(1.0, seconds / max_seconds)
    return max(step / configuration.steps, clock)


@dataclass
class Plateau:
    """A rate that falls to a tenth when the loss stops falling.

    That is when more than ten epochs in a row have not lowered the best loss by a ten-thousandth.
    These numbers are the defaults of torch's `ReduceLROnPlateau`.

    Attributes:
        factor: The current share of the peak rate.
        best_loss: The lowest loss of an epoch so far; None before the first.
        epochs_since: The number of epochs since then.
    """

    factor: float = 1.0
    best_loss: float | None = None
    epochs_since: int = 0

    def finish_step(
        self, configuration: Configuration, step: int, num_slices: int, loss: float
    ) -> None:
        """Take note of a step, for the schedule `plateau_by_pass`.

        A pass ends with the batch in which the last of its slices is. AutoSAM's code goes by the
        loss of that batch alone, from the eleventh pass on.

        Args:
            configuration: The schedule.
            step: The number of steps done, from 1.
            num_slices: The number of slices of a pass.
            loss: The loss of the step.
        """
        if configuration.schedule != BY_PASS:
            return
        before, after = (
            count * configuration.batch_size // num_slices for count in (step - 1, step)
        )
        if after > before and after > PASSES_BEFORE_PLATEAU:
            self.finish_epoch(loss)

    def finish_epoch(self, loss: float) -> None:
        """Take note of an epoch, or of a pass.

        Args:
            loss: Its mean training loss, or that of its last batch.
        """
        if self.best_loss is None or loss < self.best_loss * (1 - PLATEAU_THRESHOLD):
            self.best_loss, self.epochs_since = loss, 0
            return
        self.epochs_since += 1
        if self.epochs_since > PLATEAU_EPOCHS:
            self.factor, self.epochs_since = self.factor * PLATEAU_FACTOR, 0
