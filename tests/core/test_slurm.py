"""SLURM's `scontrol` is a script here that notes what it is asked; the real one is used in `tests/slurm/`."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from samnet.core.slurm import requeue_job


@pytest.fixture
def scontrol(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Put a `scontrol` on the path; returns the file of what it was asked."""

    def install(state: str = "RUNNING", requeue_exit: int = 0) -> Path:
        program, asked = tmp_path / "bin" / "scontrol", tmp_path / "asked"
        program.parent.mkdir()
        program.write_text(
            f'#!/bin/sh\necho "$@" >> {asked}\n'
            f'if [ "$1" = show ]; then echo "JobId=7 JobState={state} Reason=None"; exit 0; fi\n'
            f"echo 'Job is not a batch job' >&2; exit {requeue_exit}\n"
        )
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
        monkeypatch.setenv("SLURM_JOB_ID", "7")
        monkeypatch.delenv("RANK", raising=False)
        return asked

    return install


@pytest.mark.parametrize(
    ("number", "state", "asked_for"),
    [
        (signal.SIGUSR1, "RUNNING", ["requeue 7"]),
        (signal.SIGTERM, "RUNNING", ["show job 7", "requeue 7"]),
        (signal.SIGTERM, "PREEMPTED", ["show job 7", "requeue 7"]),
        (signal.SIGTERM, "TIMEOUT", ["show job 7", "requeue 7"]),
        (signal.SIGTERM, "CANCELLED", ["show job 7"]),
    ],
)
def test_a_stopped_job_goes_back_into_the_queue_unless_it_was_cancelled(
    scontrol: Callable[..., Path], number: signal.Signals, state: str, asked_for: list[str]
) -> None:
    asked = scontrol(state)
    assert requeue_job(number) is ("requeue 7" in asked_for)
    assert asked.read_text().splitlines() == asked_for


def test_of_several_processes_the_first_asks(
    scontrol: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = scontrol()
    monkeypatch.setenv("RANK", "1")
    assert not requeue_job(signal.SIGUSR1)
    monkeypatch.setenv("RANK", "0")
    assert requeue_job(signal.SIGUSR1)
    assert asked.read_text() == "requeue 7\n"


def test_outside_slurm_nothing_is_asked(
    scontrol: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = scontrol()
    monkeypatch.delenv("SLURM_JOB_ID")
    assert not requeue_job(signal.SIGUSR1)
    assert not asked.exists()


def test_what_slurm_refuses_is_told(
    scontrol: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    scontrol(requeue_exit=1)
    assert not requeue_job(signal.SIGUSR1)
    assert "does not put job 7 back into its queue: Job is not a batch job" in caplog.text
    monkeypatch.setenv("PATH", "")
    assert not requeue_job(signal.SIGUSR1)
