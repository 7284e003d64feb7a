"""Work done ahead in a thread, so that reading and computing take turns with nothing waiting."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def prefetch(function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """`function` of each item, in their order; the next is at work in a thread while the caller uses the one before.

    Never more than two results are there at a time. What `function` raises is raised where its result would come.
    """
    with ThreadPoolExecutor(1, "samnet-prefetch") as pool:
        coming: Future[Result] | None = None
        for item in items:
            following = pool.submit(function, item)
            if coming is not None:
                yield coming.result()
            coming = following
        if coming is not None:
            yield coming.result()
