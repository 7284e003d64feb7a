"""Worker processes: how they start and end, and how several steps use the same ones."""

from __future__ import annotations

import contextlib
import importlib
import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextvars import ContextVar
from multiprocessing.context import SpawnContext, SpawnProcess
from typing import Any

from samnet.core import main_guard
from samnet.core.errors import UserError


class WorkerProcesses:
    """Worker processes that are started as jobs come.

    Attributes:
        largest_number: How many there are at most.
        have_ended: Whether they have been ended.
    """

    def __init__(self, largest_number: int, modules: Sequence[str] = ()) -> None:
        """Start none yet.

        Args:
            largest_number: How many there are at most.
            modules: What each imports before its first job.
        """
        context = _WorkerContext()
        self.largest_number = largest_number
        self.have_ended = False
        self._processes = context.processes
        self._executor = ProcessPoolExecutor(largest_number, context, _begin, (tuple(modules),))

    def submit(self, function: Callable[..., Any], *values: Any) -> Future[Any]:
        """Have a worker process call a function.

        Args:
            function: The function. It and its arguments must be picklable.
            *values: Its arguments.

        Returns:
            The future result.

        Raises:
            BrokenProcessPool: A worker process was killed.
        """
        return self._executor.submit(function, *values)

    def start_all(self) -> None:
        """Start all worker processes now, and do not wait for them."""
        for _ in range(self.largest_number):
            self._executor.submit(int)  # a new one is started for each job while none is idle

    def end(self) -> None:
        """End the worker processes when they have done their jobs, and wait for that."""
        self._executor.shutdown()
        self.have_ended = True

    def terminate(self) -> None:
        """End the worker processes now. Otherwise running jobs would end first, after minutes."""
        for process in self._processes:
            if process.is_alive():  # one that the stop kept from starting cannot be terminated
                process.terminate()
        self.end()

    def own_exit_code(self) -> int:
        """Return the exit code of a worker process that ended by itself, 0 where none did.

        Raises:
            UserError: The exit code tells that the user's script has no guard.
        """
        codes = [0, *(process.exitcode or 0 for process in self._processes)]
        if main_guard.EXIT_CODE in codes:
            raise UserError(main_guard.missing_guard())
        return max(codes)  # killed processes have negative ones


class _WorkerContext(SpawnContext):
    """Starts the worker processes of one pool, and knows which they are.

    The program that calls samnet may have child processes of its own. With `spawn` a worker process
    inherits nothing from its parent (no torch, no locks), and it starts in the same way on every
    operating system.
    """

    def __init__(self) -> None:
        super().__init__()
        self.processes: list[SpawnProcess] = []

    # By this name the pool makes its processes; in `SpawnContext` it is their class.
    def Process(self, *args: Any, **kwargs: Any) -> SpawnProcess:  # type: ignore[override]  # noqa: N802
        """Make a worker process, and note it."""
        process = SpawnProcess(*args, **kwargs)
        self.processes.append(process)
        return process


def _begin(modules: Sequence[str]) -> None:
    """Begin a worker process. A module that is missing is reported by the job that needs it."""
    _end_with_parent()
    for name in modules:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)


def _end_with_parent() -> None:
    """End this worker process when its parent is killed.

    Otherwise it would wait for its next job forever and hold its memory.
    """

    def watch() -> None:
        parent = multiprocessing.parent_process()
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


class _Kept:
    """The worker processes that are kept from one step to the next."""

    def __init__(self, workers: WorkerProcesses | None) -> None:
        self._workers = workers

    def at_most(self, largest_number: int) -> WorkerProcesses:
        """Return those that are kept, or new ones where they have ended or were to be others."""
        workers = self._workers
        if workers is None or workers.have_ended or workers.largest_number != largest_number:
            self.end()
            self._workers = workers = WorkerProcesses(largest_number)
        return workers

    def end(self) -> None:
        """End those that are kept, if any."""
        if self._workers is not None and not self._workers.have_ended:
            self._workers.end()

    def terminate(self) -> None:
        """End those that are kept, if any, without waiting for what they do."""
        if self._workers is not None and not self._workers.have_ended:
            self._workers.terminate()


_kept: ContextVar[_Kept | None] = ContextVar("_kept", default=None)


@contextlib.contextmanager
def kept_worker_processes(largest_number: int = 0, modules: Sequence[str] = ()) -> Iterator[None]:
    """Keep the worker processes of one step for the next ones, within a block.

    A worker process takes half a second or more to import NumPy, SciPy and nibabel. A command of
    several steps has to wait for that once, and does its own imports at the same time. Worker
    processes end with the block, and before that with an error or a stop, or when one of them is
    killed.

    Args:
        largest_number: How many to start at once; 0 to start them when a step needs them.
        modules: What each that is started at once imports before its first job.
    """
    workers = None
    if largest_number:
        workers = WorkerProcesses(largest_number, modules)
        workers.start_all()
    kept = _Kept(workers)
    token = _kept.set(kept)
    try:
        yield
    except BaseException:
        kept.terminate()
        raise
    finally:
        _kept.reset(token)
        kept.end()


@contextlib.contextmanager
def worker_processes(largest_number: int) -> Iterator[WorkerProcesses]:
    """Yield worker processes for one step, and end them after it unless they are kept.

    They are terminated where the block is left by an error or a signal, or by a caller who stops
    reading results.

    Args:
        largest_number: How many there are at most.

    Yields:
        The worker processes.
    """
    kept = _kept.get()
    workers = WorkerProcesses(largest_number) if kept is None else kept.at_most(largest_number)
    try:
        yield workers
    except BaseException:
        workers.terminate()
        raise
    if kept is None:
        workers.end()
