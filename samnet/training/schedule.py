"""The learning rate over a training."""

from __future__ import annotations

from dataclasses import dataclass

PLATEAU_EPOCHS = 10
PLATEAU_FACTOR = 0.1
PLATEAU_THRESHOLD = 1e-4


def learning_rate(peak: float, step: int, warmup_steps: int, progress: float, decay_power: float) -> float:
    """Linear rise over the first steps, then `peak (1 - p)^power`, as in SAMed (arXiv 2304.13785).

    step: from 0. progress: p, the share of what follows the warm-up that is gone; by steps, or by time where time is
    what is limited.
    """
    if step < warmup_steps:
        return peak * (step + 1) / warmup_steps
    return peak * max(0.0, 1.0 - progress) ** decay_power


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
