"""What the planner has to know of the machine that will train."""

from __future__ import annotations

import re
from dataclasses import dataclass

from samnet.core.errors import UserError


@dataclass(frozen=True)
class Machine:
    """device: `cpu`, `cuda` or `mps`; memory: of the device in GiB (of the whole machine for `cpu`)."""

    device: str
    memory: float

    def __str__(self) -> str:
        return f"{self.device} with {self.memory:.0f} GiB"


def detect_machine(device: str | None = None, memory: float | None = None) -> Machine:
    """The best device of this machine, or the one asked for, and its memory unless it is given.

    Raises:
        UserError: the device asked for is not there.
    """
    import torch

    chosen = choose_device(device)
    if memory is None:
        if chosen == "cuda":
            memory = torch.cuda.get_device_properties(0).total_memory / 2**30
        else:
            memory = _main_memory()
    return Machine(chosen, round(memory, 1))


def choose_device(device: str | None) -> str:
    """`cuda`, `mps` or `cpu`: the one asked for, else the first of them that is there.

    Raises:
        UserError: the device asked for is not there, or is none of the three.
    """
    import torch

    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if device is None:
        return next(name for name, there in available.items() if there)
    if not available.get(device.split(":")[0], False):
        there = ", ".join(name for name, is_there in available.items() if is_there)
        raise UserError(f"--device {device}: not on this machine (available: {there})")
    return device


def parse_memory(text: str) -> float:
    """GiB of a size such as `8G`, `16GB` or `80`.

    Raises:
        UserError: the text is no size.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(?:G|GB|GiB)?", text, re.IGNORECASE)
    if match is None or float(match[1]) == 0:
        raise UserError(f"memory {text!r}: write the size in GiB, for example 8G")
    return float(match[1])


def _main_memory() -> float:
    import os

    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    except (ValueError, OSError, AttributeError):  # not every system tells
        return 8.0
