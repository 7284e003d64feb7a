"""What the lines of `gpu.py` have in common: sizes, device and peak of products."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from gpu_rows import Row, attempt
from torch_timing import synchronise, time_repeatedly

from samnet.models.precision import used_precision

Work = Callable[[], object]


@dataclass(frozen=True)
class Sizes:
    """What is measured, and for how long.

    Attributes:
        product: Rows and columns of the product that gives the peak.
        steps: Backbone, edge of the input in pixels and batch of each training step.
        encoder: Backbone of the encoders.
        encoders: Edge of the input in pixels and batch of each encoder.
        predictions: Backbone, edge of the input in pixels and batch of each prediction.
        heads: Backbone, edge of the input in pixels and batch of the steps from stored embeddings.
        rounds: How often a head's step with the encoder is timed, and after each of these how many
            steps from stored embeddings.
        seconds: How long each of the others is repeated.
    """

    product: int
    steps: tuple[tuple[str, int, int], ...]
    encoder: str
    encoders: tuple[tuple[int, int], ...]
    predictions: tuple[tuple[str, int, int], ...]
    heads: tuple[str, int, int]
    rounds: tuple[int, int]
    seconds: float


@dataclass(frozen=True)
class Bench:
    """Where the lines are measured.

    Attributes:
        device: The device.
        sizes: What is measured.
        folder: A temporary folder.
        peaks: Operations in a second of the large product, by precision; filled by the first
            section.
    """

    device: torch.device
    sizes: Sizes
    folder: Path
    peaks: dict[str, float]

    @property
    def precision(self) -> str:
        """The precision in which networks compute on the device, as planned for a GPU."""
        return used_precision("bfloat16", self.device)

    def share(self, operations: float, seconds: float, precision: str | None = None) -> float:
        """Return operations in a second as a share of the measured peak.

        Args:
            operations: Operations that are needed.
            seconds: The time they took.
            precision: The precision of the peak; None for that of networks on this device.

        Returns:
            The share; NaN where the peak could not be measured.
        """
        peak = self.peaks.get(precision or self.precision, float("nan"))
        return operations / seconds / peak


def peak_bytes(work: Work, device: torch.device) -> int | None:
    """Return the memory of a GPU that is taken at the peak of some work.

    Args:
        work: A function without arguments.
        device: The device that it works on.

    Returns:
        Bytes, those taken before included; None on other devices.
    """
    if device.type != "cuda":
        return None
    torch.cuda.reset_peak_memory_stats(device)
    work()
    synchronise(device)
    return torch.cuda.max_memory_allocated(device)


def measure_peaks(bench: Bench) -> Iterator[Row]:
    """Measure the speed of a large product in each precision.

    Args:
        bench: Where to measure. Its `peaks` are filled.

    Yields:
        The rows.
    """
    for precision in ("bfloat16", "float32"):
        yield attempt(f"product, {precision}", partial(_measure_peak, bench, precision))


def _measure_peak(bench: Bench, precision: str) -> Row:
    size, dtype = bench.sizes.product, getattr(torch, precision)
    left, right = (torch.rand(size, size, device=bench.device, dtype=dtype) for _ in range(2))
    product = torch.empty_like(left)
    multiply = partial(torch.mm, left, right, out=product)
    seconds = time_repeatedly(multiply, bench.device, bench.sizes.seconds)
    bench.peaks[precision] = 2 * size**3 / seconds
    return Row(
        f"product, {precision}, {size} x {size}",
        bench.peaks[precision] / 1e12,
        "TFLOP/s",
        "arithmetic: this is the peak of the other lines",
    )
