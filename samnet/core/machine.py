"""The device that trains or predicts, and its memory."""

from __future__ import annotations

import glob
import re
import sys
from dataclasses import dataclass, field

from samnet.core.cpu_bfloat16 import computes_faster_in_bfloat16
from samnet.core.errors import UserError
from samnet.core.limits import usable_memory
from samnet.core.records import LEFT_OUT_BY_DEFAULT

_DEVICE = re.compile(r"(cuda|mps|cpu)(?::(\d+))?")
# By these files programs reach the GPUs of a machine with Linux: of NVIDIA, also on a Jetson and
# within Windows, and of AMD.
_GPU_FILES = ("/dev/nvidia*", "/dev/nvhost*", "/dev/nvgpu*", "/dev/nvmap", "/dev/dxg", "/dev/kfd")


@dataclass(frozen=True)
class Machine:
    """What the planner has to know about the machine that will train.

    Attributes:
        device: Kind of device: `cpu`, `cuda` or `mps`.
        memory: Memory of the device in GiB; for `cpu` and `mps` the main memory that
            this process may use.
        cpu_bfloat16: Whether the device is a CPU that computes faster in bfloat16. It says nothing
            of GPUs.
        multiprocessors: Number of multiprocessors of a CUDA GPU; 0 for other devices, and where
            it is unknown.
    """

    device: str
    memory: float
    cpu_bfloat16: bool = field(default=False, metadata=LEFT_OUT_BY_DEFAULT)
    multiprocessors: int = field(default=0, metadata=LEFT_OUT_BY_DEFAULT)

    def __str__(self) -> str:
        units = " and units for bfloat16" if self.cpu_bfloat16 else ""
        if self.multiprocessors:
            units = f" and {self.multiprocessors} multiprocessors"
        return f"{self.device} with {self.memory:.0f} GiB{units}"


def detect_machine(device: str | None = None, memory: float | None = None) -> Machine:
    """Return the device to plan for, with its memory.

    Where both arguments are given, the device need not be on this machine: on the login node of a
    cluster one can plan for the cluster's GPUs. torch is not imported then, nor where there can be
    no GPU and the CPU has no units for bfloat16. Of another machine a CPU counts as one without
    such units, and of a GPU the multiprocessors are unknown.

    Args:
        device: The requested device, such as `cuda`, `cuda:1`, `mps` or `cpu`; None for the best
            one of this machine.
        memory: Memory of the device in GiB; None to measure it.

    Returns:
        The kind of device, its memory rounded to 0.1 GiB, whether it is a CPU that computes faster
        in bfloat16, and the multiprocessors of a GPU.

    Raises:
        UserError: The requested device is unknown, or it is not on this machine and no memory is
            given.
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
    if kind == "cuda":
        import torch

        properties = torch.cuda.get_device_properties(index)
        memory = properties.total_memory / 2**30 if memory is None else memory
        count = properties.multi_processor_count
        return Machine(kind, round(memory, 1), multiprocessors=count)
    memory = usable_memory() if memory is None else memory
    return Machine(kind, round(memory, 1), kind == "cpu" and computes_faster_in_bfloat16())


def choose_device(device: str | None) -> str:
    """Return the name of the device to compute on.

    Args:
        device: The requested device, such as `cuda`, `cuda:1`, `mps` or `cpu`; None for the first
            of cuda, mps and cpu that this machine has.

    Returns:
        The requested device unchanged, or `cuda`, `mps` or `cpu`.

    Raises:
        UserError: The requested device is unknown, or it is not on this machine.
    """
    kind, index = _parse_device(device)
    if kind in (None, "cpu") and index == 0 and not _may_have_gpu():
        return device or "cpu"

    import torch

    # device_count() also counts GPUs whose driver is too old for this version of torch.
    num_gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    counts = {"cuda": num_gpus, "mps": int(torch.backends.mps.is_available()), "cpu": 1}
    if kind is None or device is None:
        return next(name for name, count in counts.items() if count)
    if index >= counts[kind]:
        available = ", ".join(_device_range(name, count) for name, count in counts.items() if count)
        raise UserError(f"--device {device}: not on this machine (available: {available})")
    return device


def _may_have_gpu() -> bool:
    """Tell whether torch has to look for GPUs; importing it takes seconds."""
    if "torch" in sys.modules or sys.platform != "linux":
        return True
    return any(glob.glob(pattern) for pattern in _GPU_FILES)


def _device_range(name: str, count: int) -> str:
    return f"{name}:0 to {count - 1}" if count > 1 else name


def _parse_device(device: str | None) -> tuple[str | None, int]:
    """Return the kind and the number of a device such as `cuda:1`."""
    if device is None:
        return None, 0
    match = _DEVICE.fullmatch(device)
    if match is None:
        raise UserError(
            f"--device {device}: choose cuda, mps or cpu (one of several GPUs as cuda:1)"
        )
    return match[1], int(match[2] or 0)


def parse_memory(text: str) -> float:
    """Return the number of GiB in a text such as `8G`, `16GB` or `80`.

    Args:
        text: A size in GiB, with or without the unit.

    Raises:
        UserError: The text is not a size, or it is 0.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(?:G|GB|GiB)?", text, re.IGNORECASE)
    if match is None or float(match[1]) == 0:
        raise UserError(f"memory {text!r}: write the size in GiB, for example 8G")
    return float(match[1])
