"""What a training run leaves for a person to follow it: a line of numbers an epoch, and curves."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from samnet.core.figures import drawing_may_fail, save_figure
from samnet.core.files import atomic_path
from samnet.models.model_folder import RunFolder
from samnet.training.curves import DPI, draw_run, read_epochs

NOTEWORTHY_WAITING = 0.1


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
