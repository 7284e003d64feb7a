"""The loss curve of a pre-training run."""

from __future__ import annotations

import json
from pathlib import Path

from torch import Tensor

from samnet.core.files import atomic_path
from samnet.training.checkpoint import Progress


class Curve:
    """The file of the loss curve: mean losses of every `log_every` steps, one JSON object a line.

    A line also has the images that were trained on in a second (`images_per_second`), and the
    share of the time that was spent waiting for them (`waiting`).

    Attributes:
        file: The file.
        log_every: Number of steps from one point to the next.
    """

    def __init__(self, file: Path, step: int, log_every: int) -> None:
        """Open the file.

        Points beyond `step` are removed: the steps after the last saved state run again.

        Args:
            file: The file.
            step: Number of steps that are done.
            log_every: Number of steps from one point to the next.
        """
        self.file, self.log_every = file, log_every
        self._start()
        lines = file.read_text(encoding="utf-8").splitlines() if step and file.is_file() else []
        with atomic_path(file) as temporary:
            kept = [line for line in lines if json.loads(line)["step"] <= step]
            temporary.write_text("".join(line + "\n" for line in kept), encoding="utf-8")

    def _start(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._images, self._waited, self._computed = 0, 0.0, 0.0

    def add_time(self, images: int, waited: float, computed: float) -> None:
        """Count the time of a step.

        Args:
            images: Number of its images.
            waited: Seconds until they were there.
            computed: Seconds of the step itself.
        """
        self._images += images
        self._waited += waited
        self._computed += computed

    def add(self, progress: Progress, size: int, losses: dict[str, Tensor]) -> None:
        """Count the losses of a step, and write a point where one is due.

        Args:
            progress: How far the run is, the step included.
            size: Edge of the images in pixels.
            losses: Scalars by name.
        """
        for name, value in losses.items():
            # They stay on the device until they are written, so that no step waits for them.
            self._sums[name] = self._sums.get(name, 0) + value.detach().double()
        if progress.step % self.log_every:
            return
        seconds = max(self._waited + self._computed, 1e-9)
        row = {
            "step": progress.step,
            "seconds": round(progress.seconds, 1),
            "size": size,
            "images_per_second": round(self._images / seconds, 1),
            "waiting": round(self._waited / seconds, 3),
        }
        row |= {name: round(float(total) / self.log_every, 4) for name, total in self._sums.items()}
        self._start()
        with self.file.open("a", encoding="utf-8") as handle:
            handle.write(json.dumps(row) + "\n")
