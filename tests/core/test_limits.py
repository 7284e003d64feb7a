"""The memory and the cores to plan for in containers and SLURM jobs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from samnet.core.control_groups import ControlGroups
from samnet.core.limits import usable_cores, usable_memory

LIMIT = 256 * 2**20  # less than any machine has
JOB = {"SLURM_JOB_ID": "1"}


def control_groups(folder: Path, own: str) -> ControlGroups:
    """Return the groups of a process that Linux describes by `own`."""
    (folder / "own").write_text(f"{own}\n")
    return ControlGroups(folder, folder / "own")


def write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"{text}\n")


@pytest.fixture
def machine_memory(tmp_path: Path) -> float:
    """The memory in GiB of this machine, without limits."""
    return usable_memory(ControlGroups(tmp_path, tmp_path / "none"), {})


@pytest.fixture
def six_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    """The system schedules this process on 6 cores."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: range(6), raising=False)


def test_without_limits_the_machine_counts(
    machine_memory: float, tmp_path: Path, six_cores: None
) -> None:
    groups = control_groups(tmp_path, "4:memory:/a\n3:cpu,cpuacct:/a\n0::/a")
    write(tmp_path / "a" / "memory.max", "max")
    write(tmp_path / "a" / "cpu.max", "max 100000")
    write(tmp_path / "memory" / "a" / "memory.limit_in_bytes", "9223372036854771712")
    write(tmp_path / "cpu" / "a" / "cpu.cfs_quota_us", "-1")
    write(tmp_path / "cpu" / "a" / "cpu.cfs_period_us", "100000")
    assert usable_memory(groups, {}) == machine_memory > 0.25
    assert usable_cores(groups, {}) == 6


@pytest.mark.parametrize(
    ("own", "file"),
    [
        ("0::/job/step", "job/step/memory.max"),
        ("0::/job/step", "job/memory.max"),
        ("0::/job/step", "job/step/memory.high"),
        ("0::/docker/of/the/host", "memory.max"),
        ("5:cpu,memory:/job", "memory/job/memory.limit_in_bytes"),
        ("5:memory:/docker/abc\n0::/", "memory/memory.limit_in_bytes"),
        ("5:memory:/\n0::/job", "unified/job/memory.max"),
    ],
)
def test_memory_of_a_control_group_counts(own: str, file: str, tmp_path: Path) -> None:
    groups = control_groups(tmp_path, own)
    write(tmp_path / file, str(LIMIT))
    assert usable_memory(groups, {}) == 0.25


@pytest.mark.usefixtures("six_cores")
@pytest.mark.parametrize(
    ("own", "files", "cores"),
    [
        ("0::/job/step", {"job/step/cpu.max": "200000 100000"}, 2),
        ("0::/job/step", {"job/cpu.max": "150000 100000"}, 2),
        ("0::/job", {"job/cpu.max": "50000 100000"}, 1),
        ("0::/job", {"job/cpu.max": "6400000 100000"}, 6),
        (
            "3:cpu,cpuacct:/job",
            {"cpu/job/cpu.cfs_quota_us": "300000", "cpu/job/cpu.cfs_period_us": "100000"},
            3,
        ),
        (
            "3:cpu,cpuacct:/docker/abc",
            {"cpu,cpuacct/cpu.cfs_quota_us": "40000", "cpu,cpuacct/cpu.cfs_period_us": "10000"},
            4,
        ),
    ],
)
def test_processor_time_of_a_control_group_counts(
    own: str, files: dict[str, str], cores: int, tmp_path: Path
) -> None:
    groups = control_groups(tmp_path, own)
    for name, text in files.items():
        write(tmp_path / name, text)
    assert usable_cores(groups, {}) == cores


@pytest.mark.parametrize(
    ("variables", "memory"),
    [
        ({"SLURM_MEM_PER_NODE": "128"}, 0.125),
        ({"SLURM_MEM_PER_CPU": "32", "SLURM_CPUS_ON_NODE": "4"}, 0.125),
        ({"SLURM_MEM_PER_GPU": "64", "SLURM_GPUS_ON_NODE": "2"}, 0.125),
        ({"SLURM_MEM_PER_NODE": "0"}, 0.25),
        ({"SLURM_MEM_PER_NODE": "1048576"}, 0.25),
        ({"SLURM_MEM_PER_CPU": "32"}, 0.25),
    ],
)
def test_memory_of_a_slurm_job_counts(
    variables: dict[str, str], memory: float, tmp_path: Path
) -> None:
    groups = control_groups(tmp_path, "0::/")
    write(tmp_path / "memory.max", str(LIMIT))
    assert usable_memory(groups, variables) == 0.25  # outside of a job they mean nothing
    assert usable_memory(groups, variables | JOB) == memory


@pytest.mark.usefixtures("six_cores")
@pytest.mark.parametrize(
    ("variables", "cores"),
    [
        ({"SLURM_CPUS_PER_TASK": "4"}, 4),
        ({"SLURM_CPUS_ON_NODE": "3"}, 3),
        ({"SLURM_CPUS_PER_TASK": "2", "SLURM_CPUS_ON_NODE": "8"}, 2),
        ({"SLURM_CPUS_PER_TASK": "64"}, 6),
        ({}, 6),
    ],
)
def test_cores_of_a_slurm_job_count(variables: dict[str, str], cores: int, tmp_path: Path) -> None:
    groups = ControlGroups(tmp_path, tmp_path / "none")
    assert usable_cores(groups, variables) == 6
    assert usable_cores(groups, variables | JOB) == cores


def test_limits_of_this_process_are_read_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    memory = usable_memory()
    for name in os.environ:
        if name.startswith("SLURM"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("SLURM_JOB_ID", "1")
    monkeypatch.setenv("SLURM_MEM_PER_NODE", "128")
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "1")
    assert usable_memory() == 0.125 < memory
    assert usable_cores() == 1
