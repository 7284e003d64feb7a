"""Progress told to a function of the caller, in place of a line on standard error."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[float, float | None, str], object]
"""Called with the number of items done, their number or None, and what is done."""


class ProgressStopped(BaseException):
    """The caller's function has raised an error, which ends the work.

    Like KeyboardInterrupt it is not an `Exception`, so code that handles the failure of a single
    case does not catch it.

    Attributes:
        error: What the function has raised.
    """

    def __init__(self, error: BaseException) -> None:
        """Keep the error.

        Args:
            error: What the function has raised.
        """
        super().__init__("the work was stopped by the function for its progress")
        self.error = error


class Listener:
    """Calls a function until it raises an error."""

    def __init__(self, function: Progress | None) -> None:
        """Note the function.

        Args:
            function: The function; None for none, so that nothing is shown.
        """
        self._function = function

    def call(self, done: float, total: float | None, what: str) -> None:
        """Tell the function how far the work is.

        Args:
            done: Number of items that are done.
            total: Their number; None where it is not known.
            what: What is done.

        Raises:
            ProgressStopped: The function has raised an error. It is not called again.
        """
        function = self._function
        if function is None:
            return
        try:
            function(done, total, what)
        except BaseException as error:
            self._function = None  # bars are shown a last time on the way out
            raise ProgressStopped(error) from error

    def line(self, what: str, total: float | None) -> ListenerLine:
        """Return what takes the place of a line on standard error.

        Args:
            what: What is done.
            total: The number of items; None where it is not known.
        """
        return ListenerLine(self, what, total)


class ListenerLine:
    """Takes the place of `ProgressLine`."""

    def __init__(self, listener: Listener, what: str, total: float | None) -> None:
        """Note what there is to tell.

        Args:
            listener: Who is told.
            what: What is done.
            total: The number of items; None where it is not known.
        """
        self._listener, self._what, self._total = listener, what, total
        self._last: float | None = None

    def show(self, position: float, note: str, total: float | None = None) -> None:
        """Tell a position, if it is another one than the last.

        Args:
            position: What is done so far; a fraction is part of an item.
            note: Not told.
            total: The position of the end; None for no change of it.
        """
        self._total = self._total if total is None else total
        if position != self._last:
            self._last = position
            self._listener.call(position, self._total, self._what)

    def close(self) -> None:
        """Do nothing: the last position has been told."""
