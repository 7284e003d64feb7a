"""What the benchmarks share: the machine they ran on, and times of ways that alternate."""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from samnet import __version__


def make_parser(text: str | None) -> argparse.ArgumentParser:
    """A parser with what every benchmark takes."""
    parser = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, help="of torch (default: its own)")
    parser.add_argument("--output", type=Path, metavar="FILE.json")
    return parser


def parse(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """Parse, and set the number of threads that was asked for."""
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    return options


def asked(options: argparse.Namespace) -> dict[str, Any]:
    """The options, for the result."""
    return {key: value for key, value in vars(options).items() if key != "output"}


def write_result(result: dict[str, Any], file: Path | None) -> None:
    if file:
        file.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


def time_once(work: Callable[[], object], device: torch.device) -> float:
    """Seconds until a piece of work is done, on the device too."""
    synchronise(device)
    started = time.perf_counter()
    work()
    synchronise(device)
    return time.perf_counter() - started


def synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def alternate(ways: dict[str, Callable[[], object]], rounds: int, device: torch.device) -> dict[str, list[float]]:
    """Seconds of each way in each round, one after the other; a first round warms up and does not count."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(rounds + 1):
        for name, work in ways.items():
            seconds = time_once(work, device)
            if turn:
                times[name].append(seconds)
        print(f"round {turn} of {rounds}" if turn else "warmed up", flush=True)
    return times


def medians(times: dict[str, list[float]]) -> dict[str, float]:
    return {name: statistics.median(values) for name, values in times.items()}


def describe_machine(device: torch.device) -> dict[str, Any]:
    info = Path("/proc/cpuinfo")
    model = re.search(r"model name\s*: (.+)", info.read_text()) if info.is_file() else None
    return {
        "processor": model[1] if model else platform.processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "system": platform.platform(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "samnet": __version__,
    }


def machine_line(machine: dict[str, Any]) -> str:
    """The machine in one line, as a table of results begins."""
    return (
        f"{machine['processor']}, {machine['threads']} threads, device {machine['device']}; "
        f"torch {machine['torch']}, Python {machine['python']}, samnet {machine['samnet']}"
    )
