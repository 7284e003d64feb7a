"""Independent jobs in worker processes. A job that fails does not stop the others."""

from __future__ import annotations

import logging
import traceback
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from typing import Any

from samnet.core import main_guard
from samnet.core.errors import SamnetError
from samnet.core.limits import usable_cores
from samnet.core.progress import ProgressBar
from samnet.core.worker_processes import worker_processes

log = logging.getLogger(__name__)

# Number of pools in a row that may break before any of their jobs ends.
MAX_FRUITLESS_POOLS = 3
_KILLED = (
    "its worker process was killed, also when it ran alone, most likely because the memory ran "
    "out. Run the same command again where there is more memory, or without worker processes: "
    "-np 0, and --workers 0 for training"
)
_NOT_STARTED = (
    "its worker process ended with exit code {code}; its own message is above. A script of your "
    'own has to do its work under `if __name__ == "__main__":`. Without worker processes: -np 0, '
    "and --workers 0 for training"
)
_NO_WORKERS = (
    f"worker processes were killed {MAX_FRUITLESS_POOLS} times before any finished a case: they "
    "cannot start, or the memory is too small. Run the same command again with -np 0 "
    "(--workers 0 for training), which needs none"
)


def default_processes() -> int:
    """Return the default number of worker processes.

    Returns:
        One for each CPU core that this process may use, but at most 8, because each worker process
        holds a case in memory.
    """
    return min(8, usable_cores())


@dataclass
class Outcome:
    """The results and failures of a set of jobs.

    Attributes:
        results: Name of a job -> what it returned.
        failures: Name of a job -> why it failed, for the user.
    """

    results: dict[str, Any] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)

    def raise_if_failed(self, what: str) -> None:
        """Raise one error that names every failed job, if any has failed.

        Args:
            what: What the jobs did, such as `preprocessing`; the message begins with it.

        Raises:
            SamnetError: At least one job has failed.
        """
        if not self.failures:
            return
        lines = [f"  {name}: {reason}" for name, reason in sorted(self.failures.items())]
        total = len(self.results) + len(self.failures)
        summary = f"{what} failed for {len(self.failures)} of {total} cases; the others are done:"
        raise SamnetError("\n".join([summary, *lines]))


def run_jobs(
    function: Callable[..., Any], arguments: dict[str, tuple], processes: int, description: str
) -> Outcome:
    """Call a function once for every job.

    A job that raises an error does not stop the others. Where a worker process is killed, usually
    because the memory ran out, all jobs that are running at that moment are lost. Each of them is
    run again alone when the other jobs are done, so running a job twice must do no harm.

    Args:
        function: The function to call. It and its arguments must be picklable unless `processes`
            is 0.
        arguments: Name of a job -> the arguments of its call.
        processes: Number of worker processes; 0 to run all jobs in this process.
        description: Title of the progress bar.

    Returns:
        The results and the failures, by the name of the job.

    Raises:
        UserError: The script that calls this has no `if __name__ == "__main__":`, which worker
            processes need.
    """
    main_guard.end_unguarded_import()
    outcome = Outcome()
    if processes == 0:
        attempts = _run_here(function, arguments)
    else:
        attempts = _run_in_pool(function, arguments, processes)
    is_hidden = len(arguments) == 0
    with ProgressBar(total=len(arguments), desc=description, unit="case", disable=is_hidden) as bar:
        for name, attempt in attempts:
            if attempt.failure is None:
                outcome.results[name] = attempt.result
            else:
                outcome.failures[name] = attempt.failure
                log.debug("job %s failed\n%s", name, attempt.trace)
            bar.update()
    return outcome


@dataclass(frozen=True)
class _Attempt:
    """The result or the failure of one call.

    A failure is kept as text: an exception that cannot be pickled would break the whole pool.
    """

    result: Any = None
    failure: str | None = None
    trace: str = ""


def _attempt(function: Callable, values: tuple) -> _Attempt:
    try:
        return _Attempt(function(*values))
    except Exception as error:
        return _Attempt(failure=describe_error(error), trace=traceback.format_exc())


def describe_error(error: BaseException) -> str:
    """Return what the user is told about an error.

    Args:
        error: The error.

    Returns:
        The message alone for an error that samnet foresaw; otherwise the error's class and message.
    """
    return str(error) if isinstance(error, SamnetError) else f"{type(error).__name__}: {error}"


def _run_here(function: Callable, arguments: dict[str, tuple]) -> Iterator[tuple[str, _Attempt]]:
    for name, values in arguments.items():
        yield name, _attempt(function, values)


def _run_in_pool(
    function: Callable, arguments: dict[str, tuple], processes: int
) -> Iterator[tuple[str, _Attempt]]:
    waiting = deque(arguments)
    suspects: list[str] = []  # jobs that were running when a worker process was killed
    num_fruitless_pools = 0
    while waiting:
        pool = yield from _run_until_killed(function, arguments, waiting, processes)
        suspects += pool.lost
        num_fruitless_pools = 0 if pool.num_ended else num_fruitless_pools + 1
        if num_fruitless_pools == MAX_FRUITLESS_POOLS:
            for name in (*suspects, *waiting):
                yield name, _Attempt(failure=pool.reason(_NO_WORKERS))
            return
    for name in suspects:
        pool = yield from _run_until_killed(function, arguments, deque([name]), 1)
        if pool.lost:
            yield name, _Attempt(failure=pool.reason(_KILLED))


@dataclass(frozen=True)
class _EndedPool:
    """A pool of which all jobs are done, or a worker process died.

    `num_ended` tells how many jobs ended, `lost` names those that were running at the death, and
    `exit_code` is that of a worker process that ended by itself, 0 where none did.
    """

    num_ended: int
    lost: list[str]
    exit_code: int

    def reason(self, otherwise: str) -> str:
        """Return why jobs are lost: `otherwise` where worker processes were killed."""
        return _NOT_STARTED.format(code=self.exit_code) if self.exit_code else otherwise


def _run_until_killed(
    function: Callable, arguments: dict[str, tuple], waiting: deque[str], processes: int
) -> Generator[tuple[str, _Attempt], None, _EndedPool]:
    """Run the jobs of `waiting` in one pool, until none is left or a worker process is killed."""
    num_ended = 0
    lost: list[str] = []
    in_flight: dict[Future[_Attempt], str] = {}
    with worker_processes(processes) as workers:

        def submit(name: str) -> Future[_Attempt]:
            return workers.submit(_attempt, function, arguments[name])

        is_broken = not _submit_waiting(submit, waiting, in_flight, processes)
        while in_flight:
            for future in wait(in_flight, return_when=FIRST_COMPLETED).done:
                name = in_flight.pop(future)
                error = future.exception()
                if isinstance(error, BrokenProcessPool):
                    is_broken = True
                    lost.append(name)
                    continue
                num_ended += 1
                if error is None:
                    yield name, future.result()
                else:  # such as a result that cannot be pickled
                    yield name, _Attempt(failure=describe_error(error))
            if not is_broken:
                is_broken = not _submit_waiting(submit, waiting, in_flight, processes)
        if is_broken:
            workers.end()
    return _EndedPool(num_ended, lost, workers.own_exit_code())


def _submit_waiting(
    submit: Callable[[str], Future[_Attempt]],
    waiting: deque[str],
    in_flight: dict[Future[_Attempt], str],
    max_in_flight: int,
) -> bool:
    """Submit waiting jobs as far as there is room; return False where the pool is broken."""
    while waiting and len(in_flight) < max_in_flight:
        try:
            future = submit(waiting[0])
        except BrokenProcessPool:
            return False
        in_flight[future] = waiting.popleft()
    return True
