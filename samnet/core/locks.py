"""Locks of folders, on file systems that many machines share.

A lock is a small file that names its owner (machine and process). The owner renews the file's date
as long as it works. The file remains when its owner dies, so a process that finds a lock checks
whether the owner is alive:

- Where the owner runs on the same machine, its process must still exist.
- Where it runs on another machine, the date of the lock must have changed within `STALE_SECONDS`,
  measured by the clock of the process that waits. Dates are only compared with each other, so
  clocks that differ or jump do no harm.

Locks only save doing the same work twice. What a lock protects must be correct without it too.
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
from samnet.core.main_guard import end_unguarded_import

log = logging.getLogger(__name__)

# Time between two renewals of a lock.
BEAT_SECONDS = 10.0
# Age at which a lock of another machine counts as left by a dead owner. NFS shows other machines
# a new date up to a minute late.
STALE_SECONDS = 120.0
# Time between two looks at a lock that another process holds.
POLL_SECONDS = 0.5
_SUFFIX = ".samnet-lock"
_UNFINISHED_PREFIX = ".new-lock-"


class FolderBusy(SamnetError):
    """Another living process does the same task in the folder."""


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
            True or False for a process of this machine; None for one of another machine.
        """
        if self.machine != _this_machine():
            return None
        try:
            os.kill(self.process, 0)
        except ProcessLookupError:
            return True
        except OSError:  # the process exists but belongs to another user
            return False
        state, started = _process_status(self.process)
        return state == "Z" or started != self.started


@contextlib.contextmanager
def lock_folder(folder: Path, task: str, *, waits: bool = True) -> Iterator[None]:
    """Lock a task in a folder, so that no other process does the same task there meanwhile.

    Incomplete files that killed processes left in the folder are removed first.

    Args:
        folder: The folder. It is created where it is missing.
        task: A few words that say what is done. They become part of the lock's file name, so
            different tasks in one folder do not exclude each other.
        waits: Whether to wait for another living owner to finish, instead of raising an error.

    Yields:
        Nothing.

    Raises:
        FolderBusy: Another living process does this task, and `waits` is false.
        OSError: The folder cannot be written to.
    """
    end_unguarded_import()
    folder.mkdir(parents=True, exist_ok=True)
    file = _lock_file(folder, task)
    owner = _this_process(task)
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
        found = _read_owner(file)
        # Another process may have taken the lock over, for example after this one was suspended.
        if found is not None and found.token == owner.token:
            file.unlink(missing_ok=True)


def find_owner(folder: Path, task: str) -> Owner | None:
    """Return which process does a task in a folder, without waiting.

    For an owner on another machine the date of the lock is compared with the clock of this
    machine, so the answer is less certain than that of `lock_folder`.

    Args:
        folder: The folder.
        task: The task as given to `lock_folder`.

    Returns:
        The owner, or None where no living process does the task.
    """
    file = _lock_file(folder, task)
    owner = _read_owner(file)
    if owner is None or owner.is_dead():
        return None
    age = time.time() - (_read_date(file) or 0) / 1e9
    return None if age > STALE_SECONDS else owner


def _lock_file(folder: Path, task: str) -> Path:
    return folder / f".{task.replace(' ', '-')}{_SUFFIX}"


class _Watch:
    """What a waiting process has seen of another process's lock.

    Attributes:
        state: Token and date of the lock at the last look, the date in ns.
        since: When this state was first seen, by this process's monotonic clock in seconds.
    """

    def __init__(self) -> None:
        self.state: tuple[str, int] | None = None
        self.since = time.monotonic()

    def update(self, token: str, date: int) -> bool:
        """Note the current state; return whether the owner has renewed the lock since last time."""
        before = self.state
        if before == (token, date):
            return False
        self.state = (token, date)
        self.since = time.monotonic()
        return before is not None and before[0] == token

    def seconds_unchanged(self) -> float:
        return time.monotonic() - self.since


