"""Requeueing of SLURM jobs.

Here `scontrol` is a script that notes its arguments; `tests/slurm/` uses the real one.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from samnet.core.slurm import requeue_job


@pytest.fixture
def scontrol(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Return a function that installs a `scontrol` and returns the file of its requests."""

    def install(state: str = "RUNNING", requeue_exit: int = 0) -> Path:
        program = tmp_path / "bin" / "scontrol"
        requests = tmp_path / "requests"
        program.parent.mkdir()
        program.write_text(
            f'#!/bin/sh\necho "$@" >> {requests}\n'
            f'if [ "$1" = show ]; then echo "JobId=7 JobState={state} Reason=None"; exit 0; fi\n'
            f"echo 'Job is not a batch job' >&2; exit {requeue_exit}\n"
        )
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
        monkeypatch.setenv("SLURM_JOB_ID", "7")
        monkeypatch.delenv("RANK", raising=False)
        return requests

    return install


@pytest.mark.parametrize(
    ("number", "state", "expected"),
    [
        (signal.SIGUSR1, "RUNNING", ["requeue 7"]),
        (signal.SIGTERM, "RUNNING", ["show job 7", "requeue 7"]),
        (signal.SIGTERM, "PREEMPTED", ["show job 7", "requeue 7"]),
        (signal.SIGTERM, "TIMEOUT", ["show job 7", "requeue 7"]),
        (signal.SIGTERM, "CANCELLED", ["show job 7"]),
    ],
)
def test_requeue_job_puts_back_a_stopped_job_unless_it_was_cancelled(
    scontrol: Callable[..., Path], number: signal.Signals, state: str, expected: list[str]
) -> None:
    requests = scontrol(state)
    assert requeue_job(number) is ("requeue 7" in expected)
    assert requests.read_text().splitlines() == expected


def test_requeue_job_sends_a_request_from_the_master_process_only(
    scontrol: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    requests = scontrol()
    monkeypatch.setenv("RANK", "1")
    assert not requeue_job(signal.SIGUSR1)
    monkeypatch.setenv("RANK", "0")
    assert requeue_job(signal.SIGUSR1)
    assert requests.read_text() == "requeue 7\n"


def test_requeue_job_sends_no_request_outside_of_slurm(
    scontrol: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    requests = scontrol()
    monkeypatch.delenv("SLURM_JOB_ID")
    assert not requeue_job(signal.SIGUSR1)
    assert not requests.exists()


def test_requeue_job_reports_why_slurm_refuses(
    scontrol: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    scontrol(requeue_exit=1)
    assert not requeue_job(signal.SIGUSR1)
    assert "does not put job 7 back into its queue: Job is not a batch job" in caplog.text
    monkeypatch.setenv("PATH", "")
    assert not requeue_job(signal.SIGUSR1)
