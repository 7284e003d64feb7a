"""Helpers that the benchmarks share: costs of processes, alternating runs, the machine, results."""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from samnet import __version__


@dataclass(frozen=True)
class Cost:
    """The time that some work took.

    Attributes:
        seconds: Elapsed time in seconds.
        cpu_seconds: Processor time in seconds, summed over all cores. For a process it includes
            the child processes that it waited for.
    """

    seconds: float
    cpu_seconds: float


@dataclass(frozen=True)
class FinishedProcess:
    """A process that ended without an error.

    Attributes:
        cost: The time it took.
        output: What it printed to standard output.
    """

    cost: Cost
    output: str


def run_process(
    command: Sequence[str], environment: Mapping[str, str] | None = None
) -> FinishedProcess:
    """Run a command to its end and measure it.

    Args:
        command: The program and its arguments.
        environment: Variables to set in addition to those of this process.

    Returns:
        The cost and the output of the command.

    Raises:
        SystemExit: The command failed; the message holds the end of what it printed.
    """
    started = time.perf_counter()
    with tempfile.TemporaryFile() as printed, tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            command, stdout=printed, stderr=errors, env={**os.environ, **(environment or {})}
        )
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.perf_counter() - started
        for file in (printed, errors):
            file.seek(0)
        output = printed.read().decode(errors="replace")
        if process.returncode:
            tail = (output + errors.read().decode(errors="replace"))[-3000:]
            raise SystemExit(f"{' '.join(command)}\nfailed ({process.returncode}):\n{tail}")
    return FinishedProcess(Cost(seconds, usage.ru_utime + usage.ru_stime), output)


def folder_environment(folder: Path) -> dict[str, str]:
    """Return the variables by which samnet and nnU-Net work below one folder.

    Both read the same raw data; each has a folder for its prepared data and one for its results.

    Args:
        folder: The folder to work in.

    Returns:
        The environment variables of both packages.
    """
    variables = {}
    for prefix in ("samnet", "nnUNet"):
        variables[f"{prefix}_raw"] = str(folder / "raw")
        for part in ("preprocessed", "results"):
            variables[f"{prefix}_{part}"] = str(folder / f"{prefix}_{part}")
    return variables


def alternate(sides: Mapping[str, Callable[[], Any]], rounds: int) -> dict[str, list[Cost]]:
    """Call every side once per round and measure each call.

    One call of each side comes first and does not count: it warms up.

    Args:
        sides: Name -> function without arguments.
        rounds: Number of measured calls of each side.

    Returns:
        Name -> the cost of each measured call.
    """
    costs: dict[str, list[Cost]] = {name: [] for name in sides}
    for turn in range(rounds + 1):
        for name, call in sides.items():
            started, cpu_started = time.perf_counter(), time.process_time()
            call()
            if turn:
                cpu_seconds = time.process_time() - cpu_started
                costs[name].append(Cost(time.perf_counter() - started, cpu_seconds))
        print(f"round {turn} of {rounds}" if turn else "warmed up", flush=True)
    return costs


def median_cost(costs: Sequence[Cost]) -> dict[str, float]:
    """Return the median of each field over several costs.

    Args:
        costs: At least one cost; all of one class.

    Returns:
        Name of the field -> its median, each field by itself.
    """
    medians = {}
    for field in fields(costs[0]):
        values = [getattr(cost, field.name) for cost in costs]
        medians[field.name] = statistics.median(values)
    return medians


def describe_machine(device: str = "cpu") -> dict[str, Any]:
    """Return the processor, the device and the versions of the software.

    Args:
        device: A device of torch; a GPU is given by its model name in the result.

    Returns:
        The facts by name, ready for JSON.
    """
    # Not imported at the top of the file: the kernel counts a child process's memory from its
    # start, when it still holds as much as this process, so this process has to stay small.
    import torch

    info = Path("/proc/cpuinfo")
    model = re.search(r"model name\s*: (.+)", info.read_text()) if info.is_file() else None
    return {
        "processor": model[1] if model else platform.processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name(device) if device.startswith("cuda") else device,
        "system": platform.platform(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "samnet": __version__,
    }


def machine_line(machine: Mapping[str, Any]) -> str:
    """Return the machine in one line of text.

    Args:
        machine: The result of `describe_machine`.
    """
    return (
        f"{machine['processor']}, {machine['threads']} threads, device {machine['device']}; "
        f"torch {machine['torch']}, Python {machine['python']}, samnet {machine['samnet']}"
    )


def write_result(result: Mapping[str, Any], file: Path | None) -> None:
    """Write a result as JSON, if a file is given.

    Args:
        result: The result of a benchmark.
        file: The file to write; nothing is written where it is None.
    """
    if file is not None:
        file.write_text(json.dumps(result, indent=2, default=str) + "\n", encoding="utf-8")


def run_in_folder(
    options: argparse.Namespace,
    measure: Callable[[argparse.Namespace, Path], dict[str, Any]],
    describe: Callable[[dict[str, Any]], str],
) -> None:
    """Measure in a temporary folder, print the result as text and write it to `--output`.

    Args:
        options: The options of the script. With an option `--work` that is given, the temporary
            folder lies in that folder.
        measure: Takes the options and the temporary folder, and returns the result.
        describe: Turns the result into text.
    """
    with tempfile.TemporaryDirectory(
        prefix="samnet-benchmark-", dir=getattr(options, "work", None)
    ) as folder:
        result = measure(options, Path(folder))
    print("\n" + describe(result))
    write_result(result, options.output)
