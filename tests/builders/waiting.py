"""Waiting for other processes."""

from __future__ import annotations

import time
from collections.abc import Callable


def becomes_true(condition: Callable[[], bool], seconds: float) -> bool:
    """Wait until a condition holds, for so many seconds at most; return whether it does."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.5)
    return False
