"""What a trainer is to do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from samnet.dataset.label_scheme import LabelScheme
from samnet.plan.configuration import Configuration
from samnet.preprocessing.storage import StoredCase
from samnet.training.embeddings.cache import EmbeddingCache
from samnet.training.options import SAVE_EVERY_SECONDS


@dataclass(frozen=True)
class TrainingTask:
    """What to train on and for how long.

    Attributes:
        configuration: The values of the run's configuration.
        label_scheme: The classes or regions that the network has outputs for.
        training_cases: The cases to train on.
        validation_cases: The cases to validate on.
        held_out: Whether the validation cases are kept from the training. Without, there is no
            early stop.
        seed: Seed of everything random.
        max_seconds: Limit of the training time over all sessions, with what follows the training;
            the learning rate then falls with the time. None: by steps alone.
        workers: Number of worker processes that prepare samples.
        unlabelled_cases: Cases without labels to learn from; none where the plan has no weight for
            them.
        embeddings: Where the embeddings of a frozen encoder are kept; None to compute them at each
            step.
        ends_at: When the command is to end, by `time.monotonic`; None where only `max_seconds`
            limits it.
        validation_seconds: How long a validation is expected to take.
        prediction_seconds: How long what follows the training is expected to take.
        save_seconds: After how long the state is saved, in addition to the end of each epoch.
    """

    configuration: Configuration
    label_scheme: LabelScheme
    training_cases: Sequence[StoredCase]
    validation_cases: Sequence[StoredCase]
    held_out: bool
    seed: int
    max_seconds: float | None
    workers: int
    unlabelled_cases: Sequence[StoredCase] = ()
    embeddings: EmbeddingCache | None = None
    ends_at: float | None = None
    validation_seconds: float = 0.0
    prediction_seconds: float = 0.0
    save_seconds: float = SAVE_EVERY_SECONDS

    @property
    def num_slices(self) -> int:
        """The number of slices to train on: those of a pass through all."""
        views = self.configuration.views
        return sum(case.num_slices(axis) for case in self.training_cases for axis in views)
