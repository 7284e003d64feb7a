"""Starts the processes that train together on the GPUs of this machine, and ends them together.

They are told their rank by environment variables, as `torchrun` does it.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence

from samnet.core.errors import SamnetError, UserError
from samnet.core.limits import usable_cores
from samnet.core.signals import STOP_SIGNALS, Interrupted, StopSignals

_LAUNCHER = "SAMNET_LAUNCHER"
_POLL_SECONDS = 0.2
_GRACE_SECONDS = 60.0


def launch(size: int, device: str, words: Sequence[str]) -> None:
    """Run a command of samnet in several processes that find each other.

    A signal to this process is passed on to all of them.

    Args:
        size: The number of processes.
        device: What they train on; with `cuda` there has to be a GPU for each.
        words: The command and its options, as after `samnet`.

    Raises:
        UserError: There are not enough GPUs, or all processes ended with an error of the user,
            which they have printed.
        SamnetError: A process failed; the others were ended.
        KeyboardInterrupt: Ctrl-C was pressed, and the processes have ended with their state saved.
        Interrupted: Another signal came, and the processes have ended with their state saved.
    """
    if device.startswith("cuda"):
        import torch

        if size > torch.cuda.device_count():
            raise UserError(f"--gpus {size}: this machine has {torch.cuda.device_count()}")
    signals = StopSignals()
    with signals.held():
        children = _start(size, words)
        try:
            codes = _wait(children, signals)
        finally:
            _end(children)
    if signals.number == signal.SIGINT:
        raise KeyboardInterrupt
    if signals.number is not None:
        raise Interrupted(signals.number, "the processes have saved what they report above")
    failed = [code for code in codes if code]
    if failed:
        kind = UserError if set(failed) == {UserError.exit_code} else SamnetError
        raise kind(f"{len(failed)} of {size} processes failed, for the reason above")


def _start(size: int, words: Sequence[str]) -> list[subprocess.Popen]:
    environment = dict(os.environ)
    environment.pop("SLURM_JOB_ID", None)  # only this process may tell SLURM to requeue the job
    environment |= {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(_free_port()),
        "WORLD_SIZE": str(size),
        "LOCAL_WORLD_SIZE": str(size),
        _LAUNCHER: str(os.getpid()),
    }
    environment.setdefault("OMP_NUM_THREADS", str(max(1, usable_cores() // size)))
    children = []
    for rank in range(size):
        child = subprocess.Popen(
            [sys.executable, "-m", "samnet", *words],
            env=environment | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            # In a process group of its own: Ctrl-C, or the end of the job's process group, reaches
            # it through this process, and once only.
            start_new_session=True,
        )
        children.append(child)
    return children


def end_with_launcher() -> None:
    """End this process when the one that started it by `launch` is killed.

    Otherwise it would continue to train without anybody knowing. In a process that `launch` has not
    started, nothing happens.
    """
    launcher = os.environ.get(_LAUNCHER)
    if launcher is None:
        return

    def watch() -> None:
        while str(os.getppid()) == launcher:
            time.sleep(_POLL_SECONDS)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _wait(children: Sequence[subprocess.Popen], signals: StopSignals) -> list[int | None]:
    """Wait until all processes have ended or one has failed.

    Returns their exit codes, None for those that are still at work.
    """
    forwarded = None
    while True:
        codes = [child.poll() for child in children]
        if any(codes) or None not in codes:
            return codes
        if signals.number is not None and forwarded is None:
            forwarded = signals.number
            for child in children:
                child.send_signal(forwarded)
        time.sleep(_POLL_SECONDS)


def _end(children: Sequence[subprocess.Popen]) -> None:
    """Send a stop signal to the processes at work, and kill those that do not end.

    They may be waiting for a process that has ended.
    """
    deadline = time.monotonic() + _GRACE_SECONDS
    for child in children:
        if child.poll() is None:
            child.send_signal(STOP_SIGNALS[0])
    for child in children:
        try:
            child.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]
