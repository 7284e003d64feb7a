"""Standard streams that never end the work: neither a closed one nor a letter it cannot show."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import TextIO

_STREAMS = {0: "stdin", 1: "stdout", 2: "stderr"}
_STRICT = ("strict", "surrogateescape")  # these raise an error for a letter that cannot be shown


def prepare_standard_streams() -> None:
    """Replace missing standard streams by ones that lead nowhere, and let the others show any text.

    Streams are missing under `pythonw`, in services, and after `2>&-` in a shell. A letter that
    the encoding of a stream lacks is shown as its number in hexadecimal.
    """
    _open_missing_descriptors()
    for name in _STREAMS.values():
        stream = getattr(sys, name)
        if stream is None or getattr(stream, "closed", False):
            mode = "r" if name == "stdin" else "w"
            null = open(os.devnull, mode, encoding="utf-8")  # noqa: SIM115  # for the whole process
            setattr(sys, name, null)
    for stream in (sys.stdout, sys.stderr):
        _show_any_text(stream)


def _open_missing_descriptors() -> None:
    """Open the null device as each standard descriptor that is closed.

    Otherwise the next file that is opened gets its number, and what libraries in C print ends up in
    that file.
    """
    for descriptor in _STREAMS:
        try:
            os.fstat(descriptor)
        except OSError:
            with contextlib.suppress(OSError):
                opened = os.open(os.devnull, os.O_RDWR)  # the lowest free number, so this one
                os.set_inheritable(opened, True)  # as standard descriptors are, for workers


def _show_any_text(stream: TextIO) -> None:
    """Change how a stream treats letters that its encoding lacks, unless the user has set that."""
    errors, reconfigure = getattr(stream, "errors", None), getattr(stream, "reconfigure", None)
    if errors in _STRICT and reconfigure is not None:
        reconfigure(errors="backslashreplace")


class CosmeticStream:
    """A stream for what only decorates the work: a write that fails is dropped."""

    def __init__(self, stream: TextIO | None) -> None:
        """Wrap a stream.

        Args:
            stream: The stream; None for nowhere.
        """
        self._stream = stream
        self.encoding: str = getattr(stream, "encoding", None) or "ascii"

    def write(self, text: str) -> None:
        """Write a text. Letters that the encoding lacks are shown as their numbers.

        Args:
            text: The text.
        """
        shown = text.encode(self.encoding, "backslashreplace").decode(self.encoding)
        if self._stream is not None:
            with contextlib.suppress(OSError, ValueError):  # ValueError: the stream is closed
                self._stream.write(shown)

    def flush(self) -> None:
        """Send what was written on its way."""
        if self._stream is not None:
            with contextlib.suppress(OSError, ValueError):
                self._stream.flush()

    def isatty(self) -> bool:
        """Tell whether the stream is a terminal."""
        try:
            return self._stream is not None and self._stream.isatty()
        except (OSError, ValueError, AttributeError):
            return False

    def fileno(self) -> int:
        """Return the descriptor of the stream, by which the width of a terminal is found.

        Raises:
            OSError: It has none.
        """
        if self._stream is None:
            raise OSError("there is no stream")
        return self._stream.fileno()
