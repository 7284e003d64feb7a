"""How many of the planned steps a training run did, in words for people."""

from __future__ import annotations

from collections.abc import Sequence

from samnet.models.model_folder import RunFolder
from samnet.plan.configuration import Configuration
from samnet.training.curves import Epoch, best_epoch, read_epochs

_FEW = 0.5  # of the planned steps


def steps_done(run: RunFolder) -> int | None:
    """Return the optimiser steps that a run has done up to its last finished epoch.

    Args:
        run: The folder of the run.

    Returns:
        The steps; None where they are not recorded, as in an installed model.
    """
    return _last_step(_epochs(run))


def show_steps(done: Sequence[int], planned: int) -> str:
    """Return the steps done next to those planned, such as `11 of 1,500 planned`.

    Args:
        done: The steps that each run has done, of those of which they are known.
        planned: The steps of the plan.
    """
    if not done:
        return f"{planned:,} planned"
    low, high = min(done), max(done)
    span = f"{low:,}" if low == high else f"{low:,} to {high:,}"
    return f"{span} of {planned:,} planned"


def warn_of_few_steps(runs: Sequence[RunFolder]) -> list[str]:
    """Name the runs that did less than half of the planned steps.

    Runs that stopped early because their validations became no better are not named.

    Args:
        runs: The runs.

    Returns:
        One sentence for each.
    """
    warnings = []
    for run in runs:
        epochs, configuration = _epochs(run), run.configuration
        done = _last_step(epochs)
        if done is None or done >= _FEW * configuration.steps or _stalled(epochs, configuration):
            continue
        name = run.name.replace("_", " ")
        warnings.append(
            f"{name} trained for {done:,} of {configuration.steps:,} planned steps: a longer run "
            "is likely better."
        )
    return warnings


def _epochs(run: RunFolder) -> list[Epoch]:
    try:
        return read_epochs(run.metrics_file)
    except (OSError, UnicodeDecodeError):
        return []


def _last_step(epochs: Sequence[Epoch]) -> int | None:
    steps = [epoch["step"] for epoch in epochs if isinstance(epoch.get("step"), int)]
    return max(steps, default=None)


def _stalled(epochs: Sequence[Epoch], configuration: Configuration) -> bool:
    """Tell whether as many validations as the patience have not been better than the best one."""
    best = best_epoch(epochs)
    if configuration.patience == 0 or best is None:
        return False
    later = [epoch for epoch in epochs if epoch["epoch"] > best["epoch"]]
    validated = [epoch for epoch in later if epoch.get("mean_dice") is not None]
    return len(validated) >= configuration.patience
