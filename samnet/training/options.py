"""What a user may request of a training run beyond its plan."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from samnet.core.limits import usable_cores
from samnet.core.worker_pool import default_processes

SAVE_EVERY_SECONDS = 300.0
_MAX_WORKERS = 7


@dataclass(frozen=True)
class TrainingOptions:
    """The options of `samnet_train`.

    Attributes:
        settings: Values of the plan to change for this run, by key.
        epochs: Length of the training in epochs, instead of steps.
        max_seconds: Limit of the training time.
        seed: Seed of everything random; None for 0.
        device: `cpu`, `cuda` or `mps`; None for the best one here.
        num_cases: Train on so many cases of the fold only.
        num_patients: Train on all cases of so many patients of the fold only.
        start_from: Folder of a trained model whose weights to start with, as far as they fit.
        workers: Number of worker processes that prepare samples; None for the default. 0 stands for
            no worker processes at all.
        cache_size: GiB for the embeddings of a frozen encoder; 0 to keep none, None for the
            default.
        save_seconds: How often the state is saved, in addition to the end of each epoch.
        multiply_batch: Whether each of several processes takes the plan's whole batch, instead of a
            share of it.
        resume: Resume a run (`--continue`). What is not given here is as it began.
        restart: Delete a run and train again.
        track: The tool that the run is tracked with, one of `TRACKERS`; None for none.
    """

    settings: dict[str, Any] = field(default_factory=dict)
    epochs: int | None = None
    max_seconds: float | None = None
    seed: int | None = None
    device: str | None = None
    num_cases: int | None = None
    num_patients: int | None = None
    start_from: Path | None = None
    workers: int | None = None
    cache_size: float | None = None
    save_seconds: float = SAVE_EVERY_SECONDS
    multiply_batch: bool = False
    resume: bool = False
    restart: bool = False
    track: str | None = None

    @property
    def file_processes(self) -> int:
        """Number of worker processes for work on files; 0 for none.

        With 0 worker processes for samples there are none for files either, as some containers do
        not allow any.
        """
        return 0 if self.workers == 0 else default_processes()

    def sample_workers(self, world_size: int) -> int:
        """Return the number of worker processes that prepare samples.

        Args:
            world_size: Number of processes that train together on this machine.

        Returns:
            The given number, or one less than the cores for each training process, but at most 7.
        """
        if self.workers is not None:
            return self.workers
        return min(_MAX_WORKERS, max(1, usable_cores() // world_size - 1))
