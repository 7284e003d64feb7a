"""What a training run leaves for a person to follow it: a line of numbers an epoch, and curves."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

from samnet.core.figures import drawing_may_fail, save_figure
from samnet.core.files import atomic_path
from samnet.models.model_folder import RunFolder
from samnet.training.checkpoint import Progress
from samnet.training.curves import (
    DPI,
    ON_HELD_OUT_CASES,
    ON_TRAINING_CASES,
    draw_run,
    read_epochs,
)

NOTEWORTHY_WAITING = 0.1


def epoch_row(
    progress: Progress, mean_dice: float, dice: dict[str, float], *, held_out: bool
) -> dict[str, Any]:
    """Return the first numbers of an epoch.

    Args:
        progress: How far the run is, at the end of the epoch.
        mean_dice: The mean Dice of its validation; NaN for none.
        dice: The Dice of each class or region by its name; NaN where no case shows it.
        held_out: Whether the validation cases are kept from the training.

    Returns:
        The numbers by name, None in place of NaN.
    """
    return {
        "epoch": progress.epoch,
        "step": progress.step,
        "loss": progress.mean_loss,
        "mean_dice": _finite(mean_dice),
        "dice": {name: _finite(value) for name, value in dice.items()},
        "validated_on": ON_HELD_OUT_CASES if held_out else ON_TRAINING_CASES,
    }


def _finite(value: float) -> float | None:
    return round(value, 5) if math.isfinite(value) else None


class History:
    """One line of numbers for each epoch, and a figure of them.

    Attributes:
        rows: The lines, as they are in `metrics.jsonl`.
    """

    def __init__(self, folder: Path, epochs: int, *, is_master: bool = True) -> None:
        """Read what is there, and drop what does not count.

        Args:
            folder: The folder of the run.
            epochs: Number of lines that count when a run is resumed; later ones are dropped.
            is_master: Whether files are written. Of several processes that train together, one
                does.
        """
        run = RunFolder(folder)
        self.file, self.figure_file = run.metrics_file, run.progress_file
        self.is_master = is_master
        self.rows: list[dict[str, Any]] = []
        if epochs:
            self.rows = [row for row in read_epochs(self.file) if row["epoch"] <= epochs]
        if not is_master:
            return
        with atomic_path(self.file) as temporary:
            text = "".join(json.dumps(row) + "\n" for row in self.rows)
            temporary.write_text(text, encoding="utf-8")

    def notes(self) -> list[str]:
        """Return what is worth knowing of the last epoch in a few words each.

        Returns:
            The mean Dice, and the share of the time spent waiting for samples where it is large.
        """
        epoch = self.rows[-1] if self.rows else {}
        notes = []
        if epoch.get("mean_dice") is not None:
            notes.append(f"Dice {epoch['mean_dice']:.3f}")
        if epoch.get("waiting_share", 0) >= NOTEWORTHY_WAITING:
            notes.append(f"waiting for samples {epoch['waiting_share']:.0%}")
        return notes

    def add(self, row: dict[str, Any]) -> None:
        """Add the line of an epoch.

        Args:
            row: Its numbers by name.
        """
        self.rows.append(row)
        if not self.is_master:
            return
        with self.file.open("a", encoding="utf-8") as handle:
            handle.write(json.dumps(row) + "\n")
            handle.flush()
            os.fsync(handle.fileno())

    def draw(self) -> None:
        """Draw the loss, the Dice of every class and the learning rate.

        A figure that cannot be drawn is one line in the log.
        """
        if not self.is_master or not self.rows:
            return
        with drawing_may_fail(self.figure_file):
            save_figure(draw_run(self.rows), self.figure_file, DPI)
