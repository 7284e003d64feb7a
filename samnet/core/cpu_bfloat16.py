"""Whether this machine's CPU computes faster in bfloat16 than in single precision.

CPUs without units for bfloat16 compute several times slower in it. That a CPU names such units does
not tell how much they gain, nor whether torch's libraries use them. So a product is timed as well.
The result is remembered in the user's cache, because timing needs torch, which takes a second or
two to import, and planning needs nothing else of it.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.metadata
import os
import statistics
import time
from collections.abc import Callable, Collection
from pathlib import Path

from samnet.core.errors import UserError
from samnet.core.files import read_json, write_json

VARIABLE = "samnet_cpu_bfloat16"
# Intel's matrix units, and the dot products of Intel and AMD, by their names in Linux and torch.
UNITS = frozenset({"amx_bf16", "avx512_bf16"})
# Casts and copies cost a part of what products gain.
LEAST_GAIN = 1.5
# Variables by which a user restricts torch, and its library for products, to some instructions.
_RESTRICTIONS = ("ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA")
_CPUINFO = Path("/proc/cpuinfo")  # Linux's description of the CPUs
_ROWS, _WIDTH = 256, 768  # about a linear layer of ViT-B
_ROUNDS = 5
_MAX_SECONDS = 0.5
# Seconds of a product in single precision, and of the same product in bfloat16.
ProductTimes = tuple[float, float]


def computes_faster_in_bfloat16() -> bool:
    """Tell whether networks should compute in bfloat16 on this machine's CPU.

    The environment variable `samnet_cpu_bfloat16` decides if it is set: 1 for yes, 0 for no.
    Otherwise the CPU is looked at and measured, once for each CPU and version of torch. It takes
    some hundredths of a second, and none on a CPU without units for bfloat16.

    Raises:
        UserError: The variable is neither 0 nor 1.
    """
    given = os.environ.get(VARIABLE, "")
    if given not in ("", "0", "1"):
        raise UserError(
            f"the environment variable {VARIABLE} is {given!r}: set it to 1 to compute in bfloat16 "
            "on CPUs, to 0 not to, or remove it to have the CPU measured"
        )
    return given == "1" if given else _is_measured_faster()


@functools.cache
def _is_measured_faster() -> bool:
    features = cpu_features()
    if UNITS.isdisjoint(features):
        return False  # without importing torch
    case = _describe_case(features)
    measured = _remembered()
    if case not in measured:
        measured[case] = _measure(features)
        with contextlib.suppress(
            OSError, RuntimeError
        ):  # where it is not kept, it is measured again
            write_json(_memory_file(), measured)
    return measured[case]


def _measure(features: Collection[str]) -> bool:
    import torch

    # torch has kernels of attention in bfloat16 for these instructions alone. A user can restrict
    # it to others (`ATEN_CPU_CAPABILITY`), whatever the CPU has.
    if torch.backends.cpu.get_cpu_capability() != "AVX512":
        return False
    return is_faster_in_bfloat16(features, time_products)


def _memory_file() -> Path:
    return Path.home() / ".cache" / "samnet" / "cpu_bfloat16.json"


def _remembered() -> dict[str, bool]:
    """Return what was measured before, by `_describe_case`."""
    try:
        content = read_json(_memory_file())
        return {str(case): bool(is_faster) for case, is_faster in content.items()}
    except (UserError, RuntimeError, AttributeError):  # none, damaged, or a user without a home
        return {}


def _describe_case(features: Collection[str]) -> str:
    """Return all that the measurement depends on. Machines may share the user's cache."""
    digest = hashlib.sha256(" ".join(sorted(features)).encode()).hexdigest()[:16]
    restrictions = (f"{name}={os.environ.get(name, '')}" for name in _RESTRICTIONS)
    torch_version = importlib.metadata.version("torch")
    name = _read_cpuinfo(_CPUINFO, "model name")
    return ", ".join((name, f"features {digest}", f"torch {torch_version}", *restrictions))


def is_faster_in_bfloat16(features: Collection[str], measure: Callable[[], ProductTimes]) -> bool:
    """Decide whether a CPU computes faster in bfloat16.

    Args:
        features: What the CPU has, by the names of Linux.
        measure: Times a product in both precisions; only called if the CPU has one of `UNITS`.

    Returns:
        Whether it has units for bfloat16, and the product is `LEAST_GAIN` times as fast in it.
    """
    if UNITS.isdisjoint(features):
        return False
    single, half = measure()
    return single >= LEAST_GAIN * half


def cpu_features(cpuinfo: Path = _CPUINFO) -> frozenset[str]:
    """Return what the CPU has, by the names of Linux, such as `amx_bf16`.

    Args:
        cpuinfo: Linux's description of the CPUs. torch's is used where there is no such file.

    Returns:
        The names; none where neither tells.
    """
    if cpuinfo.is_file():
        return frozenset(_read_cpuinfo(cpuinfo, "flags").split())
    import torch

    # It came with torch 2.11; the private functions before it have changed their names.
    describe = getattr(torch.cpu, "get_capabilities", dict)
    return frozenset(name for name, value in describe().items() if value is True)


def _read_cpuinfo(cpuinfo: Path, name: str) -> str:
    """Return what Linux says of the first CPU under a name; empty where it says nothing."""
    if not cpuinfo.is_file():
        return ""
    for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return ""


def time_products() -> ProductTimes:
    """Time a matrix product on the CPU in single precision and in bfloat16.

    Both take turns, so that other work of the machine affects them alike. Where bfloat16 is slow
    beyond measure, few turns are enough.

    Returns:
        The median seconds of each.
    """
    import torch

    ends_at = time.perf_counter() + _MAX_SECONDS
    seconds: dict[torch.dtype, list[float]] = {torch.float32: [], torch.bfloat16: []}
    with torch.inference_mode():
        for round_number in range(_ROUNDS + 1):
            for dtype, times in seconds.items():
                left = torch.ones(_ROWS, _WIDTH, dtype=dtype, device="cpu")
                right = torch.ones(_WIDTH, _WIDTH, dtype=dtype, device="cpu")
                started = time.perf_counter()
                torch.mm(left, right)
                # The first call of each also prepares its kernel.
                if round_number:
                    times.append(time.perf_counter() - started)
            if round_number and time.perf_counter() > ends_at:
                break
    single, half = (statistics.median(times) for times in seconds.values())
    return single, half
