"""The learning rate over a training."""

from __future__ import annotations


def learning_rate(peak: float, step: int, warmup_steps: int, progress: float, decay_power: float) -> float:
    """Linear rise over the first steps, then `peak (1 - p)^power`, as in SAMed (arXiv 2304.13785).

    step: from 0. progress: p, the share of what follows the warm-up that is gone; by steps, or by time where time is
    what is limited.
    """
    if step < warmup_steps:
        return peak * (step + 1) / warmup_steps
    return peak * max(0.0, 1.0 - progress) ** decay_power
