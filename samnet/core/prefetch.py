"""Prefetching: the next item is prepared in a thread while the current one is used.

Reading from disk and computing then overlap.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def prefetch(function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """Apply a function to each item, one item before the caller needs its result.

    A thread computes the next result while the caller uses the current one. Never more than two
    results exist at a time. An error of `function` is raised where its result would have come.

    Args:
        function: Computes the result of one item.
        items: The items.

    Yields:
        The results, in the order of the items.
    """
    with ThreadPoolExecutor(1, "samnet-prefetch") as pool:
        pending: Future[Result] | None = None
        for item in items:
            following = pool.submit(function, item)
            if pending is not None:
                yield pending.result()
            pending = following
        if pending is not None:
            yield pending.result()
