"""What the benchmarks share: the machine they ran on, alternating runs, processes with their cost, JSON."""

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
    """Of a process and those it waited for. cpu_seconds: of all processors together."""

    seconds: float
    cpu_seconds: float


@dataclass(frozen=True)
class FinishedProcess:
    """output: what it printed."""

    cost: Cost
    output: str


def run_process(
    command: Sequence[str], environment: Mapping[str, str] | None = None
) -> FinishedProcess:
    """Run a command to its end.

    Raises:
        SystemExit: it failed; the message has the end of what it printed.
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


def alternate(sides: Mapping[str, Callable[[], Any]], rounds: int) -> dict[str, list[Cost]]:
    """What each call of each side costs, in turns, after one call of each that does not count."""
    costs: dict[str, list[Cost]] = {name: [] for name in sides}
    for turn in range(rounds + 1):
        for name, call in sides.items():
            started, cpu_started = time.perf_counter(), time.process_time()
            call()
            if turn:
                costs[name].append(
                    Cost(time.perf_counter() - started, time.process_time() - cpu_started)
                )
        print(f"round {turn} of {rounds}" if turn else "warmed up", flush=True)
    return costs


def median_cost(costs: Sequence[Cost]) -> dict[str, float]:
    return {
        field.name: statistics.median(getattr(cost, field.name) for cost in costs)
        for field in fields(costs[0])
    }


def describe_machine(device: str = "cpu") -> dict[str, Any]:
    """The processor, the versions, and the device by its name where it is a GPU."""
    import torch  # here: of a process that holds much, those it starts seem to hold as much at their start

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


def write_result(result: Mapping[str, Any], file: Path | None) -> None:
    """As JSON, where a file is asked for."""
    if file is not None:
        file.write_text(json.dumps(result, indent=2, default=str) + "\n", encoding="utf-8")


def run_in_folder(
    options: argparse.Namespace,
    measure: Callable[[argparse.Namespace, Path], dict[str, Any]],
    describe: Callable[[dict[str, Any]], str],
) -> None:
    """Measure in a temporary folder, print the result as text, and write it where `--output` says.

    The folder lies in that of `--work`, where a script has such an option and it is given.
    """
    with tempfile.TemporaryDirectory(
        prefix="samnet-benchmark-", dir=getattr(options, "work", None)
    ) as folder:
        result = measure(options, Path(folder))
    print("\n" + describe(result))
    write_result(result, options.output)


def machine_line(machine: Mapping[str, Any]) -> str:
    """The machine in one line, as a table of results begins."""
    return (
        f"{machine['processor']}, {machine['threads']} threads, device {machine['device']}; "
        f"torch {machine['torch']}, Python {machine['python']}, samnet {machine['samnet']}"
    )
