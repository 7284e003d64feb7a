"""The main memory that this process may use: that of the machine, or less in a container or job."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

_DEFAULT = 8.0  # GiB, where the operating system does not report the memory
_CGROUPS = Path("/sys/fs/cgroup")
_OWN_CGROUPS = Path("/proc/self/cgroup")
# SLURM's limits in MiB for each of the units that the second variable counts.
_SLURM_SHARES = (
    ("SLURM_MEM_PER_CPU", "SLURM_CPUS_ON_NODE"),
    ("SLURM_MEM_PER_GPU", "SLURM_GPUS_ON_NODE"),
)


def usable_memory() -> float:
    """Return the main memory in GiB that this process may use.

    Returns:
        The smallest of the machine's memory, the limits of the control groups of this process
        (containers, and most clusters), and what SLURM gives this job on this machine.
    """
    sizes = [_machine_memory(), *_cgroup_limits(), *_slurm_limits()]
    return min(sizes)


def _machine_memory() -> float:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    except (ValueError, OSError, AttributeError):  # such as on Windows
        return _DEFAULT


def _cgroup_limits() -> Iterator[float]:
    """Yield the limits of the control groups of this process and of those that contain them."""
    try:
        lines = _OWN_CGROUPS.read_text(encoding="utf-8").splitlines()
    except OSError:  # not on Linux
        return
    for line in lines:
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" and not controllers:
            yield from _limits_along(_CGROUPS, path, "memory.max")
        elif "memory" in controllers.split(","):
            yield from _limits_along(_CGROUPS / "memory", path, "memory.limit_in_bytes")


def _limits_along(root: Path, path: str, name: str) -> Iterator[float]:
    """Yield the limits in GiB from a control group up to the root.

    In a container the path may be that of the host, of which only the root is seen.
    """
    group = PurePosixPath("/") / path
    for folder in (group, *group.parents):
        file = root / folder.relative_to("/") / name
        limit = _whole_number(_read(file))
        if limit:
            yield limit / 2**30


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8").strip()
    except OSError:
        return ""


def _slurm_limits() -> Iterator[float]:
    if "SLURM_JOB_ID" not in os.environ:
        return
    limit = _whole_number(os.environ.get("SLURM_MEM_PER_NODE", ""))
    if limit:
        yield limit / 1024
    for share, count in _SLURM_SHARES:
        limit = _whole_number(os.environ.get(share, ""))
        units = _whole_number(os.environ.get(count, ""))
        if limit and units:
            yield limit * units / 1024


def _whole_number(text: str) -> int:
    """Return a whole number; 0, which means no limit, for any other text, such as `max`."""
    return int(text) if text.isdecimal() else 0
