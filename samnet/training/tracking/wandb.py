"""Training runs in Weights & Biases: offline in the folder of the run, unless WANDB_MODE is set."""

from __future__ import annotations

import os
import uuid
from collections.abc import Mapping
from pathlib import Path

os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # read when wandb is imported

import wandb

from samnet.training.tracking.backend import TrackedRun

_OFFLINE = "offline"


class WandbRun:
    """A `Backend` that is a run of Weights & Biases, in the project of the data set's name.

    Attributes:
        identifier: The id of the run.
    """

    def __init__(self, run: TrackedRun) -> None:
        """Begin a run, or another part of the one of an earlier session.

        Args:
            run: The run.
        """
        self.identifier = run.identifier or uuid.uuid4().hex[:8]
        mode = os.environ.get("WANDB_MODE", _OFFLINE)
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", run.dataset),
            name=run.name,
            group=run.configuration,
            id=self.identifier,
            resume=None if mode == _OFFLINE else "allow",
            dir=os.environ.get("WANDB_DIR", str(run.folder)),
            mode=mode,
            settings=wandb.Settings(
                console="off",  # our progress bars are no text for people
                silent=True,
                # Paths, users and programs of this machine are nobody else's business.
                disable_git=True,
                save_code=False,
                x_disable_meta=True,
                x_disable_stats=True,
                x_save_requirements=False,
            ),
        )

    def add_parameters(self, values: Mapping[str, str | float], step: int) -> None:
        """Add the values to the configuration of the run.

        Args:
            values: Numbers and texts by name.
            step: The step from which they hold.
        """
        self._run.config.update(dict(values), allow_val_change=True)

    def add_metrics(self, values: Mapping[str, float], step: int) -> None:
        """Add the numbers of an epoch.

        Args:
            values: Numbers by name.
            step: The number of steps done.
        """
        self._run.log(dict(values), step=step, commit=True)  # else the next call would write it

    def add_figure(self, name: str, file: Path, step: int) -> None:
        """Add a figure.

        Args:
            name: Its name.
            file: A PNG file.
            step: The number of steps done. The figure gets the current one, as steps never go back.
        """
        self._run.log({name: wandb.Image(str(file))}, commit=False)

    def close(self, *, is_complete: bool) -> None:
        """Write what is left.

        Args:
            is_complete: Whether the run is finished; else it counts as failed until it is resumed.
        """
        self._run.finish(exit_code=0 if is_complete else 1)
