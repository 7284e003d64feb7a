"""Starting the processes of a training on the GPUs of this machine, as `torchrun` does, and ending them together."""

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
from samnet.core.signals import STOP_SIGNALS, Interrupted, StopSignals

_LAUNCHER = "SAMNET_LAUNCHER"
_POLL_SECONDS = 0.2
_GRACE_SECONDS = 60.0


def launch(size: int, device: str, words: Sequence[str]) -> None:
    """Run `python -m samnet WORDS` in `size` processes that find each other; signals reach them all.

    Raises:
        UserError: there are not so many GPUs, or the processes ended with a user's error, which they have printed.
        SamnetError: one failed; the others were ended.
        Interrupted: a signal came, and they have ended with their state saved.
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
    shared = {
        # Only this process may ask SLURM to start the job again.
        **{name: value for name, value in os.environ.items() if name != "SLURM_JOB_ID"},
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(_free_port()),
        "WORLD_SIZE": str(size),
        "LOCAL_WORLD_SIZE": str(size),
        _LAUNCHER: str(os.getpid()),
    }
    shared.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // size)))
    # In sessions of their own: a Ctrl-C or the end of the job's process group reaches them through this process, once.
    return [
        subprocess.Popen(
            [sys.executable, "-m", "samnet", *words],
            env={**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            start_new_session=True,
        )
        for rank in range(size)
    ]


def end_with_launcher() -> None:
    """In a process that `launch` started: end when the starting one is killed, instead of training on unseen."""
    launcher = os.environ.get(_LAUNCHER)
    if launcher is None:
        return

    def watch() -> None:
        while str(os.getppid()) == launcher:
            time.sleep(_POLL_SECONDS)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _wait(children: Sequence[subprocess.Popen], signals: StopSignals) -> list[int | None]:
    """Their exit codes, once all have ended or one has failed; None for those still at work then."""
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
    """Ask those at work to end, and kill those that do not: they may be waiting for one that is gone."""
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
