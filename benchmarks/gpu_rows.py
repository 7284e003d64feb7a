"""The rows of `gpu.py`: what was measured, what limits it, and what failed by itself."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile
from torch_timing import synchronise

from samnet.core.worker_pool import describe_error

_BUSY = 0.7  # share of the time in kernels below which launches limit the work
_NEAR_PEAK = 0.5  # share of the peak from which on arithmetic limits it
_PROFILED_CALLS = 3


@dataclass(frozen=True)
class Row:
    """A line of the table.

    Attributes:
        work: What was measured.
        value: The figure; None where there is none.
        unit: Its unit.
        limit: What limits it, and by which figures this is told.
        target: What issue or documentation ask for on an H100; empty where nothing is.
        details: Other figures, by name.
        failure: Why it could not be measured; None where it was.
        skipped: Why it was left out; None where it was not.
    """

    work: str
    value: float | None = None
    unit: str = ""
    limit: str = ""
    target: str = ""
    details: dict[str, Any] = field(default_factory=dict)
    failure: str | None = None
    skipped: str | None = None


@dataclass(frozen=True)
class KernelCost:
    """What some work costs a GPU.

    Attributes:
        seconds: Time in kernels and copies.
        launches: Number of kernels and copies.
    """

    seconds: float
    launches: int


def attempt(work: str, measure: Callable[[], Row]) -> Row:
    """Measure one line. An error of it, such as memory that runs out, becomes a row.

    Args:
        work: What is measured.
        measure: Measures it.

    Returns:
        The row, or one with the reason of the failure.
    """
    try:
        return measure()
    # `SystemExit` is what a process that fails becomes.
    except (Exception, SystemExit) as error:
        failure = describe_error(error)
    finally:
        # What is left of this line must not be missing in the next one.
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
    return Row(work, failure=failure)


def profile_kernels(work: Callable[[], object], device: torch.device) -> KernelCost | None:
    """Measure what one call of some work costs a GPU, in several calls.

    Args:
        work: A function without arguments.
        device: The device that it works on.

    Returns:
        The cost of one call; None on other devices, which have no kernels to count.
    """
    if device.type != "cuda":
        return None
    synchronise(device)
    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        for _ in range(_PROFILED_CALLS):
            work()
        synchronise(device)
    whole = sum_kernels(profiler.key_averages())
    return KernelCost(whole.seconds / _PROFILED_CALLS, round(whole.launches / _PROFILED_CALLS))


def sum_kernels(events: Iterable[Any]) -> KernelCost:
    """Add up the kernels and copies of a profile.

    Args:
        events: Averaged events of a profile. Those of the processor, and names that a program gave
            to stretches of time, do not count.

    Returns:
        The cost of all of them.
    """
    microseconds, launches = 0.0, 0
    for event in events:
        is_name = getattr(event, "is_user_annotation", False)
        if event.device_type == DeviceType.CUDA and not is_name:
            microseconds += event.self_device_time_total
            launches += event.count
    return KernelCost(microseconds / 1e6, launches)


def name_limit(
    seconds: float, kernels: KernelCost | None, share: float, precision: str = "bf16"
) -> str:
    """Tell what limits some work on a device.

    Args:
        seconds: Time that it takes.
        kernels: What it costs the GPU; None on other devices.
        share: Its operations in a second, as a share of the measured peak.
        precision: The precision of that peak.

    Returns:
        The limit, with the figures by which it is told.
    """
    of_peak = f"{share:.2f} of the {precision} peak"
    if kernels is None:
        return f"the processor: {of_peak}"
    busy = min(1.0, kernels.seconds / seconds)
    in_kernels = f"kernels {1e3 * kernels.seconds:.1f} of {1e3 * seconds:.1f} ms"
    if busy < _BUSY:
        return f"launches: {in_kernels}, {kernels.launches} launches; {of_peak}"
    if share >= _NEAR_PEAK:
        return f"arithmetic: {of_peak}; {in_kernels}"
    return f"kernels other than large products: {in_kernels}; {of_peak}"


def describe_rows(sections: dict[str, Sequence[Row]]) -> str:
    """Return all rows as one table of text.

    Args:
        sections: Name of the section -> its rows.
    """
    lines = []
    for name, rows in sections.items():
        lines.append(f"\n{name}")
        lines += [f"  {line}" for row in rows for line in _lines_of(row)]
    return "\n".join(lines)


def _lines_of(row: Row) -> Iterator[str]:
    if row.failure is not None:
        yield f"{row.work:<44} FAILED: {row.failure}"
        return
    if row.skipped is not None:
        yield f"{row.work:<44} skipped: {row.skipped}"
        return
    target = f"   (H100: {row.target})" if row.target else ""
    value = "" if row.value is None else f"{row.value:>10.4g} {row.unit}"
    yield f"{row.work:<44} {value}{target}"
    if row.limit:
        yield f"    limited by {row.limit}"


def as_json(sections: dict[str, Sequence[Row]]) -> dict[str, list[dict[str, Any]]]:
    """Return all rows, ready for JSON.

    Args:
        sections: Name of the section -> its rows.
    """
    result = {}
    for name, rows in sections.items():
        result[name] = [asdict(row) for row in rows]
    return result
