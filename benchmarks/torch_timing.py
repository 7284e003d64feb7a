"""What benchmarks of torch's work share: their options, and seconds on a device."""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import measuring
import torch


def make_parser(text: str | None) -> argparse.ArgumentParser:
    """A parser with what every such benchmark takes."""
    parser = argparse.ArgumentParser(
        description=text, formatter_class=argparse.RawDescriptionHelpFormatter
    )
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


def alternate(
    ways: dict[str, Callable[[], object]], rounds: int, device: torch.device
) -> dict[str, list[float]]:
    """Seconds of each way in each round, one after the other, until the device is done too."""

    def complete(work: Callable[[], object]) -> Callable[[], float]:
        return lambda: time_once(work, device)

    costs = measuring.alternate({name: complete(work) for name, work in ways.items()}, rounds)
    return {name: [cost.seconds for cost in values] for name, values in costs.items()}


def medians(times: dict[str, list[float]]) -> dict[str, float]:
    return {name: statistics.median(values) for name, values in times.items()}
