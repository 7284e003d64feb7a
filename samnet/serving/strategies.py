"""Which image is labelled next. New strategies are added to `STRATEGIES`."""

from __future__ import annotations

import math
import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from samnet.annotation.table import read_ranking
from samnet.core.errors import UserError
from samnet.dataset.cases import Case
from samnet.dataset.dataset_folder import DatasetFolder
from samnet.serving.errors import Conflict, NotFound
from samnet.serving.served_models import ServedModels

# An image that was given to a client is given to another one only after all others, for so long.
RESERVED_SECONDS = 3600.0


@dataclass(frozen=True)
class SamplePool:
    """What a strategy may choose by.

    Attributes:
        cases: The cases without a label map, in the order of their names.
        seed: What a random choice depends on.
        folder: The paths of the data set, or None where it is not known.
        models: The models of the server, or None likewise.
        ranking: The `next.csv` of `samnet_next`; None without one.
    """

    cases: Sequence[Case]
    seed: int
    folder: DatasetFolder | None = None
    models: ServedModels | None = None
    ranking: Path | None = None

    @property
    def names(self) -> list[str]:
        """The names of the cases."""
        return [case.identifier for case in self.cases]


@dataclass(frozen=True)
class Strategy:
    """A way of choosing the next image.

    Attributes:
        description: What it does, for people.
        rank: Function that returns the names of the cases of a pool, that of the case to label
            first at the beginning.
    """

    description: str
    rank: Callable[[SamplePool], Sequence[str]]


def _in_order(pool: SamplePool) -> list[str]:
    return pool.names


def _at_random(pool: SamplePool) -> list[str]:
    names = pool.names
    random.Random(pool.seed).shuffle(names)
    return names


def _as_ranked(pool: SamplePool) -> list[str]:
    """Return the cases as `samnet_next` ordered them, then those that it did not know."""
    if pool.ranking is None:
        raise NotFound(
            "strategy 'ranked': the server was started without --ranking; run samnet_next and give "
            "its next.csv"
        )
    try:
        ranked = read_ranking(pool.ranking)
    except UserError as error:
        raise Conflict(f"strategy 'ranked': {error}") from None
    places = {name: place for place, name in enumerate(ranked)}
    return sorted(pool.names, key=lambda name: places.get(name, len(places)))


STRATEGIES: dict[str, Strategy] = {
    "random": Strategy("a random image", _at_random),
    "first": Strategy("the first image by its name", _in_order),
    "ranked": Strategy("the first image of the ranking by samnet_next", _as_ranked),
}


class NextSamples:
    """Gives each client another image, as long as there are others."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        """Begin with no image given away.

        Args:
            clock: Returns the time in seconds.
        """
        self._clock, self._lock = clock, threading.Lock()
        self._given: dict[str, float] = {}

    def choose(self, strategy: str, pool: SamplePool) -> str | None:
        """Choose the next image.

        Args:
            strategy: The name of a strategy.
            pool: What it may choose by.

        Returns:
            The name of a case; None where there is none.

        Raises:
            NotFound: There is no such strategy, or no ranking for it.
            Conflict: The ranking cannot be read.
        """
        if strategy not in STRATEGIES:
            raise NotFound(
                f"strategy {strategy[:40]!r}: there is none of this name; choose from "
                f"{', '.join(STRATEGIES)}"
            )
        if not pool.cases:
            return None
        ranked = list(STRATEGIES[strategy].rank(pool))
        with self._lock:
            now = self._clock()
            for name, given in list(self._given.items()):
                if given + RESERVED_SECONDS < now:
                    del self._given[name]
            chosen = min(ranked, key=lambda name: self._given.get(name, -math.inf))
            self._given[chosen] = now
        return chosen
