"""The jobs are expressions for `eval`: a worker process can import it, however pytest has imported this file."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import samnet
from samnet.core import worker_pool as jobs
from samnet.core.errors import DatasetFaults, SamnetError, UserError
from samnet.core.job_array import select_part
from samnet.core.worker_pool import Outcome, default_processes, run_jobs

KILL = "__import__('os').kill(__import__('os').getpid(), 9)"


def run(expressions: dict[str, str], processes: int) -> Outcome:
    return run_jobs(
        eval, {name: (text, {}) for name, text in expressions.items()}, processes, "test"
    )


@pytest.mark.parametrize("processes", [0, 2])
def test_failures_are_named_and_the_others_finish(processes: int) -> None:
    faults = "(_ for _ in ()).throw(__import__('samnet.core.errors').core.errors.DatasetFaults('Set', ['one', 'two']))"
    outcome = run(
        {"a": "6 * 7", "b": "1 / 0", "c": "int('x')", "d": faults, "e": "'done'"}, processes
    )
    assert outcome.results == {"a": 42, "e": "done"}
    assert outcome.failures == {
        "b": "ZeroDivisionError: division by zero",
        "c": "ValueError: invalid literal for int() with base 10: 'x'",
        "d": str(DatasetFaults("Set", ["one", "two"])),
    }


def test_a_killed_worker_fails_its_own_job_only() -> None:
    jobs = {
        f"job {number}": f"__import__('time').sleep(0.05) or {number}" for number in range(6)
    } | {"job 2": KILL}
    outcome = run(jobs, 2)
    assert list(outcome.failures) == ["job 2"]
    assert "killed" in outcome.failures["job 2"]
    assert "memory" in outcome.failures["job 2"]
    assert outcome.results == {f"job {number}": number for number in range(6) if number != 2}


def test_workers_that_never_finish_anything_are_given_up() -> None:
    outcome = run({f"job {number}": KILL for number in range(9)}, 2)
    assert len(outcome.failures) == 9
    assert all("killed" in reason for reason in outcome.failures.values())


def test_a_result_that_cannot_be_sent_is_a_failure_of_that_job() -> None:
    outcome = run({"a": "lambda: 1", "b": "2"}, 2)
    assert outcome.results == {"b": 2}
    assert "pickle" in outcome.failures["a"].lower()


def test_workers_end_with_a_killed_parent(tmp_path: Path) -> None:
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
    assert becomes_true(lambda: note.is_file() and note.read_text() != "")
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    assert becomes_true(lambda: not is_running(int(note.read_text())))


def becomes_true(condition: Callable[[], bool], seconds: float = 20.0) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.05)
    return False


def is_running(process_id: int) -> bool:
    try:
        return Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("processes", [0, 2])
def test_no_jobs_are_no_work(processes: int) -> None:
    assert run({}, processes) == Outcome()


def test_one_error_names_every_failed_job() -> None:
    outcome = Outcome(results={"a": 1}, failures={"c": "no memory", "b": "bad file"})
    with pytest.raises(SamnetError) as caught:
        outcome.raise_if_failed("prediction")
    message = str(caught.value)
    assert message.startswith("prediction failed for 2 of 3 cases")
    assert message.index("b: bad file") < message.index("c: no memory")
    Outcome(results={"a": 1}).raise_if_failed("prediction")


@pytest.mark.parametrize("num_parts", [1, 2, 3, 7, 12])
def test_parts_are_disjoint_and_together_everything(num_parts: int) -> None:
    items = list(range(10))
    parts = [select_part(items, num_parts, part_id) for part_id in range(num_parts)]
    assert sorted(item for part in parts for item in part) == items
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


@pytest.mark.parametrize(("num_parts", "part_id"), [(2, 2), (2, -1), (0, 0)])
def test_a_part_that_does_not_exist_is_refused(num_parts: int, part_id: int) -> None:
    with pytest.raises(UserError, match=f"--part-id {part_id} with --num-parts {num_parts}"):
        select_part([1, 2, 3], num_parts, part_id)


def test_there_is_a_process_for_every_core_but_at_most_eight() -> None:
    assert 1 <= default_processes() <= 8


@pytest.mark.parametrize(
    ("environment", "part"),
    [
        ({}, (0, None)),
        (
            {
                "SLURM_ARRAY_TASK_ID": "3",
                "SLURM_ARRAY_TASK_MIN": "0",
                "SLURM_ARRAY_TASK_COUNT": "8",
            },
            (3, 8),
        ),
        (
            {
                "SLURM_ARRAY_TASK_ID": "7",
                "SLURM_ARRAY_TASK_MIN": "1",
                "SLURM_ARRAY_TASK_STEP": "2",
                "SLURM_ARRAY_TASK_COUNT": "5",
            },
            (3, 5),
        ),
        ({"LSB_JOBINDEX": "8", "LSB_JOBINDEX_END": "8"}, (7, 8)),
        ({"LSB_JOBINDEX": "0"}, (0, None)),
        ({"JOB_COMPLETION_INDEX": "4"}, (4, None)),
    ],
)
def test_the_scheduler_tells_the_part(
    environment: dict[str, str], part: tuple[int, int | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in jobs._ARRAY_NAMES:
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert jobs.array_part() == part


def test_a_stop_does_not_wait_for_the_workers() -> None:
    def stop(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before, started = signal.signal(signal.SIGALRM, stop), time.monotonic()
    signal.alarm(3)
    try:
        with pytest.raises(KeyboardInterrupt):
            run({"a": "__import__('time').sleep(300)"}, 1)
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    assert time.monotonic() - started < 100