def _acquire(file: Path, owner: Owner, waits: bool) -> None:
    is_announced = False
    watch = _Watch()
    while not _create(file, owner):
        found, date = _read_owner(file), _read_date(file)
        if found is None or date is None:
            continue  # the lock has been removed since `_create`
        is_renewed = watch.update(found.token, date)
        is_dead = found.is_dead()
        if not waits and (is_renewed or is_dead is False):
            raise FolderBusy(f"{file.parent}: {found} is at work there; wait for it, or end it")
        is_stale = is_dead is None and watch.seconds_unchanged() > STALE_SECONDS
        if is_dead or is_stale:
            log.warning("%s: taking over from %s, which is gone", file.parent, found)
            _remove_dead_lock(file, found)
            continue
        if not is_announced:
            log.info("%s: waiting for %s", file.parent, found)
            is_announced = True
        time.sleep(POLL_SECONDS)


def _create(file: Path, owner: Owner) -> bool:
    """Write the lock together with its content in one step; return False where one exists."""
    content = json.dumps(asdict(owner))
    temporary = file.with_name(f"{_UNFINISHED_PREFIX}{owner.token[:8]}{file.name}")
    while True:
        temporary.write_text(content, encoding="utf-8")
        try:
            os.link(temporary, file)
        except FileExistsError:
            return False
        except FileNotFoundError:  # another process took the empty file for a leftover
            continue
        except OSError:  # this file system has no hard links
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


def _remove_dead_lock(file: Path, dead: Owner) -> None:
    """Remove a dead owner's lock.

    If another process was quicker and already holds a new lock, that lock is put back.
    """
    removed = file.with_name(f"{TEMPORARY_PREFIX}{uuid.uuid4().hex[:8]}-{file.name}")
    with contextlib.suppress(FileNotFoundError):
        os.rename(file, removed)
        found = _read_owner(removed)
        if found is not None and found.token != dead.token:
            with contextlib.suppress(FileExistsError):
                os.link(removed, file)
        removed.unlink(missing_ok=True)


def _keep_alive(file: Path, stop: threading.Event) -> None:
    while not stop.wait(BEAT_SECONDS):
        with contextlib.suppress(OSError):  # a file server may answer again at the next beat
            os.utime(file)


def _remove_leftovers(folder: Path, own_lock: Path) -> None:
    """Delete incomplete files that no living process can be writing.

    They are listed before the locks are read, because a process has its lock before it writes.
    """
    leftovers = [entry for entry in folder.iterdir() if entry.name.startswith(TEMPORARY_PREFIX)]
    unfinished_locks = list(folder.glob(f"{_UNFINISHED_PREFIX}*{_SUFFIX}"))
    not_others = {own_lock, *leftovers, *unfinished_locks}
    other_locks = [entry for entry in folder.glob(f".*{_SUFFIX}") if entry not in not_others]
    if not any(_may_be_held(lock) for lock in other_locks):
        for entry in leftovers:
            remove_partial_file(entry)
    for entry in unfinished_locks:
        _remove_unfinished_lock(entry)


def _may_be_held(lock: Path) -> bool:
    owner = _read_owner(lock)
    return owner is not None and not owner.is_dead()


def _remove_unfinished_lock(lock: Path) -> None:
    """Remove a lock that a killed process left behind before it was complete.

    Without a token the file was cut short. If its process is only just writing it, that process
    notices and writes it again.
    """
    owner = _read_owner(lock)
    if owner is None:
        return
    if owner.token == "" or owner.is_dead():
        lock.unlink(missing_ok=True)


def _read_owner(file: Path) -> Owner | None:
    """Return the owner that a lock names; None where there is no lock."""
    try:
        return Owner(**json.loads(file.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError):
        # Without hard links a lock exists for a moment before its content is written.
        return Owner("an unknown machine", "", 0, "", "unknown", "")


def _read_date(file: Path) -> int | None:
    """Return a file's date in ns, as the file server has it; None where the file is missing."""
    try:
        with file.open("rb") as handle:  # opening makes an NFS client fetch the current date
            return os.fstat(handle.fileno()).st_mtime_ns
    except FileNotFoundError:
        return None


def _this_process(task: str) -> Owner:
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
