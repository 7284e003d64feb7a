"""Predictions wait for each other: one at a time, in the order of their requests."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable

from samnet.serving.errors import QueueFull

_POLL_SECONDS = 0.02
_LOOKS_FOR_CLIENT = 10  # every so many polls


class ClientGone(Exception):
    """The client has closed its connection before its turn came."""


class PredictionQueue:
    """A queue of limited length in front of one device.

    Attributes:
        max_waiting: How many requests may wait while one is served.
    """

    def __init__(self, max_waiting: int) -> None:
        """Begin with an empty queue.

        Args:
            max_waiting: How many requests may wait while one is served.
        """
        self.max_waiting = max_waiting
        self._tickets: deque[object] = deque()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        """Return the number of requests that wait or are served."""
        return len(self._tickets)

    @contextlib.asynccontextmanager
    async def turn(self, is_gone: Callable[[], Awaitable[bool]]) -> AsyncIterator[None]:
        """Wait for the turn of a request, for use in an `async with` statement.

        Args:
            is_gone: Tells whether the client has closed its connection.

        Yields:
            Nothing, when no request before it is left.

        Raises:
            QueueFull: Too many requests wait already.
            ClientGone: The client has gone meanwhile.
        """
        ticket = object()
        with self._lock:
            if len(self._tickets) > self.max_waiting:
                raise QueueFull(
                    f"{self.max_waiting} predictions wait already; try again in some seconds"
                )
            self._tickets.append(ticket)
        try:
            looks = 0
            while self._tickets[0] is not ticket:
                if looks % _LOOKS_FOR_CLIENT == 0 and await is_gone():
                    raise ClientGone
                looks += 1
                await asyncio.sleep(_POLL_SECONDS)
            yield
        finally:
            with self._lock:
                self._tickets.remove(ticket)
