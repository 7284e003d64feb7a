"""Worker processes that several steps of a command use.

The jobs are expressions for `eval`, as in `test_worker_pool.py`.
"""

from __future__ import annotations

import multiprocessing
import signal
import threading
import time
from pathlib import Path

import pytest

from samnet.core.errors import UserError
from samnet.core.worker_pool import Outcome, run_jobs
from samnet.core.worker_processes import kept_worker_processes

WHO = "__import__('os').getpid()"
KILL = f"__import__('os').kill({WHO}, 9)"


def run(expressions: list[str], processes: int = 1) -> Outcome:
    arguments = {f"job {number}": (text, {}) for number, text in enumerate(expressions)}
    return run_jobs(eval, arguments, processes, "test")


def worker(processes: int = 1) -> int:
    return run([WHO], processes).results["job 0"]


def test_steps_within_a_block_use_the_same_worker_processes() -> None:
    with kept_worker_processes():
        first, second = worker(), worker()
        assert [child.pid for child in multiprocessing.active_children()] == [first]
    assert first == second
    assert multiprocessing.active_children() == []
    assert worker() != first
    assert multiprocessing.active_children() == []


def test_steps_of_other_numbers_of_processes_use_others() -> None:
    with kept_worker_processes():
        assert worker(1) != worker(2)
        assert len(multiprocessing.active_children()) == 1


def test_worker_processes_are_started_at_once_with_their_imports() -> None:
    with kept_worker_processes(2, ["colorsys"]):
        assert len(multiprocessing.active_children()) == 2
        imported = run(["'colorsys' in __import__('sys').modules"] * 6, 2)
        assert set(imported.results.values()) == {True}
        assert len(multiprocessing.active_children()) == 2


def test_missing_module_of_worker_processes_is_left_to_the_job_that_needs_it() -> None:
    with kept_worker_processes(1, ["no_such_module"]):
        assert run(["6 * 7"]).results == {"job 0": 42}


def fail_while_a_worker_process_imports(module: str) -> None:
    with kept_worker_processes(1, [module]):
        raise UserError("no such data set")


def test_error_does_not_wait_for_worker_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "imported_slowly.py").write_text("import time\ntime.sleep(60)\n")
    monkeypatch.syspath_prepend(tmp_path)
    started = time.monotonic()
    with pytest.raises(UserError):
        fail_while_a_worker_process_imports("imported_slowly")
    assert multiprocessing.active_children() == []
    assert time.monotonic() - started < 40


def test_no_more_worker_processes_are_started_than_there_are_jobs() -> None:
    with kept_worker_processes():
        run([WHO], 6)
        assert len(multiprocessing.active_children()) == 1


def test_step_after_a_killed_worker_process_uses_new_ones() -> None:
    with kept_worker_processes():
        first = worker()
        outcome = run([KILL, "1"])
        assert list(outcome.failures) == ["job 0"]
        assert outcome.results == {"job 1": 1}
        assert worker() != first
    assert multiprocessing.active_children() == []


def test_step_uses_new_worker_processes_where_one_was_killed_between_the_steps() -> None:
    with kept_worker_processes():
        first = worker()
        [child] = multiprocessing.active_children()
        child.kill()
        child.join()
        assert worker() != first
    assert multiprocessing.active_children() == []


def run_until_a_stop() -> None:
    main = threading.main_thread().ident
    assert main is not None
    # A program in the background may ignore the signal, and the tests with it.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with kept_worker_processes():
            worker()
            threading.Timer(0.5, signal.pthread_kill, (main, signal.SIGINT)).start()
            run(["__import__('time').sleep(300)"])
    finally:
        signal.signal(signal.SIGINT, before)


def test_stop_ends_kept_worker_processes_at_once() -> None:
    with pytest.raises(KeyboardInterrupt):
        run_until_a_stop()
    assert multiprocessing.active_children() == []
