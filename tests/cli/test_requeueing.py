"""A stopped command within a SLURM job: what it requests by `scontrol`, and what it prints."""

from __future__ import annotations

import argparse
import errno
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from builders.programs import install_program

from samnet.cli.command import STOPPED, Command
from samnet.core.signals import Interrupted


@pytest.fixture
def scontrol(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """A function that begins job 7 in some state; it returns the file of requests."""

    def begin_job(state: str) -> Path:
        monkeypatch.setenv("SLURM_JOB_ID", "7")
        return install_program(tmp_path, monkeypatch, "scontrol", f"echo JobId=7 JobState={state}")

    return begin_job


def stop_by(number: int) -> int:
    """Run a command that gets a signal; return its exit code."""

    def run(options: argparse.Namespace) -> None:
        os.kill(os.getpid(), number)

    return Command("samnet_try", "Tries.", lambda parser: None, run).main([])


@pytest.mark.parametrize(
    ("number", "state", "requests", "printed"),
    [
        (signal.SIGUSR1, "RUNNING", ["requeue 7"], "SLURM starts it again"),
        (signal.SIGTERM, "RUNNING", ["show job 7", "requeue 7"], "SLURM starts it again"),
        (signal.SIGTERM, "CANCELLED", ["show job 7"], "the same command resumes it"),
    ],
)
def test_stopped_command_is_put_back_into_the_queue_unless_it_was_cancelled(
    scontrol: Callable[[str], Path],
    number: int,
    state: str,
    requests: list[str],
    printed: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    noted = scontrol(state)
    assert stop_by(number) == STOPPED
    assert noted.read_text().splitlines() == requests
    assert f"; {printed}" in capsys.readouterr().err


def test_command_that_succeeds_or_fails_is_not_put_back(scontrol: Callable[[str], Path]) -> None:
    noted = scontrol("RUNNING")

    def fail(options: argparse.Namespace) -> None:
        raise KeyboardInterrupt

    assert Command("samnet_try", "Tries.", lambda parser: None, lambda options: None).main([]) == 0
    assert Command("samnet_try", "Tries.", lambda parser: None, fail).main([]) == 130
    assert not noted.exists()


def test_stopped_command_outside_of_slurm_requests_nothing(
    scontrol: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    noted = scontrol("RUNNING")
    monkeypatch.delenv("SLURM_JOB_ID")
    assert stop_by(signal.SIGTERM) == STOPPED
    assert not noted.exists()


def test_signal_that_ends_a_job_put_back_into_the_queue_does_not_disturb_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The training holds signals back and raises the error itself, when its state is saved."""
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    install_program(tmp_path, monkeypatch, "scontrol", "kill -TERM $PPID; sleep 0.1")

    def run(options: argparse.Namespace) -> None:
        raise Interrupted(signal.SIGUSR1, "state saved")

    assert Command("samnet_try", "Tries.", lambda parser: None, run).main([]) == STOPPED
    assert "state saved; SLURM starts it again" in capsys.readouterr().err


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EDQUOT, errno.EPERM])
def test_failure_of_the_disk_is_one_line(number: int, capsys: pytest.CaptureFixture[str]) -> None:
    def run(options: argparse.Namespace) -> None:
        raise OSError(number, os.strerror(number), "/disk/a")

    assert Command("samnet_try", "Tries.", lambda parser: None, run).main([]) == 1
    expected = f"samnet_try: error: /disk/a: {os.strerror(number)}\n"
    assert capsys.readouterr().err == expected
