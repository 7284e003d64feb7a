"""Helpers for benchmarks that time work of torch: their options, and seconds on a device."""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import measuring
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from samnet.core.cpu_bfloat16 import VARIABLE
from samnet.models.precision import used_precision


def make_parser(text: str | None) -> argparse.ArgumentParser:
    """Return a parser with the options that all these benchmarks have.

    Args:
        text: The description for `--help`.
    """
    parser = argparse.ArgumentParser(
        description=text, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, help="threads of torch (default: torch's choice)")
    parser.add_argument("--output", type=Path, metavar="FILE.json")
    return parser


def parse(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """Read the command line, and set torch's number of threads where `--threads` is given.

    Args:
        parser: A parser from `make_parser`.

    Returns:
        The options.
    """
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    return options


def require_precision(precision: str, device: torch.device) -> None:
    """Stop where samnet would compute in another precision than the one to be measured.

    Args:
        precision: The precision to be measured.
        device: The device that it is measured on.

    Raises:
        SystemExit: samnet computes in single precision there.
    """
    used = used_precision(precision, device)
    if used != precision:
        raise SystemExit(
            f"--precision {precision}: samnet computes in {used} on {device}; set the environment "
            f"variable {VARIABLE} to 1 to measure it all the same on a CPU"
        )


def given_options(options: argparse.Namespace) -> dict[str, Any]:
    """Return the options for the result, without the file that it is written to.

    Args:
        options: The options of the script.
    """
    return {key: value for key, value in vars(options).items() if key != "output"}


def time_once(work: Callable[[], object], device: torch.device) -> float:
    """Return the seconds until some work is done, on the device too.

    Args:
        work: A function without arguments.
        device: The device that it works on.
    """
    synchronise(device)
    started = time.perf_counter()
    work()
    synchronise(device)
    return time.perf_counter() - started


def time_repeatedly(
    work: Callable[[], object], device: torch.device, seconds: float, warm_up: int = 3
) -> float:
    """Return the median time of some work that is repeated for a while.

    Args:
        work: A function without arguments.
        device: The device that it works on.
        seconds: How long to repeat it; it is called twice at least.
        warm_up: Number of calls before, which do not count.

    Returns:
        The median in seconds.
    """
    for _ in range(warm_up):
        work()
    times: list[float] = []
    while len(times) < 2 or sum(times) < seconds:
        times.append(time_once(work, device))
    return statistics.median(times)


def synchronise(device: torch.device) -> None:
    """Wait until a GPU has done what it was given. Other devices need no waiting.

    Args:
        device: Any device of torch.
    """
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def alternate(
    ways: dict[str, Callable[[], object]], rounds: int, device: torch.device
) -> dict[str, list[float]]:
    """Time every way once per round, after one call of each that does not count.

    Args:
        ways: Name -> function without arguments.
        rounds: Number of measured calls of each way.
        device: The device that they work on; a call ends when the device is done.

    Returns:
        Name -> seconds of each measured call.
    """

    def complete(work: Callable[[], object]) -> Callable[[], float]:
        return lambda: time_once(work, device)

    costs = measuring.alternate({name: complete(work) for name, work in ways.items()}, rounds)
    times = {}
    for name, values in costs.items():
        times[name] = [cost.seconds for cost in values]
    return times


def medians(times: dict[str, list[float]]) -> dict[str, float]:
    """Return the median time of each way.

    Args:
        times: Name -> seconds of each call.

    Returns:
        Name -> median in seconds.
    """
    return {name: statistics.median(values) for name, values in times.items()}


class OperatorCount(TorchDispatchMode):
    """Counts the operators that torch dispatches while it is active, views included.

    Replaying a CUDA graph dispatches none of the operators that are recorded in it.

    Attributes:
        total: Number of operators so far.
    """

    def __init__(self) -> None:
        """Begin with none."""
        super().__init__()
        self.total = 0

    def __torch_dispatch__(
        self,
        function: Callable,
        types: Any,
        args: tuple = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        self.total += 1
        return function(*args, **(kwargs or {}))


def count_operators(work: Callable[[], object]) -> int:
    """Return the number of operators that some work dispatches.

    Args:
        work: A function without arguments.
    """
    with OperatorCount() as count:
        work()
    return count.total
