"""What a training run leaves for a person to follow it: a line of numbers an epoch, and curves."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from samnet.core.figures import drawing_may_fail, name_legend, new_figure, save_figure
from samnet.core.files import atomic_path
from samnet.models.model_folder import RunFolder

if TYPE_CHECKING:
    from matplotlib.axes import Axes

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
        if epochs and self.file.is_file():
            lines = self.file.read_text(encoding="utf-8").splitlines()
            rows = [row for row in map(_parse, lines) if row is not None]
            self.rows = [row for row in rows if row["epoch"] <= epochs]
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
        """Draw the loss and the learning rate above, and the Dice of every class below.

        A figure that cannot be drawn is one line in the log.
        """
        if not self.is_master:
            return
        with drawing_may_fail(self.figure_file):
            figure = new_figure(8, 7)
            above, below = figure.subplots(2, 1, sharex=True)
            self._draw_loss(above)
            self._draw_dice(below)
            save_figure(figure, self.figure_file, dpi=100)

    def _draw_loss(self, axes: Axes) -> None:
        steps = self._column("step")
        axes.plot(steps, self._column("loss"), color="tab:blue")
        axes.set_ylabel("training loss")
        rates = axes.twinx()
        rates.plot(steps, self._column("learning_rate"), color="tab:gray", linewidth=1)
        rates.set_ylabel("learning rate")

    def _draw_dice(self, axes: Axes) -> None:
        steps = self._column("step")
        names = list(self.rows[-1]["dice"])
        for number, name in enumerate(names):
            values = [_number(row["dice"][name]) for row in self.rows]
            axes.plot(steps, values, label=f"class {number}", linewidth=1)
        axes.plot(steps, self._column("mean_dice"), label="mean", color="black", linewidth=2)
        axes.set_xlabel("step")
        axes.set_ylabel(f"Dice of volumes ({self.rows[-1]['validated_on']})")
        axes.set_ylim(0, 1)
        axes.grid(alpha=0.3)
        name_legend(axes.legend(fontsize="small", ncols=3), [*names, "mean"])

    def _column(self, name: str) -> list[float]:
        return [_number(row[name]) for row in self.rows]


def _parse(line: str) -> dict[str, Any] | None:
    try:
        return json.loads(line)
    except json.JSONDecodeError:  # the last line of a killed run may be cut short
        return None


def _number(value: float | None) -> float:
    return float("nan") if value is None else value
