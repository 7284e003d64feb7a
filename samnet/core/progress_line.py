"""The line that shows progress: redrawn on a terminal, single lines elsewhere.

In a log file, lines get rarer the longer the work takes.
"""

from __future__ import annotations

import logging
import sys
import time
from typing import Any

from tqdm import tqdm

from samnet.core.streams import CosmeticStream

LINE_SECONDS = 30.0  # between two lines of a log file, at least
LINE_SHARE = 0.05  # and at least this share of the time that has passed
# The line by whether it is on a terminal.
_ITEM_FORMATS = {
    True: "{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}, {rate_fmt}{postfix}]",
    False: "{desc}: {percentage:.0f}%, {n_fmt}/{total_fmt}, {elapsed} passed, {remaining} left"
    "{postfix}",
}
_TIME_FORMATS = {
    True: "{l_bar}{bar}| {elapsed}<{remaining}{postfix}",
    False: "{desc}: {percentage:.0f}%, {elapsed} passed, {remaining} left{postfix}",
}


class ProgressLine(tqdm):
    """The one line of all bars: redrawn on a terminal, single lines elsewhere."""

    def __init__(self, *, desc: str, is_time: bool = False, **options: Any) -> None:
        """Begin the line.

        Args:
            desc: What is done.
            is_time: Whether positions are seconds since the beginning.
            **options: Options of tqdm, such as `total`.
        """
        stream = CosmeticStream(sys.stderr)
        self._is_terminal = stream.isatty()
        self._last_text = ""
        if is_time:
            options |= {"smoothing": 0.0, "bar_format": _TIME_FORMATS[self._is_terminal]}
        elif options.get("total") is not None and not options.get("unit_scale"):
            options |= {"smoothing": 0.05, "bar_format": _ITEM_FORMATS[self._is_terminal]}
        if not self._is_terminal:
            options.setdefault("mininterval", LINE_SECONDS)
            options["delay"] = options["mininterval"]
            if "bar_format" not in options:
                options["ncols"] = 0  # numbers without a bar
        # Every call may show the line, and the interval says when.
        super().__init__(file=stream, desc=desc, miniters=0, **options)
        if self._is_terminal:
            _drawn.append(self)

    def show(self, position: float, note: str, total: float | None = None) -> None:
        """Show a position, if the last one was shown long enough ago.

        Args:
            position: What is done so far; a fraction is part of an item.
            note: Shown after the numbers.
            total: The position of the end; None for no change of it.
        """
        if total is not None:
            self.total = total
        self.postfix = note
        self.update(position - self.n)

    @property
    def format_dict(self) -> dict[str, Any]:
        """Return what the line is made of, with whole items."""
        values = super().format_dict
        return {**values, "n_fmt": str(int(values["n"]))}

    def display(self, msg: str | None = None, pos: int | None = None) -> bool:
        """Show the line, or a text in its place.

        Args:
            msg: The text; None for the line.
            pos: How many lines below the first, on a terminal.

        Returns:
            Whether something is shown.
        """
        if self._is_terminal:
            return super().display(msg, pos)
        text = str(self) if msg is None else msg
        if text and text != self._last_text:
            self.fp.write(f"{text}\n")
            self.fp.flush()
        self._last_text = text
        if hasattr(self, "start_t"):
            passed = time.time() - self.start_t
            self.mininterval: float = max(self.mininterval, LINE_SHARE * passed)
        return bool(text)  # otherwise `close` moves to the start of the line

    def close(self) -> None:
        """Show the line a last time; in a log file also if never before."""
        if self in _drawn:
            _drawn.remove(self)
        if not self._is_terminal:
            if not self.disable:
                self.refresh()
            self.leave = False
        super().close()


_drawn: list[ProgressLine] = []  # on a terminal


class HandlerAboveBars(logging.StreamHandler):
    """Writes log lines above the bar of a terminal, which is drawn again below them."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write a log line.

        Args:
            record: What there is to say.
        """
        lines = list(_drawn)
        for line in lines:
            line.clear()
        super().emit(record)
        for line in lines:
            line.refresh()
