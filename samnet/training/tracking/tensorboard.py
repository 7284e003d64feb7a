"""Training runs in TensorBoard: event files in the folder of the run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image
from torch.utils.tensorboard import SummaryWriter

from samnet.training.tracking.backend import TrackedRun, plain_name


class TensorBoardRun:
    """A `Backend` that writes event files. `tensorboard --logdir` of any folder above shows them.

    Attributes:
        identifier: Always `events`: what is in the folder belongs to the run.
    """

    identifier = "events"

    def __init__(self, run: TrackedRun) -> None:
        """Begin another event file.

        Args:
            run: The run.
        """
        # Points after the last known step are of a session that was killed; they come again.
        purge_step = None if run.identifier is None else run.step + 1
        self._writer = SummaryWriter(str(run.folder), purge_step=purge_step)

    def add_parameters(self, values: Mapping[str, str | float], step: int) -> None:
        """Add a table of the values as text.

        Args:
            values: Numbers and texts by name.
            step: The step from which they hold.
        """
        rows = [
            f"| {name} | {str(value).replace('|', '&#124;')} |" for name, value in values.items()
        ]
        table = "\n".join(["| name | value |", "|---|---|", *rows])
        self._writer.add_text("parameters", table, max(step, 0))
        self._writer.flush()

    def add_metrics(self, values: Mapping[str, float], step: int) -> None:
        """Add the numbers of an epoch.

        Args:
            values: Numbers by name.
            step: The number of steps done.
        """
        for name, value in values.items():
            self._writer.add_scalar(plain_name(name), value, step)
        self._writer.flush()

    def add_figure(self, name: str, file: Path, step: int) -> None:
        """Add a figure.

        Args:
            name: Its name.
            file: A PNG file.
            step: The number of steps done.
        """
        with Image.open(file) as image:
            pixels = np.asarray(image.convert("RGB"))
        self._writer.add_image(plain_name(name), pixels, step, dataformats="HWC")
        self._writer.flush()

    def close(self, *, is_complete: bool) -> None:
        """Close the event file.

        Args:
            is_complete: Whether the run is finished; TensorBoard does not tell.
        """
        self._writer.close()
