"""Stands in for what records CUDA graphs."""

from __future__ import annotations

from collections.abc import Callable


class Recorder:
    """Does the work at each replay, and counts both.

    Attributes:
        error: Raised in place of a recording; None to record.
        recorded: Number of recordings.
        replayed: Number of replays.
        works: What was recorded.
    """

    def __init__(self, error: Exception | None = None) -> None:
        """Begin without a recording."""
        self.error = error
        self.recorded = self.replayed = 0
        self.works: list[Callable[[], None]] = []

    def __call__(self, work: Callable[[], None]) -> Callable[[], None]:
        """Record work."""
        self.recorded += 1
        if self.error:
            raise self.error

        self.works.append(work)

        def replay() -> None:
            self.replayed += 1
            work()

        return replay
