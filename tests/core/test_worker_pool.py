"""Jobs in worker processes: failures, killed processes and stops.

The jobs are expressions for `eval`, because a worker process can import `eval` however pytest
imported this file.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
from builders.waiting import becomes_true

import samnet
from samnet.core.errors import DatasetFaults, SamnetError
from samnet.core.worker_pool import Outcome, default_processes, run_jobs

KILL = "__import__('os').kill(__import__('os').getpid(), 9)"
RAISE_FAULTS = (
    "(_ for _ in ()).throw("
    "__import__('samnet.core.errors').core.errors.DatasetFaults('Set', ['one', 'two']))"
)


def run(expressions: dict[str, str], processes: int) -> Outcome:
    arguments = {name: (text, {}) for name, text in expressions.items()}
    return run_jobs(eval, arguments, processes, "test")


@pytest.mark.parametrize("processes", [0, 2])
def test_run_jobs_names_failed_jobs_and_finishes_the_others(processes: int) -> None:
    jobs = {"a": "6 * 7", "b": "1 / 0", "c": "int('x')", "d": RAISE_FAULTS, "e": "'done'"}
    outcome = run(jobs, processes)
    assert outcome.results == {"a": 42, "e": "done"}
    assert outcome.failures == {
        "b": "ZeroDivisionError: division by zero",
        "c": "ValueError: invalid literal for int() with base 10: 'x'",
        "d": str(DatasetFaults("Set", ["one", "two"])),
    }


def test_killed_worker_process_fails_only_its_own_job() -> None:
    jobs = {f"job {number}": f"__import__('time').sleep(0.05) or {number}" for number in range(6)}
    jobs["job 2"] = KILL
    outcome = run(jobs, 2)
    assert list(outcome.failures) == ["job 2"]
    assert "killed" in outcome.failures["job 2"]
    assert "memory" in outcome.failures["job 2"]
    assert outcome.results == {f"job {number}": number for number in range(6) if number != 2}


def test_run_jobs_gives_up_when_no_worker_process_ever_finishes_a_job() -> None:
    outcome = run({f"job {number}": KILL for number in range(9)}, 2)
    assert len(outcome.failures) == 9
    assert all("killed" in reason for reason in outcome.failures.values())


def test_result_that_cannot_be_pickled_fails_only_its_own_job() -> None:
    outcome = run({"a": "lambda: 1", "b": "2"}, 2)
    assert outcome.results == {"b": 2}
    assert "pickle" in outcome.failures["a"].lower()


def test_worker_processes_end_when_their_parent_is_killed(tmp_path: Path) -> None:
    note = tmp_path / "worker"
    program = (
        "import sys\nfrom samnet.core.worker_pool import run_jobs\n"
        "if __name__ == '__main__':\n"
        "    text = f\"open({sys.argv[1]!r}, 'w').write(str(__import__('os').getpid())) "
        "and __import__('time').sleep(60)\"\n"
        "    run_jobs(eval, {'a': (text, {})}, 1, 'test')\n"
    )
    script = tmp_path / "program.py"
    script.write_text(program)
    environment = {**os.environ, "PYTHONPATH": str(Path(samnet.__file__).parents[1])}
    parent = subprocess.Popen(
        [sys.executable, script, note], env=environment, stderr=subprocess.DEVNULL
    )
    assert becomes_true(lambda: note.is_file() and note.read_text() != "", seconds=20)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    assert becomes_true(lambda: not is_running(int(note.read_text())), seconds=20)


def is_running(process_id: int) -> bool:
    try:
        return Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("processes", [0, 2])
def test_run_jobs_without_jobs_returns_an_empty_outcome(processes: int) -> None:
    assert run({}, processes) == Outcome()


def test_raise_if_failed_names_every_failed_job() -> None:
    outcome = Outcome(results={"a": 1}, failures={"c": "no memory", "b": "bad file"})
    with pytest.raises(SamnetError) as caught:
        outcome.raise_if_failed("prediction")
    message = str(caught.value)
    assert message.startswith("prediction failed for 2 of 3 cases")
    assert message.index("b: bad file") < message.index("c: no memory")
    Outcome(results={"a": 1}).raise_if_failed("prediction")


def test_default_processes_are_at_most_eight() -> None:
    assert 1 <= default_processes() <= 8


def test_run_jobs_ends_its_worker_processes_after_a_stop_and_no_others() -> None:
    def stop(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, stop)
    started = time.monotonic()
    signal.alarm(3)
    try:
        with child_of_the_caller("import time; time.sleep(300)") as child:
            with pytest.raises(KeyboardInterrupt):
                run({"a": "__import__('time').sleep(300)"}, 1)
            assert child.is_alive()
            assert multiprocessing.active_children() == [child]
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    assert time.monotonic() - started < 100


def test_run_jobs_takes_no_exit_code_of_a_process_that_is_not_its_own(tmp_path: Path) -> None:
    """A child of the caller ends by itself when the job runs again, alone."""
    runs = str(tmp_path / "runs")
    job = f"open({runs!r}, 'a').write('x') and __import__('time').sleep(0.5) or {KILL}"
    program = (
        "import os, time\n"
        f"while not os.path.exists({runs!r}) or os.path.getsize({runs!r}) < 2: time.sleep(0.02)\n"
        "os._exit(3)"
    )
    with child_of_the_caller(program) as child:
        [reason] = run({"a": job}, 1).failures.values()
        assert child.exitcode == 3
    assert "was killed" in reason


@contextlib.contextmanager
def child_of_the_caller(program: str) -> Iterator[BaseProcess]:
    """A child process that a script has in addition to samnet's worker processes."""
    child = multiprocessing.get_context("spawn").Process(target=exec, args=(program,))
    child.start()
    try:
        yield child
    finally:
        child.kill()
        child.join()


UNGUARDED = """
from samnet.core.worker_pool import run_jobs
{before}
try:
    print(run_jobs(abs, {{"a": (-1,), "b": (-2,)}}, 2, "test"))
except Exception as error:
    print(f"{{type(error).__name__}}: {{error}}")
"""


def run_script(folder: Path, text: str) -> str:
    """Run a script of a user; return what it prints."""
    script = folder / "script.py"
    script.write_text(text)
    process = subprocess.run(
        [sys.executable, str(script)],
        env={**os.environ, "PYTHONPATH": str(Path(samnet.__file__).parents[1])},
        capture_output=True,
        encoding="utf-8",
        errors="replace",  # bars hold letters that ASCII lacks
        check=True,
        timeout=120,
    )
    return process.stdout


@pytest.mark.parametrize("before", ["", "LOCK"])
def test_script_without_guard_is_told_so(before: str, tmp_path: Path) -> None:
    """Also where the worker process would wait for a lock that the script holds."""
    if before:
        before = (
            "import pathlib\nfrom samnet.core.locks import lock_folder\n"
            f"lock = lock_folder(pathlib.Path({str(tmp_path)!r}), 'test')\nlock.__enter__()"
        )
    printed = run_script(tmp_path, UNGUARDED.format(before=before))
    assert f"UserError: {tmp_path / 'script.py'}: does its work while it is imported" in printed
    assert 'if __name__ == "__main__":' in printed
    assert "memory" not in printed


def test_worker_processes_that_end_by_themselves_were_not_killed(tmp_path: Path) -> None:
    before = "import pathlib\npathlib.Path(__file__).with_name('new').mkdir()"
    printed = run_script(tmp_path, UNGUARDED.format(before=before))
    assert "ended with exit code 1;" in printed
    assert "__main__" in printed
    assert "memory" not in printed
