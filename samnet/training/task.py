"""What a training is asked to do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from samnet.dataset.label_scheme import Regions
from samnet.plan.configuration import Configuration
from samnet.preprocessing.storage import StoredCase
from samnet.training.embeddings.cache import EmbeddingCache

SAVE_EVERY_SECONDS = 300.0


@dataclass(frozen=True)
class TrainingTask:
    """What to train on and for how long.

    held_out: whether the validation cases are kept from the training; without, there is no early stop.
    max_seconds: of training over all sittings; the learning rate then falls with the time. None: by steps alone.
    embeddings: of a frozen encoder, to be computed once and kept; None to compute them at each step.
    regions: that the network has outputs for; None for classes and the background.
    save_seconds: after how long the state is saved, besides at the end of each epoch.
    """

    configuration: Configuration
    class_names: tuple[str, ...]
    ignore_label: int | None
    training_cases: Sequence[StoredCase]
    validation_cases: Sequence[StoredCase]
    held_out: bool
    seed: int
    max_seconds: float | None
    workers: int
    embeddings: EmbeddingCache | None = None
    regions: Regions | None = None
    save_seconds: float = SAVE_EVERY_SECONDS
