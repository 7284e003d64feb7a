"""Many independent jobs in worker processes, each of which may fail by itself."""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import threading
import traceback
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from typing import Any

from tqdm import tqdm

from samnet.core.errors import SamnetError

log = logging.getLogger(__name__)

MAX_FRUITLESS_POOLS = 3
_KILLED = (
    "its worker process was killed, also when it ran alone, most likely because the memory ran out. "
    "Run the same command again where there is more memory, or without worker processes: -np 0, and --workers 0 for "
    "a training"
)
_NO_WORKERS = (
    f"worker processes were killed {MAX_FRUITLESS_POOLS} times before any finished a case: they cannot start, or "
    "the memory is too small. Run the same command again with -np 0 (--workers 0 for a training), which needs none"
)


def default_processes() -> int:
    """One process per core this process may use, at most 8 (each holds a case in memory)."""
    available = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    return min(8, available)


@dataclass
class Outcome:
    """What a set of jobs came to: results and failures, by the name of the job."""

    results: dict[str, Any] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)

    def raise_if_failed(self, what: str) -> None:
        """Raise one error that names every failed job, after all the others have finished."""
        if self.failures:
            lines = "\n".join(
                f"  {name}: {reason}" for name, reason in sorted(self.failures.items())
            )
            total = len(self.results) + len(self.failures)
            raise SamnetError(
                f"{what} failed for {len(self.failures)} of {total} cases; the others are done:\n{lines}"
            )


def run_jobs(
    function: Callable[..., Any], arguments: dict[str, tuple], processes: int, description: str
) -> Outcome:
    """Call `function(*arguments[name])` for every name; with `processes` = 0 in this process, without any pool.

    A job that raises does not stop the others. A worker that is killed (out of memory, usually) takes the jobs in
    flight with it: each is tried again by itself once the others are done, so a job must bear being run twice.
    """
    outcome = Outcome()
    runner = (
        _run_here(function, arguments)
        if processes == 0
        else _run_in_pool(function, arguments, processes)
    )
    with tqdm(
        total=len(arguments), desc=description, unit="case", disable=len(arguments) == 0
    ) as bar:
        for name, attempt in runner:
            if attempt.failure is None:
                outcome.results[name] = attempt.result
            else:
                outcome.failures[name] = attempt.failure
                log.debug("job %s failed\n%s", name, attempt.trace)
            bar.update()
    return outcome


@dataclass(frozen=True)
class _Attempt:
    """Failures are text: not every exception can be pickled, and one that cannot would take the whole pool with it."""

    result: Any = None
    failure: str | None = None
    trace: str = ""


def _attempt(function: Callable, values: tuple) -> _Attempt:
    try:
        return _Attempt(function(*values))
    except Exception as error:
        return _Attempt(failure=describe_error(error), trace=traceback.format_exc())


def describe_error(error: BaseException) -> str:
    """What a user is told of an error: the message alone where it is one of samnet's own."""
    return str(error) if isinstance(error, SamnetError) else f"{type(error).__name__}: {error}"


def _run_here(function: Callable, arguments: dict[str, tuple]) -> Iterator[tuple[str, _Attempt]]:
    for name, values in arguments.items():
        yield name, _attempt(function, values)


def _run_in_pool(
    function: Callable, arguments: dict[str, tuple], processes: int
) -> Iterator[tuple[str, _Attempt]]:
    waiting, suspects, breaks = deque(arguments), [], 0
    while waiting:
        num_ended, in_flight = yield from _run_until_killed(function, arguments, waiting, processes)
        suspects += in_flight
        breaks = 0 if num_ended else breaks + 1
        if breaks == MAX_FRUITLESS_POOLS:
            yield from ((name, _Attempt(failure=_NO_WORKERS)) for name in (*suspects, *waiting))
            return
    for name in suspects:
        _, in_flight = yield from _run_until_killed(function, arguments, deque([name]), 1)
        if in_flight:
            yield name, _Attempt(failure=_KILLED)


def _run_until_killed(
    function: Callable, arguments: dict[str, tuple], waiting: deque[str], processes: int
) -> Generator[tuple[str, _Attempt], None, tuple[int, list[str]]]:
    """Do the jobs of `waiting` until none is left or a worker is killed.

    Returns how many jobs ended, and the names of those that were in flight when the worker was killed.
    """
    # spawn: workers hold nothing of the parent (no torch, no locks), the same on every operating system.
    context = multiprocessing.get_context("spawn")
    num_ended, killed, is_broken = 0, [], False
    in_flight: dict[Future[_Attempt], str] = {}
    with (
        ProcessPoolExecutor(min(processes, len(waiting)), context, _end_with_parent) as pool,
        _ending_workers(),
    ):
        while in_flight or (waiting and not is_broken):
            while waiting and not is_broken and len(in_flight) < processes:
                try:
                    future = pool.submit(_attempt, function, arguments[waiting[0]])
                except BrokenProcessPool:
                    is_broken = True
                else:
                    in_flight[future] = waiting.popleft()
            for future in wait(in_flight, return_when=FIRST_COMPLETED).done:
                name, error = in_flight.pop(future), future.exception()
                if isinstance(error, BrokenProcessPool):
                    is_broken = True
                    killed.append(name)
                else:
                    num_ended += 1
                    yield (
                        name,
                        _Attempt(failure=describe_error(error)) if error else future.result(),
                    )
    return num_ended, killed


@contextlib.contextmanager
def _ending_workers() -> Iterator[None]:
    """A stop from outside, also of who asked for the jobs, does not wait for cases that take minutes."""
    try:
        yield
    except BaseException:
        for worker in multiprocessing.active_children():
            worker.terminate()
        raise


def _end_with_parent() -> None:
    """A worker whose parent was killed would wait for its next job for ever, and hold its memory."""

    def watch() -> None:
        parent = multiprocessing.parent_process()
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
