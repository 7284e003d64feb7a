"""Many independent pieces of work: shares of a job array, and processes that may fail one by one."""

from __future__ import annotations

import logging
import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from typing import Any, TypeVar

from tqdm import tqdm

from samnet.core.errors import SamnetError, UserError

Item = TypeVar("Item")
log = logging.getLogger(__name__)


def default_processes() -> int:
    """One process per core this process may use, at most 8 (each holds a case in memory)."""
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(8, available)


def select_part(items: Sequence[Item], num_parts: int, part_id: int) -> list[Item]:
    """Every `num_parts`-th item from `part_id` on: disjoint shares that together are everything.

    Raises:
        UserError: `part_id` is outside 0 .. num_parts - 1.
    """
    if num_parts < 1 or not 0 <= part_id < num_parts:
        raise UserError(f"--part-id {part_id} with --num-parts {num_parts}: the id goes from 0 to {num_parts - 1}")
    return list(items[part_id::num_parts])


@dataclass
class Outcome:
    """What a set of jobs came to: results and failures, by the name of the job."""

    results: dict[str, Any] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)

    def raise_if_failed(self, what: str) -> None:
        """Raise one error that names every failed job, after all the others have finished."""
        if self.failures:
            lines = "\n".join(f"  {name}: {reason}" for name, reason in sorted(self.failures.items()))
            total = len(self.results) + len(self.failures)
            raise SamnetError(f"{what} failed for {len(self.failures)} of {total} cases; the others are done:\n{lines}")


def run_jobs(
    function: Callable[..., Any], arguments: dict[str, tuple], processes: int, description: str
) -> Outcome:
    """Call `function(*arguments[name])` for every name; with `processes` = 0 in this process, without any pool.

    A job that raises does not stop the others. A worker that is killed (out of memory, usually) takes the jobs in
    flight with it: each is then named as failed.
    """
    outcome = Outcome()
    runner = _run_here(function, arguments) if processes == 0 else _run_in_pool(function, arguments, processes)
    with tqdm(total=len(arguments), desc=description, unit="case", disable=len(arguments) == 0) as bar:
        for name, result, error in runner:
            if error is None:
                outcome.results[name] = result
            else:
                outcome.failures[name] = _describe(error)
                log.debug("job %s failed", name, exc_info=error)
            bar.update()
    return outcome


def _run_here(function: Callable, arguments: dict[str, tuple]) -> Iterator[tuple[str, Any, BaseException | None]]:
    for name, values in arguments.items():
        try:
            yield name, function(*values), None
        except Exception as error:
            yield name, None, error


def _run_in_pool(
    function: Callable, arguments: dict[str, tuple], processes: int
) -> Iterator[tuple[str, Any, BaseException | None]]:
    # spawn: workers hold nothing of the parent (no torch, no locks), the same on every operating system.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(processes, max(1, len(arguments))), mp_context=context) as pool:
        futures = {pool.submit(function, *values): name for name, values in arguments.items()}
        for future in as_completed(futures):
            error = future.exception()
            yield futures[future], None if error else future.result(), error


def _describe(error: BaseException) -> str:
    if isinstance(error, BrokenProcessPool):
        return (
            "a worker process was killed before this case was done, most likely for want of memory. "
            "Run the same command again (finished cases are kept), with fewer processes: -np 1 or -np 0"
        )
    return str(error) if isinstance(error, SamnetError) else f"{type(error).__name__}: {error}"
