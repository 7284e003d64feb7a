"""Progress bars: one line at a time, whatever is begun within what.

A bar that is begun within another is shown in the line of the outer one. Callers from Python choose
what becomes of the line: nothing, or calls of their function (`show_progress_by`).
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Iterator, Sized
from contextvars import ContextVar
from typing import Any

from samnet.core.progress_line import ProgressLine
from samnet.core.progress_listener import Listener, ListenerLine, Progress, ProgressStopped

PART_SECONDS = 3.0  # so long an item takes before its parts are shown
_innermost: ContextVar[ProgressBar | CommandBar | None] = ContextVar("innermost", default=None)
# None for the line on standard error, as of the commands.
_listener: ContextVar[Listener | None] = ContextVar("listener", default=None)


@contextlib.contextmanager
def show_progress_by(progress: Progress | bool | None) -> Iterator[None]:
    """Choose how progress is shown within a block, in this thread.

    Args:
        progress: Called with the number of items that are done, which may be a fraction, their
            number or None where it is not known, and what is done. What it raises ends the work.
            True for the line of the commands on standard error; False or None for nothing.

    Yields:
        Nothing.

    Raises:
        BaseException: What `progress` has raised.
    """
    if progress is True:
        listener = None
    else:
        listener = Listener(progress or None)
    tokens = _listener.set(listener), _innermost.set(None)
    try:
        yield
    except ProgressStopped as stop:
        raise stop.error from None
    finally:
        _listener.reset(tokens[0])
        _innermost.reset(tokens[1])


class ProgressBar:
    """A bar on standard error. One that cannot be shown does not end the work.

    Attributes:
        description: What is done.
        total: The number of items; None where it is not known.
        done: The number of items that are done. A fraction is part of an item.
        seconds_left: How long the rest takes, where that is better known than by the speed so far.
        note: Shown after the numbers.
    """

    def __init__(
        self,
        iterable: Iterable | None = None,
        *,
        total: float | None = None,
        initial: float = 0,
        desc: str = "",
        disable: bool = False,
        is_part: bool = False,
        only_within: bool = False,
        **options: Any,
    ) -> None:
        """Begin a bar.

        Args:
            iterable: What to go through; None for a bar that `update` moves.
            total: The number of items; None for the length of `iterable`.
            initial: The number of items that were done before.
            desc: What is done.
            disable: Whether to show nothing.
            is_part: Whether the items are the parts of one item of the outer bar, which then moves
                by fractions.
            only_within: Whether to show it within another bar only.
            **options: Options of tqdm, such as `unit`.
        """
        if total is None and isinstance(iterable, Sized):
            total = len(iterable)
        self.iterable, self.description, self.total, self.done = iterable, desc, total, initial
        self.seconds_left: float | None = None
        self.note = ""
        self.is_part = is_part
        self._initial, self._began = initial, time.monotonic()
        self._outer = None if disable else _innermost.get()
        self._inner: ProgressBar | None = None
        self._line: ProgressLine | ListenerLine | None = None
        self._reset: Any = None
        if not disable and not only_within and self._outer is None:
            listener = _listener.get()
            if listener is None:
                self._line = ProgressLine(total=total, initial=initial, desc=desc, **options)
            else:
                self._line = listener.line(desc, total)

    def __enter__(self) -> ProgressBar:
        """Take in the bars that are begun from now on."""
        if self._reset is None and (self._line is not None or self._outer is not None):
            self._reset = _innermost.set(self)
            self._moved()
        return self

    def __exit__(self, *error: object) -> None:
        """Show the bar a last time."""
        self.close()

    def __iter__(self) -> Iterator[Any]:
        """Go through the items and count them."""
        assert self.iterable is not None
        with self:
            for item in self.iterable:
                yield item
                self.update()

    def update(self, count: float = 1) -> None:
        """Count items that are done.

        Args:
            count: How many.
        """
        self.done += count
        self._moved()

    def set_postfix_str(self, note: str, refresh: bool = True) -> None:
        """Show a note after the numbers.

        Args:
            note: The note.
            refresh: Whether to show it at once.
        """
        self.note = note
        if refresh:
            self._moved()

    def show_inner(self, bar: ProgressBar | None) -> None:
        """Show a bar within this one.

        Args:
            bar: The inner bar; None when it is closed.
        """
        self._inner = bar
        if bar is not None:  # else the item that it was part of is counted next
            self._moved()

    def close(self) -> None:
        """Show the bar a last time."""
        if self._reset is not None:
            with contextlib.suppress(ValueError):  # closed in another context than it was begun in
                _innermost.reset(self._reset)
            self._reset = None
        self._inner = None
        if self._line is not None:
            self._line.show(self.done, self.note)
            self._line.close()
        if self._outer is not None:
            self._outer.show_inner(None)
            self._outer = None

    def _moved(self) -> None:
        if self._line is not None:
            inner = "" if self._inner is None else self._inner.describe()
            self._line.show(self.position(), ", ".join(filter(None, (self.note, inner))))
        elif self._outer is not None:
            self._outer.show_inner(self)

    def position(self) -> float:
        """Return the number of items that are done, with the part of the current one."""
        inner = self._inner
        if inner is None or not inner.is_part or not inner.total:
            return self.done
        return self.done + min(1.0, inner.position() / inner.total)

    def remaining(self) -> float | None:
        """Return how many seconds the rest takes; None where nothing is known yet."""
        if self.seconds_left is not None:
            return self.seconds_left
        moved = self.position() - self._initial
        if self.total is None or moved <= 0:
            return None
        return (time.monotonic() - self._began) / moved * max(0.0, self.total - self.position())

    def describe(self) -> str:
        """Return the bar in words, with those within it; nothing of an item that is short."""
        if self.is_part and time.monotonic() - self._began < PART_SECONDS:
            return ""
        count = str(int(self.done + 1e-6))  # the shares of tiles may not add up exactly
        if self.total is not None:
            count += f"/{int(self.total)}"
        inner = self.note if self._inner is None else self._inner.describe()
        return ", ".join(filter(None, (f"{self.description} {count}", inner)))


class CommandBar:
    """One bar with one estimate for a command of several stages, in time.

    The bars of its stages are shown within it. A stage that has not begun takes as long as was
    expected.
    """

    def __init__(self, desc: str, *, disable: bool = False) -> None:
        """Begin the bar.

        Args:
            desc: What is done.
            disable: Whether to show nothing, neither of the stages.
        """
        self._began = self._round_began = time.monotonic()
        self._ends_at: float | None = None
        self._expected: dict[str, float] = {}
        self._rounds_left = 0
        self._inner: ProgressBar | None = None
        self._token: Any = None
        self._listener = None if disable else _listener.get()
        is_shown = not disable and self._listener is None
        self._line = ProgressLine(desc=desc, is_time=True) if is_shown else None

    def __enter__(self) -> CommandBar:
        """Take in the bars that are begun from now on."""
        self._token = _innermost.set(self)
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        """Show the bar a last time, as done where no error has ended the work."""
        _innermost.reset(self._token)
        if self._line is None:
            return
        if kind is None:
            elapsed = time.monotonic() - self._began
            self._line.show(elapsed, "", total=max(elapsed, 1e-9))
        self._line.close()

    def begin_round(self, rounds_left: int) -> None:
        """Begin to do all stages, for the first time or once more.

        Args:
            rounds_left: How often they are done again afterwards.
        """
        self._rounds_left, self._ends_at = rounds_left, None
        self._round_began = time.monotonic()
        self._expected = {}

    def end_round_at(self, ends_at: float | None) -> None:
        """Take note of when this round is to end.

        Args:
            ends_at: Time on `time.monotonic`; None for no end.
        """
        self._ends_at = ends_at

    def expect(self, stage: str, seconds: float) -> None:
        """Take note of how long a stage takes.

        Args:
            stage: The description of its bar.
            seconds: How long.
        """
        self._expected[stage] = seconds

    def show_inner(self, bar: ProgressBar | None) -> None:
        """Show the bar of a stage.

        Args:
            bar: The bar; None when the stage is over.
        """
        if bar is not None and bar.is_part:  # what is timed before the first stage
            return
        if bar is None and self._inner is not None:
            self._expected[self._inner.description] = 0.0
        self._inner = bar
        if bar is not None:
            left = bar.remaining()
            if left is not None:
                self._expected[bar.description] = left
        if self._listener is not None and bar is not None:
            self._listener.call(bar.position(), bar.total, bar.description)
        if self._line is not None and bar is not None:
            elapsed, left = time.monotonic() - self._began, self.remaining()
            total = None if left is None else elapsed + left
            self._line.show(elapsed, bar.describe(), total=total)

    def remaining(self) -> float | None:
        """Return how many seconds the rest of the command takes; None where nothing is known."""
        if not self._expected:
            return None
        now, left = time.monotonic(), sum(self._expected.values())
        if self._ends_at is not None:
            left = min(left, max(0.0, self._ends_at - now))
        return left + self._rounds_left * (now - self._round_began + left)
