"""The process that holds a lock, as the lock's file describes it."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import uuid
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Owner:
    """The process that holds a lock.

    Attributes:
        host: Name of its machine.
        machine: Host name, boot identifier and name space of process numbers. `process` is only
            meaningful within the same `machine`.
        process: Number of the process.
        started: Start of the process in clock ticks since boot, because process numbers are used
            again; empty where the operating system does not tell it.
        task: What the process does in the folder.
        token: Random text that differs between any two locks; empty where the lock could not be
            read.
    """

    host: str
    machine: str
    process: int
    started: str
    task: str
    token: str

    def __str__(self) -> str:
        return f"process {self.process} on {self.host} ({self.task})"

    def is_dead(self) -> bool | None:
        """Return whether the process has ended.

        Returns:
            None where it cannot be told: for a process of another machine, and where the operating
            system does not tell when the process with this number has started.
        """
        if self.machine != _this_machine():
            return None
        try:
            os.kill(self.process, 0)
        except ProcessLookupError:
            return True
        except PermissionError:
            pass  # another user's process has the number: the owner, or one that got it later
        state, started = _process_status(self.process)
        if not started:
            return None
        return state == "Z" or started != self.started


def read_owner(file: Path) -> Owner | None:
    """Read which process a lock names.

    Args:
        file: The lock.

    Returns:
        The owner, without a token where the lock cannot be read; None where there is no lock.
    """
    try:
        return Owner(**json.loads(file.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError):
        # Without hard links a lock exists for a moment before its content is written.
        return Owner("an unknown machine", "", 0, "", "unknown", "")


def this_process(task: str) -> Owner:
    """Describe this process as the owner of a new lock.

    Args:
        task: What it does in the folder.

    Returns:
        The owner, with a new token.
    """
    process = os.getpid()
    _, started = _process_status(process)
    return Owner(
        host=socket.gethostname(),
        machine=_this_machine(),
        process=process,
        started=started,
        task=task,
        token=uuid.uuid4().hex,
    )


def _this_machine() -> str:
    parts = [socket.gethostname()]
    with contextlib.suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
    with contextlib.suppress(OSError):
        parts.append(os.readlink("/proc/self/ns/pid"))
    return " ".join(parts)


def _process_status(process: int) -> tuple[str, str]:
    """Return the state and the start of a process as Linux reports them; empty texts elsewhere."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return "", ""
    return fields[0], fields[19]
