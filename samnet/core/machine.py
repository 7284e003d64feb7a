"""What the planner has to know of the machine that will train."""

from __future__ import annotations

import re
from dataclasses import dataclass

from samnet.core.errors import UserError

_DEVICE = re.compile(r"(cuda|mps|cpu)(?::(\d+))?")


@dataclass(frozen=True)
class Machine:
    """device: `cpu`, `cuda` or `mps`; memory: of the device in GiB (of the whole machine for `cpu`)."""

    device: str
    memory: float

    def __str__(self) -> str:
        return f"{self.device} with {self.memory:.0f} GiB"


def detect_machine(device: str | None = None, memory: float | None = None) -> Machine:
    """The best device of this machine, or the one asked for, and its memory unless it is given.

    With both given the device need not be here: a login node may plan for the cluster's GPUs.

    Raises:
        UserError: the device asked for is not there, and its memory is not given.
    """
    kind, _ = _parse_device(device)
    if kind is not None and memory is not None:
        return Machine(kind, round(memory, 1))
    try:
        kind, index = _parse_device(choose_device(device))
    except UserError as error:
        raise UserError(
            f"{error}; to plan for another machine give its memory too, such as --memory 16G"
        ) from None
    assert kind is not None
    if memory is None:
        memory = _graphics_memory(index) if kind == "cuda" else _main_memory()
    return Machine(kind, round(memory, 1))


def choose_device(device: str | None) -> str:
    """`cuda`, `mps` or `cpu`, or one of several such as `cuda:1`: the one asked for, else the first that is there.

    Raises:
        UserError: the device asked for is not there, or is none of the three.
    """
    import torch

    kind, index = _parse_device(device)
    # The count is of what is built in, also where the driver is too old for this torch to use it.
    num_gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    counts = {"cuda": num_gpus, "mps": int(torch.backends.mps.is_available()), "cpu": 1}
    if kind is None or device is None:
        return next(name for name, count in counts.items() if count)
    if index >= counts[kind]:
        there = ", ".join(
            f"{name}:0 to {count - 1}" if count > 1 else name
            for name, count in counts.items()
            if count
        )
        raise UserError(f"--device {device}: not on this machine (available: {there})")
    return device


def _parse_device(device: str | None) -> tuple[str | None, int]:
    """Kind and number of a device such as `cuda:1`."""
    if device is None:
        return None, 0
    match = _DEVICE.fullmatch(device)
    if match is None:
        raise UserError(
            f"--device {device}: choose cuda, mps or cpu (one of several GPUs as cuda:1)"
        )
    return match[1], int(match[2] or 0)


def parse_memory(text: str) -> float:
    """GiB of a size such as `8G`, `16GB` or `80`.

    Raises:
        UserError: the text is no size.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(?:G|GB|GiB)?", text, re.IGNORECASE)
    if match is None or float(match[1]) == 0:
        raise UserError(f"memory {text!r}: write the size in GiB, for example 8G")
    return float(match[1])


def _graphics_memory(index: int) -> float:
    import torch

    return torch.cuda.get_device_properties(index).total_memory / 2**30


def _main_memory() -> float:
    import os

    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    except (ValueError, OSError, AttributeError):  # not every system tells
        return 8.0
