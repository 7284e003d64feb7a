"""Ports where the processes of a test meet."""

from __future__ import annotations

import contextlib
import os
import socket


def free_port() -> int:
    """Return a free port below those that the system gives to whoever wants any.

    Between this and its use, no other program on the machine gets it by chance.
    """
    first, number = 20_000, 10_000
    for attempt in range(number):
        port = first + (os.getpid() + attempt) % number
        with socket.socket() as listener, contextlib.suppress(OSError):
            listener.bind(("127.0.0.1", port))
            return port
    raise AssertionError("no free port")
