"""What this process may use of its machine: all of it, or less in a container or job."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping

from samnet.core.control_groups import ControlGroups, whole_number

_DEFAULT_MEMORY = 8.0  # GiB, where the operating system does not report it
# SLURM's limits in MiB for each of the units that the second variable counts.
_SLURM_SHARES = (
    ("SLURM_MEM_PER_CPU", "SLURM_CPUS_ON_NODE"),
    ("SLURM_MEM_PER_GPU", "SLURM_GPUS_ON_NODE"),
)
# The cores of each process of a job, and of all its processes on this machine.
_SLURM_CORES = ("SLURM_CPUS_PER_TASK", "SLURM_CPUS_ON_NODE")


def usable_memory(
    groups: ControlGroups | None = None, environment: Mapping[str, str] | None = None
) -> float:
    """Return the main memory that this process may use.

    Args:
        groups: Its control groups; None for those that Linux names.
        environment: Its environment variables; None for `os.environ`.

    Returns:
        GiB: the smallest of the machine's memory, the limits of the control groups, and what SLURM
        gives this job on this machine.
    """
    groups = ControlGroups() if groups is None else groups
    environment = os.environ if environment is None else environment
    return min([_machine_memory(), *groups.memory_limits(), *_slurm_memory(environment)])


def usable_cores(
    groups: ControlGroups | None = None, environment: Mapping[str, str] | None = None
) -> int:
    """Return the number of CPU cores that this process may use.

    Args:
        groups: Its control groups; None for those that Linux names.
        environment: Its environment variables; None for `os.environ`.

    Returns:
        The smallest of the cores that the system schedules it on, the processor time of the control
        groups, rounded up, and what SLURM gives this job on this machine.
    """
    groups = ControlGroups() if groups is None else groups
    environment = os.environ if environment is None else environment
    quotas = [math.ceil(limit) for limit in groups.core_limits()]
    return min([_scheduled_cores(), *quotas, *_slurm_cores(environment)])


def _machine_memory() -> float:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    except (ValueError, OSError, AttributeError):  # such as on Windows
        return _DEFAULT_MEMORY


def _scheduled_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _slurm_memory(environment: Mapping[str, str]) -> Iterator[float]:
    if "SLURM_JOB_ID" not in environment:
        return
    limit = whole_number(environment.get("SLURM_MEM_PER_NODE", ""))
    if limit:
        yield limit / 1024
    for share, count in _SLURM_SHARES:
        limit = whole_number(environment.get(share, ""))
        units = whole_number(environment.get(count, ""))
        if limit and units:
            yield limit * units / 1024


def _slurm_cores(environment: Mapping[str, str]) -> Iterator[int]:
    if "SLURM_JOB_ID" not in environment:
        return
    for name in _SLURM_CORES:
        cores = whole_number(environment.get(name, ""))
        if cores:
            yield cores
