"""Images that clients upload for a while, without adding them to the data set."""

from __future__ import annotations

import contextlib
import shutil
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from samnet.core.errors import UserError
from samnet.dataset.cases import Case
from samnet.dataset.formats.dicom_files import is_dicom
from samnet.serving.errors import NotFound, QueueFull, Unusable
from samnet.serving.settings import GIB, Limits


@dataclass
class Session:
    """An uploaded image.

    Attributes:
        identifier: What the client calls it by.
        folder: Where its files lie.
        case: The image.
        num_bytes: Size of its files.
        seconds: How long it is kept after its last use.
        created: When it was uploaded, in seconds since 1970.
        last_used: When it was used last.
        users: Number of requests that read it at this moment.
    """

    identifier: str
    folder: Path
    case: Case
    num_bytes: int
    seconds: int
    created: float = field(default_factory=time.time)
    last_used: float = field(default_factory=time.time)
    users: int = 0

    def as_json(self) -> dict[str, Any]:
        """Return the session by the protocol's keys, without paths."""
        return {
            "name": self.identifier,
            "path": "",
            "image": self.case.image_files[0].name,
            "meta": {},
            "create_ts": int(self.created),
            "last_access_ts": int(self.last_used),
            "expiry": self.seconds,
        }


class Sessions:
    """All sessions of a server. Those that were not used for a while are removed."""

    def __init__(
        self, folder: Path, limits: Limits, clock: Callable[[], float] = time.time
    ) -> None:
        """Begin without sessions.

        Args:
            folder: Where their files lie; it is emptied.
            limits: How many, how large, and how long.
            clock: Returns the time in seconds since 1970.
        """
        shutil.rmtree(folder, ignore_errors=True)
        self.folder, self._limits, self._clock = folder, limits, clock
        self._sessions: dict[str, Session] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        """Return the number of sessions."""
        return len(self._sessions)

    def add(self, files: Sequence[Path], seconds: int = 0) -> Session:
        """Begin a session; the files are moved.

        Args:
            files: The files of one image: one, the channels in order, or a DICOM series.
            seconds: How long to keep it after its last use; 0 for the longest.

        Returns:
            The session.

        Raises:
            QueueFull: There are too many sessions already, or their files are too large.
            Unusable: Some of the files are DICOM and some are not.
        """
        self.remove_expired()
        is_series = _is_series(files)
        num_bytes = sum(file.stat().st_size for file in files)
        identifier = str(uuid.uuid4())
        folder = self.folder / identifier
        longest = self._limits.session_seconds
        with self._lock:
            total = num_bytes + sum(entry.num_bytes for entry in self._sessions.values())
            if len(self._sessions) >= self._limits.sessions:
                raise QueueFull(f"{len(self._sessions)} images are uploaded already; try later")
            if total > self._limits.session_bytes:
                raise QueueFull(f"uploaded images take {total / GIB:.1f} GiB already; try later")
            folder.mkdir(parents=True)
            moved = [Path(shutil.move(file, folder / file.name)) for file in files]
            now = self._clock()
            session = Session(
                identifier,
                folder,
                Case("session", (folder,) if is_series else tuple(moved)),
                num_bytes,
                min(seconds, longest) if seconds > 0 else longest,
                now,
                now,
            )
            self._sessions[identifier] = session
        return session

    def find(self, identifier: str, *, is_used: bool = False) -> Session:
        """Find a session.

        Args:
            identifier: Its identifier.
            is_used: Whether this counts as a use.

        Returns:
            The session.

        Raises:
            NotFound: There is none, or it has expired.
        """
        self.remove_expired()
        with self._lock:
            session = self._sessions.get(identifier)
            if session is None:
                raise NotFound(
                    "there is no such session, or it has expired; upload the image again"
                )
            if is_used:
                session.last_used = self._clock()
            return session

    @contextlib.contextmanager
    def in_use(self, identifier: str) -> Iterator[Session]:
        """Keep a session within the block, for use in a `with` statement.

        Args:
            identifier: Its identifier.

        Yields:
            The session.

        Raises:
            NotFound: There is none, or it has expired.
        """
        session = self.find(identifier, is_used=True)
        with self._lock:
            session.users += 1
        try:
            yield session
        finally:
            with self._lock:
                session.users -= 1
                session.last_used = self._clock()

    def remove(self, identifier: str) -> Session:
        """End a session and remove its files.

        Args:
            identifier: Its identifier.

        Returns:
            The session as it was.

        Raises:
            NotFound: There is none.
        """
        session = self.find(identifier)
        with self._lock:
            self._sessions.pop(identifier, None)
        shutil.rmtree(session.folder, ignore_errors=True)
        return session

    def remove_expired(self) -> None:
        """Remove the sessions that were not used for longer than they are kept."""
        now = self._clock()
        with self._lock:
            expired = [
                session
                for session in self._sessions.values()
                if not session.users and session.last_used + session.seconds < now
            ]
            for session in expired:
                del self._sessions[session.identifier]
        for session in expired:
            shutil.rmtree(session.folder, ignore_errors=True)

    def close(self) -> None:
        """Remove all sessions and their files."""
        with self._lock:
            self._sessions.clear()
        shutil.rmtree(self.folder, ignore_errors=True)


def _is_series(files: Sequence[Path]) -> bool:
    """Tell whether uploaded files are a DICOM series; refuse a mixture."""
    num_dicom = sum(is_dicom(file) for file in files)
    if num_dicom not in (0, len(files)):
        raise Unusable("some of the uploaded files are DICOM and some are not; send one image")
    return num_dicom > 0


def check_session_files(case: Case, num_channels: int) -> None:
    """Check that an uploaded image can have the channels of a model.

    Args:
        case: The image.
        num_channels: Number of channels of the model.

    Raises:
        UserError: The number of files is another one.
    """
    if len(case.image_files) not in (1, num_channels):
        raise UserError(
            f"the session has {len(case.image_files)} files, and the model takes {num_channels} "
            "channel(s)"
        )
