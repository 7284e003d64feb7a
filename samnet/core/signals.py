"""Signals that ask a command to end: SIGTERM and, from clusters before a time limit, SIGUSR1; Ctrl-C while training."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator

# Windows does not know SIGUSR1.
STOP_SIGNALS = [getattr(signal, name) for name in ("SIGTERM", "SIGUSR1") if hasattr(signal, name)]


class Interrupted(BaseException):
    """A signal has asked for the end. Like KeyboardInterrupt it is no Exception: nobody takes it for a case's failure.

    number: of the signal. saved: what there is to say of the state that is kept.
    """

    def __init__(self, number: int, saved: str = "finished files are kept") -> None:
        super().__init__(f"stopped by {signal.Signals(number).name}; {saved}")
        self.number = number


@contextlib.contextmanager
def ended_by_signals() -> Iterator[None]:
    """Within, the first stop signal raises `Interrupted` wherever the main thread is; later ones change nothing."""

    def end(number: int, frame: object) -> None:
        ignore_signals()
        raise Interrupted(number)

    with _handled_by(end, STOP_SIGNALS):
        yield


def ignore_signals() -> None:
    """Be deaf to stop signals until the end of the process, or of what else handles them."""
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)


class StopSignals:
    """Stop signals and Ctrl-C, held back where what is at work must not be torn apart.

    number: of the signal that came; None so far.
    """

    def __init__(self) -> None:
        self.number: int | None = None
        self._is_at_once = False

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Within, a signal is only noted; a second Ctrl-C still ends the process' work at once."""
        with _handled_by(self._note, [*STOP_SIGNALS, signal.SIGINT]):
            yield

    @contextlib.contextmanager
    def at_once(self) -> Iterator[None]:
        """Within `held`, where nothing can be torn apart: a signal raises wherever it comes, as does one noted before.

        Raises:
            Interrupted: a signal came.
        """
        self._is_at_once = True
        try:
            self.check()
            yield
        finally:
            self._is_at_once = False

    def check(self) -> None:
        """Raise `Interrupted` if a signal was noted."""
        if self.number is not None:
            raise Interrupted(self.number)

    def _note(self, number: int, frame: object) -> None:
        if number == self.number == signal.SIGINT:
            raise KeyboardInterrupt
        is_first, self.number = self.number is None, number
        if self._is_at_once and is_first:
            self.check()


@contextlib.contextmanager
def _handled_by(handler: object, numbers: list[int]) -> Iterator[None]:
    if (
        threading.current_thread() is not threading.main_thread()
    ):  # Python takes signals in the main thread alone
        yield
        return
    before = {number: signal.signal(number, handler) for number in numbers}  # type: ignore[arg-type]
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(
                number, signal.SIG_DFL if earlier is None else earlier
            )  # None: not set from Python
