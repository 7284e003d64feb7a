"""The memory to plan for in containers and SLURM jobs."""

from __future__ import annotations

from pathlib import Path

import pytest

from samnet.core import memory_limit
from samnet.core.machine import detect_machine
from samnet.core.memory_limit import usable_memory

GIB = 2**30


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine of 64 GiB outside of SLURM; returns the folder of its control groups."""
    for name in ("JOB_ID", "MEM_PER_NODE", "MEM_PER_CPU", "MEM_PER_GPU", "CPUS_ON_NODE"):
        monkeypatch.delenv(f"SLURM_{name}", raising=False)
    monkeypatch.setattr(memory_limit, "_machine_memory", lambda: 64.0)
    monkeypatch.setattr(memory_limit, "_CGROUPS", tmp_path)
    monkeypatch.setattr(memory_limit, "_OWN_CGROUPS", tmp_path / "own")
    return tmp_path


def write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"{text}\n")


def test_memory_without_limits_is_that_of_the_machine(machine: Path) -> None:
    assert usable_memory() == 64
    write(machine / "own", "4:memory:/a\n0::/a")
    write(machine / "a" / "memory.max", "max")
    write(machine / "memory" / "a" / "memory.limit_in_bytes", "9223372036854771712")
    assert usable_memory() == 64


@pytest.mark.parametrize(
    ("own", "file"),
    [
        ("0::/job/step", "job/step/memory.max"),
        ("0::/job/step", "job/memory.max"),
        ("0::/docker/of/the/host", "memory.max"),
        ("5:cpu,memory:/job", "memory/job/memory.limit_in_bytes"),
        ("5:memory:/docker/abc\n0::/", "memory/memory.limit_in_bytes"),
    ],
)
def test_limit_of_a_control_group_counts(own: str, file: str, machine: Path) -> None:
    write(machine / "own", own)
    write(machine / file, str(6 * GIB))
    assert usable_memory() == 6
    assert detect_machine("cpu").memory == 6


@pytest.mark.parametrize(
    ("variables", "memory"),
    [
        ({"MEM_PER_NODE": "16384"}, 16),
        ({"MEM_PER_CPU": "2048", "CPUS_ON_NODE": "4"}, 8),
        ({"MEM_PER_GPU": "10240", "GPUS_ON_NODE": "2"}, 20),
        ({"MEM_PER_NODE": "0"}, 64),
        ({"MEM_PER_NODE": "1048576"}, 64),
        ({"MEM_PER_CPU": "2048"}, 64),
    ],
)
@pytest.mark.usefixtures("machine")
def test_memory_of_a_slurm_job_counts(
    variables: dict[str, str], memory: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    assert usable_memory() == 64  # outside of a job they mean nothing
    monkeypatch.setenv("SLURM_JOB_ID", "1")
    assert usable_memory() == memory
