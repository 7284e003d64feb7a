"""Locks of other processes."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest

import samnet
from samnet.core import locks
from samnet.core.lock_owner import Owner

FOREIGN = Owner("node7", "node7 other-boot", 1234, "1", "work", "foreign")
FILE = ".work.samnet-lock"


def leave_lock(folder: Path, owner: Owner) -> Path:
    """Write the lock that an owner would have left; return its file."""
    file = folder / FILE
    file.write_text(json.dumps(asdict(owner)))
    return file


def killed_owner(folder: Path) -> Owner:
    """Leave the lock of a process that was killed while it held it; return the owner."""
    program = (
        "import os, sys\nfrom pathlib import Path\nfrom samnet.core.locks import lock_folder\n"
        "with lock_folder(Path(sys.argv[1]), 'work'):\n    os.kill(os.getpid(), 9)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(samnet.__file__).parents[1])}
    command = [sys.executable, "-c", program, folder]
    process = subprocess.run(command, env=environment, check=False)
    assert process.returncode == -9
    return Owner(**json.loads((folder / FILE).read_text()))


@contextlib.contextmanager
def renewed(file: Path) -> Iterator[None]:
    """Renew the date of a lock within the block, as a living owner on another machine does."""
    stop = threading.Event()

    def renew() -> None:
        while not stop.wait(0.05):
            with contextlib.suppress(FileNotFoundError):
                os.utime(file)

    thread = threading.Thread(target=renew)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def shorten_times(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten all waiting times of locks, so that tests are quick."""
    monkeypatch.setattr(locks, "BEAT_SECONDS", 0.05)
    # Only the tests that wait for it shorten it: on a busy machine a second may pass unrenewed.
    monkeypatch.setattr(locks, "STALE_SECONDS", 30.0)
    monkeypatch.setattr(locks, "POLL_SECONDS", 0.02)
