"""Who is at work in a folder, on file systems that many machines share.

A lock is a small file that names its owner (machine, process) and whose date the owner renews all the time. It outlives
a dead owner, so whoever finds one asks: is the process gone, where it was on this machine; or has the date stood still
for a while, by one's own clock, where it was on another. Dates are only compared with each other: clocks of machines
that differ, or jump, do no harm. What a lock protects must be right without it too: it saves doing the same work twice.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from samnet.core.errors import SamnetError
from samnet.core.files import TEMPORARY_PREFIX, remove_partial_file

log = logging.getLogger(__name__)
BEAT_SECONDS = 10.0
# NFS shows others a date up to a minute late.
STALE_SECONDS = 120.0
_POLL_SECONDS = 0.5
_SUFFIX = ".samnet-lock"
_UNBORN = ".new-lock-"


class FolderBusy(SamnetError):
    """Another living process is at work on the same thing."""


@dataclass(frozen=True)
class Owner:
    """A process.

    machine: host, boot and name space of process numbers, in which `process` means something. started: its start in
    ticks since boot, as numbers are used again; empty where the system does not tell. token: of one lock.
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
        """Whether the process is gone; None where it cannot be told from here."""
        if self.machine != _this_machine():
            return None
        try:
            os.kill(self.process, 0)
        except ProcessLookupError:
            return True
        except OSError:  # another user's
            return False
        state, started = _process_status(self.process)
        return state == "Z" or started != self.started


@contextlib.contextmanager
def lock_folder(folder: Path, task: str, *, waits: bool = True) -> Iterator[None]:
    """Be the only one that does `task` in a folder; what killed processes left half-written there is removed first.

    task: a few words that also name the lock's file: other tasks in the folder go on beside this one.
    waits: for another owner to finish; else an owner that is seen alive is an error.

    Raises:
        FolderBusy: another process does this, and is alive.
        OSError: the folder cannot be written to.
    """
    folder.mkdir(parents=True, exist_ok=True)
    file = _lock_file(folder, task)
    owner = Owner(
        socket.gethostname(),
        _this_machine(),
        os.getpid(),
        _process_status(os.getpid())[1],
        task,
        uuid.uuid4().hex,
    )
    _acquire(file, owner, waits)
    stop = threading.Event()
    beat = threading.Thread(target=_keep_alive, args=(file, stop), daemon=True)
    beat.start()
    try:
        _remove_leftovers(folder, file)
        yield
    finally:
        stop.set()
        beat.join()
        found = _read(file)
        if found is not None and found.token == owner.token:
            file.unlink(missing_ok=True)


def find_owner(folder: Path, task: str) -> Owner | None:
    """Who does `task` in a folder, as far as can be told at once; None where nobody does."""
    file = _lock_file(folder, task)
    owner = _read(file)
    if owner is None or owner.is_dead() or time.time() - (_date(file) or 0) / 1e9 > STALE_SECONDS:
        return None
    return owner


def _lock_file(folder: Path, task: str) -> Path:
    return folder / f".{task.replace(' ', '-')}{_SUFFIX}"


def _acquire(file: Path, owner: Owner, waits: bool) -> None:
    announced = False
    watched: tuple[str, int] | None = None
    since = time.monotonic()
    while not _create(file, owner):
        found, date = _read(file), _date(file)
        if found is None or date is None:
            continue  # gone in this moment
        state = (found.token, date)
        if state != watched:
            if watched is not None and watched[0] == found.token and not waits:
                raise FolderBusy(f"{file.parent}: {found} is at work there; wait for it, or end it")
            watched, since = state, time.monotonic()
        is_dead = found.is_dead()
        if is_dead is False and not waits:
            raise FolderBusy(f"{file.parent}: {found} is at work there; wait for it, or end it")
        if is_dead or (is_dead is None and time.monotonic() - since > STALE_SECONDS):
            log.warning("%s: taking over from %s, which is gone", file.parent, found)
            _take_away(file, found)
            continue
        if not announced:
            log.info("%s: waiting for %s", file.parent, found)
            announced = True
        time.sleep(_POLL_SECONDS)


def _create(file: Path, owner: Owner) -> bool:
    """Make the lock's file with its content in one step; False where there is one."""
    content = json.dumps(asdict(owner))
    temporary = file.with_name(f"{_UNBORN}{owner.token[:8]}{file.name}")
    while True:
        temporary.write_text(content, encoding="utf-8")
        try:
            os.link(temporary, file)
        except FileExistsError:
            return False
        except FileNotFoundError:  # taken for a leftover before it was written
            continue
        except OSError:  # no second names on this file system
            return _create_without_link(file, content)
        finally:
            temporary.unlink(missing_ok=True)
        return True


def _create_without_link(file: Path, content: str) -> bool:
    try:
        with file.open("x", encoding="utf-8") as handle:
            handle.write(content)
    except FileExistsError:
        return False
    return True


def _take_away(file: Path, dead: Owner) -> None:
    """Remove a dead owner's lock; if another process was quicker, and has made its own, put that back."""
    aside = file.with_name(f"{TEMPORARY_PREFIX}{uuid.uuid4().hex[:8]}-{file.name}")
    with contextlib.suppress(FileNotFoundError):
        os.rename(file, aside)
        found = _read(aside)
        if found is not None and found.token != dead.token:
            with contextlib.suppress(FileExistsError):
                os.link(aside, file)
        aside.unlink(missing_ok=True)


def _keep_alive(file: Path, stop: threading.Event) -> None:
    while not stop.wait(BEAT_SECONDS):
        with contextlib.suppress(OSError):  # a server that does not answer now may do so next time
            os.utime(file)


def _remove_leftovers(folder: Path, own: Path) -> None:
    """Delete half-written files that nobody alive can be writing.

    They are listed before the locks are looked at: a file's writer had its lock before the file.
    """
    leftovers = [entry for entry in folder.iterdir() if entry.name.startswith(TEMPORARY_PREFIX)]
    unborn = list(folder.glob(f"{_UNBORN}*{_SUFFIX}"))
    locks = [
        entry for entry in folder.glob(f".*{_SUFFIX}") if entry not in (own, *leftovers, *unborn)
    ]
    owners = [_read(lock) for lock in locks]
    if all(owner is None or owner.is_dead() for owner in owners):
        for entry in leftovers:
            remove_partial_file(entry)
    for entry in (
        unborn
    ):  # where nobody is named, it is cut short; one that is just being written is made again
        owner = _read(entry)
        if owner is not None and (owner.token == "" or owner.is_dead()):
            entry.unlink(missing_ok=True)


def _read(file: Path) -> Owner | None:
    try:
        return Owner(**json.loads(file.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (
        OSError,
        ValueError,
        TypeError,
    ):  # made on a file system without links, and not yet written
        return Owner("an unknown machine", "", 0, "", "unknown", "")


def _date(file: Path) -> int | None:
    """As the server has it: opening a file makes NFS ask."""
    try:
        with file.open("rb") as handle:
            return os.fstat(handle.fileno()).st_mtime_ns
    except FileNotFoundError:
        return None


def _this_machine() -> str:
    parts = [socket.gethostname()]
    for path in ("/proc/sys/kernel/random/boot_id", "/proc/self/ns/pid"):
        with contextlib.suppress(OSError):
            parts.append(
                os.readlink(path) if path.endswith("pid") else Path(path).read_text().strip()
            )
    return " ".join(parts)


def _process_status(process: int) -> tuple[str, str]:
    """State and start of a process as Linux tells them; empty elsewhere."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return "", ""
    return fields[0], fields[19]
