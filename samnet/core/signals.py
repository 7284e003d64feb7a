"""Handling of the signals that end a command.

These are SIGTERM, SIGUSR1 (clusters send it before a time limit) and, while training, Ctrl-C.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator

# Windows has no SIGUSR1.
STOP_SIGNALS = [getattr(signal, name) for name in ("SIGTERM", "SIGUSR1") if hasattr(signal, name)]


class Interrupted(BaseException):
    """A stop signal has come.

    Like KeyboardInterrupt it is not an `Exception`, so code that handles the failure of a single
    case does not catch it.

    Attributes:
        number: Number of the signal.
    """

    def __init__(self, number: int, saved: str = "finished files are kept") -> None:
        """Write the message.

        Args:
            number: Number of the signal.
            saved: What the message says about the state that is kept.
        """
        super().__init__(f"stopped by {signal.Signals(number).name}; {saved}")
        self.number = number


@contextlib.contextmanager
def ended_by_signals() -> Iterator[None]:
    """Raise an error in the main thread at the first stop signal within the block.

    Later stop signals are ignored until the end of the block.

    Yields:
        Nothing.

    Raises:
        Interrupted: A stop signal has come.
    """

    def end(number: int, frame: object) -> None:
        ignore_signals()
        raise Interrupted(number)

    with _handled_by(end, STOP_SIGNALS):
        yield


def ignore_signals() -> None:
    """Ignore stop signals from now on, until another handler is set or the process ends."""
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)


class StopSignals:
    """Holds back stop signals and Ctrl-C while work must not be interrupted halfway.

    Attributes:
        number: Number of the signal that has come; None if none has.
    """

    def __init__(self) -> None:
        """Begin without any signal."""
        self.number: int | None = None
        self._is_at_once = False

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Only note stop signals and Ctrl-C within the block.

        Yields:
            Nothing.

        Raises:
            KeyboardInterrupt: Ctrl-C was pressed a second time; this is raised at once.
        """
        with _handled_by(self._note, [*STOP_SIGNALS, signal.SIGINT]):
            yield

    @contextlib.contextmanager
    def at_once(self) -> Iterator[None]:
        """Raise an error as soon as a signal comes within the block.

        This is for parts of a `held` block that can be interrupted safely at any point. A signal
        that was noted before is raised at the beginning of the block.

        Yields:
            Nothing.

        Raises:
            Interrupted: A signal has come.
        """
        self._is_at_once = True
        try:
            self.check()
            yield
        finally:
            self._is_at_once = False

    def check(self) -> None:
        """Raise an error if a signal has been noted.

        Raises:
            Interrupted: A signal has come.
        """
        if self.number is not None:
            raise Interrupted(self.number)

    def _note(self, number: int, frame: object) -> None:
        if number == self.number == signal.SIGINT:
            raise KeyboardInterrupt
        is_first = self.number is None
        self.number = number
        if self._is_at_once and is_first:
            self.check()


@contextlib.contextmanager
def _handled_by(handler: object, numbers: list[int]) -> Iterator[None]:
    """Set a signal handler within the block, and restore the earlier handlers after it."""
    # Python handles signals in the main thread only.
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handlers_before = {}
    for number in numbers:
        handlers_before[number] = signal.signal(number, handler)  # type: ignore[arg-type]
    try:
        yield
    finally:
        for number, earlier in handlers_before.items():
            # None stands for a handler that was not set from Python.
            signal.signal(number, signal.SIG_DFL if earlier is None else earlier)
