"""Locks of folders, on file systems that many machines share.

A lock is a small file that names its owner (machine and process). The owner renews the file's date
as long as it works. The file remains when its owner dies, so a process that finds a lock checks
whether the owner is alive:

- Where the owner runs on the same machine, its process must still exist.
- Where it runs on another machine, the date of the lock must have changed within `STALE_SECONDS`,
  measured by the clock of the process that waits. Dates are only compared with each other, so
  clocks that differ or jump do no harm.

So a process that is suspended, or cut off from the file system, may lose its lock to another one.
Mostly that does no harm: locks save doing the same work twice, and what they protect is correct
without them. The files of a training run belong together, so its owner calls `FolderLock.check`
before it writes one.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from samnet.core.errors import SamnetError
from samnet.core.files import TEMPORARY_PREFIX, remove_partial_file
from samnet.core.lock_owner import Owner, read_owner, this_process
from samnet.core.main_guard import end_unguarded_import

log = logging.getLogger(__name__)

# Time between two renewals of a lock.
BEAT_SECONDS = 10.0
# Age at which a lock of another machine counts as left by a dead owner. NFS shows other machines
# a new date up to a minute late.
STALE_SECONDS = 120.0
# Time between two looks at a lock that another process holds.
POLL_SECONDS = 0.5
# Number of looks at a lock before it counts as lost.
_LOOKS = 3
_SUFFIX = ".samnet-lock"
_UNFINISHED_PREFIX = ".new-lock-"


class FolderBusy(SamnetError):
    """Another living process does the same task in the folder."""


class LockLost(SamnetError):
    """Another process has taken over a lock that this process held."""


class FolderLock:
    """A lock that this process holds, unless another process has taken it over."""

    def __init__(self, file: Path, owner: Owner) -> None:
        """Describe a lock that has been acquired.

        Args:
            file: The lock.
            owner: This process.
        """
        self._file, self._owner = file, owner

    def check(self) -> None:
        """Check that this process still holds the lock.

        The process may be suspended between the check and what follows, so what follows should be
        quick.

        Raises:
            LockLost: Another process has taken the lock over, or the lock is deleted.
        """
        for look in range(_LOOKS):
            if look:
                time.sleep(POLL_SECONDS)
            if self.is_held():
                return
        found = read_owner(self._file)
        what = "its lock is deleted" if found is None else f"{found} has taken over from it"
        raise LockLost(
            f"{self._file.parent}: this process ({self._owner.task}) writes nothing more there: "
            f"{what}. That happens to a process that was suspended, or cut off from the file "
            f"system, for more than {STALE_SECONDS / 60:.0f} minutes. Once no other process is at "
            "work there, run the same command again"
        )

    def is_held(self) -> bool:
        """Tell whether the lock names this process at this moment.

        Returns:
            Whether it does. For a moment it may not while another process, which was about to take
            it over, puts it back.
        """
        found = read_owner(self._file)
        return found is not None and found.token == self._owner.token

    def renew(self) -> None:
        """Show other machines that this process is alive; nothing happens to a lock it has lost."""
        if self.is_held():
            with contextlib.suppress(OSError):  # a file server may answer again next time
                os.utime(self._file)

    def release(self) -> None:
        """Remove the lock, unless another process has taken it over."""
        if self.is_held():
            self._file.unlink(missing_ok=True)


@contextlib.contextmanager
def lock_folder(folder: Path, task: str, *, waits: bool = True) -> Iterator[FolderLock]:
    """Lock a task in a folder, so that no other process does the same task there meanwhile.

    Incomplete files that killed processes left in the folder are removed first.

    Args:
        folder: The folder. It is created where it is missing.
        task: A few words that say what is done. They become part of the lock's file name, so
            different tasks in one folder do not exclude each other.
        waits: Whether to wait for another living owner to finish, instead of raising an error.

    Yields:
        The lock, for those who have to know that they still hold it.

    Raises:
        FolderBusy: Another living process does this task, and `waits` is false.
        OSError: The folder cannot be written to.
    """
    end_unguarded_import()
    folder.mkdir(parents=True, exist_ok=True)
    file = _lock_file(folder, task)
    owner = this_process(task)
    _acquire(file, owner, waits)
    lock = FolderLock(file, owner)
    stop = threading.Event()
    beat = threading.Thread(target=_keep_alive, args=(lock, stop), daemon=True)
    beat.start()
    try:
        _remove_leftovers(folder, file)
        yield lock
    finally:
        stop.set()
        beat.join()
        lock.release()


def find_owner(folder: Path, task: str) -> Owner | None:
    """Return which process does a task in a folder, without waiting.

    The date of a lock of another machine is compared with that of a new file in the folder, because
    the clock of the file system may differ from that of this machine.

    Args:
        folder: The folder.
        task: The task as given to `lock_folder`.

    Returns:
        The owner, or None where no living process does the task.
    """
    file = _lock_file(folder, task)
    owner, date = read_owner(file), _read_date(file)
    if owner is None or date is None:
        return None
    is_dead = owner.is_dead()
    if is_dead is None:
        is_dead = _current_date(folder) - date > STALE_SECONDS * 1e9
    return None if is_dead else owner


def _current_date(folder: Path) -> int:
    """Return the date in ns that a file gets which is written now.

    Where the folder cannot be written to, it is that of this machine's clock.
    """
    file = folder / f"{TEMPORARY_PREFIX}{uuid.uuid4().hex[:8]}-clock"
    try:
        with file.open("x") as handle:
            return os.fstat(handle.fileno()).st_mtime_ns
    except OSError:
        return time.time_ns()
    finally:
        with contextlib.suppress(OSError):
            file.unlink(missing_ok=True)


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
        found, date = read_owner(file), _read_date(file)
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
            _link_or_copy(temporary, file)
        except FileExistsError:
            return False
        except FileNotFoundError:  # another process took the empty file for a leftover
            continue
        finally:
            temporary.unlink(missing_ok=True)
        return True


def _link_or_copy(source: Path, file: Path) -> None:
    """Give a lock a second name, which must be free; copy it where there are no hard links."""
    try:
        os.link(source, file)
    except (FileExistsError, FileNotFoundError):
        raise
    except OSError:
        content = source.read_text(encoding="utf-8")
        with file.open("x", encoding="utf-8") as handle:
            handle.write(content)


def _remove_dead_lock(file: Path, dead: Owner) -> None:
    """Remove a dead owner's lock.

    If another process was quicker and already holds a new lock, that lock is put back.
    """
    removed = file.with_name(f"{TEMPORARY_PREFIX}{uuid.uuid4().hex[:8]}-{file.name}")
    with contextlib.suppress(FileNotFoundError):
        os.rename(file, removed)
        found = read_owner(removed)
        if found is not None and found.token != dead.token:
            with contextlib.suppress(FileExistsError):
                _link_or_copy(removed, file)
        removed.unlink(missing_ok=True)


def _keep_alive(lock: FolderLock, stop: threading.Event) -> None:
    while not stop.wait(BEAT_SECONDS):
        lock.renew()


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
    owner = read_owner(lock)
    return owner is not None and not owner.is_dead()


def _remove_unfinished_lock(lock: Path) -> None:
    """Remove a lock that a killed process left behind before it was complete.

    Without a token the file was cut short. If its process is only just writing it, that process
    notices and writes it again.
    """
    owner = read_owner(lock)
    if owner is None:
        return
    if owner.token == "" or owner.is_dead():
        lock.unlink(missing_ok=True)


def _read_date(file: Path) -> int | None:
    """Return a file's date in ns, as the file server has it; None where the file is missing."""
    try:
        with file.open("rb") as handle:  # opening makes an NFS client fetch the current date
            return os.fstat(handle.fileno()).st_mtime_ns
    except FileNotFoundError:
        return None
