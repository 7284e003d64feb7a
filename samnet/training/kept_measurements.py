"""The measured memory of training steps, kept beside the plan that rests on it.

A dry run takes a second or more for each network. The steps of a plan are the same at each planning
of a data set, so `samnet_plan --explain` has nothing to measure.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import logging
from pathlib import Path

from samnet import __version__
from samnet.core.errors import UserError
from samnet.core.files import read_json, write_json
from samnet.planning.memory import Meter
from samnet.planning.planned_step import PlannedStep
from samnet.planning.step_estimate import estimate_step

log = logging.getLogger(__name__)


class KeptMeasurements:
    """Measures training steps as `measure_step`, each once: a `samnet.planning.memory.Meter`."""

    def __init__(self, file: Path, measure: Meter | None = None) -> None:
        """Read what is kept.

        Args:
            file: The file that keeps the measurements. It is written after each new one, so its
                folder has to be locked. One that cannot be read, or that another version of samnet
                or torch has written, counts as empty.
            measure: Measures what is not kept; `measure_step` by default.
        """
        self._file, self._measure = file, measure
        self._versions = {"samnet": __version__, "torch": importlib.metadata.version("torch")}
        self._gib = self._read()

    def __call__(self, step: PlannedStep) -> float:
        """Return the memory of a training step, measured now or before.

        Args:
            step: The step.

        Returns:
            GiB of all tensors at the peak of the step.
        """
        key = step.memory_key
        if key not in self._gib:
            self._gib[key] = self._meter()(step)
            with contextlib.suppress(OSError):  # where it cannot be kept, it is measured again
                write_json(self._file, {"versions": self._versions, "gib_by_step": self._gib})
        return self._gib[key]

    def estimate(self, step: PlannedStep) -> float | None:
        """Return what a step takes at most: for `samnet.planning.memory.EstimatingMeter`.

        Args:
            step: The step.

        Returns:
            GiB, or None where the measured memory is kept.
        """
        return None if step.memory_key in self._gib else estimate_step(step)

    def _meter(self) -> Meter:
        if self._measure is None:
            # Late: it imports torch, which takes seconds.
            from samnet.training.dry_run import measure_step

            self._measure = measure_step
        return self._measure

    def _read(self) -> dict[str, float]:
        if not self._file.is_file():
            return {}
        try:
            content = read_json(self._file)
            if content["versions"] != self._versions:
                return {}
            return {key: float(gib) for key, gib in content["gib_by_step"].items()}
        except (UserError, KeyError, TypeError, ValueError, AttributeError) as error:
            log.info("%s: measured again (%s)", self._file, error)
            return {}
