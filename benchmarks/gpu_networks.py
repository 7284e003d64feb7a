"""The lines of `gpu.py` that need no data set: products, training steps, encoders and heads."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from frozen_head import Sides, alternate_steps, prepare_sides, time_step
from gpu_rows import Row, attempt, name_limit, profile_kernels
from operations import count_encoder, count_step
from sam_encoder import shipped_encoder
from synthetic_case import LABEL_SCHEME, prepare
from torch import Tensor, nn
from torch_timing import medians, synchronise, time_repeatedly
from training import draw_batch

from samnet.models.encoder import build_encoder
from samnet.models.model_folder import RunFolder
from samnet.models.network import build_network
from samnet.models.precision import autocast, used_precision
from samnet.plan.backbones import BACKBONES
from samnet.plan.configuration import Configuration
from samnet.preprocessing.storage import StoredCase
from samnet.training.embeddings.samples import collate
from samnet.training.loop import Trainer
from samnet.training.static_step import StaticStep
from samnet.training.step import TrainingStep
from samnet.training.task import TrainingTask

Work = Callable[[], object]
_NUM_SLICES = 16  # of the synthetic case
_HEADS = ("vit", "cnn")
_WANTED_RATIO = 50


@dataclass(frozen=True)
class Sizes:
    """What is measured, and for how long.

    Attributes:
        product: Rows and columns of the product that gives the peak.
        steps: Backbone, edge of the input in pixels and batch of each training step.
        encoder: Backbone of the encoders.
        encoders: Edge of the input in pixels and batch of each encoder.
        heads: Backbone, edge of the input in pixels and batch of the steps from stored embeddings.
        rounds: How often a head's step with the encoder is timed, and after each of these how many
            steps from stored embeddings.
        seconds: How long each of the others is repeated.
    """

    product: int
    steps: tuple[tuple[str, int, int], ...]
    encoder: str
    encoders: tuple[tuple[int, int], ...]
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


# ---- products ------------------------------------------------------------------------------------


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


# ---- training steps ------------------------------------------------------------------------------


def ordinary_step(trainer: Trainer, images: Tensor, target: Tensor) -> Work:
    """Return a step whose operators are launched one by one, and whose loss is read at once."""
    steps = trainer.steps.ordinary if isinstance(trainer.steps, StaticStep) else trainer.steps
    return partial(_make_and_read, steps, images, target, trainer.task.configuration.learning_rate)


def _make_and_read(
    steps: TrainingStep | StaticStep, images: Tensor, target: Tensor, rate: float
) -> list[float]:
    steps.make(images, target, rate, 0)
    return steps.losses()


def static_step(trainer: Trainer, images: Tensor, target: Tensor) -> Work:
    """Return a step on fixed buffers: on a GPU, a replayed CUDA graph whose loss is read later."""
    steps = trainer.steps
    if isinstance(steps, TrainingStep):  # where nothing can be recorded, the work is repeated
        steps = StaticStep(steps, record=lambda work: work)
    return partial(steps.make, images, target, trainer.task.configuration.learning_rate, 0)


# Another way to make a step is one entry. It takes a trainer and a batch in main memory.
STEP_WAYS: Mapping[str, Callable[[Trainer, Tensor, Tensor], Work]] = {
    "one by one": ordinary_step,
    "static": static_step,
}
_STEP_TARGETS = {
    ("small", 224, 16): "10 ms",
    ("small", 224, 128): "25 ms",
    ("vit_b", 224, 16): "20 ms",
    ("vit_b", 448, 4): "20 ms",
    ("vit_b", 1024, 2): "60 ms",
}


def measure_steps(bench: Bench) -> Iterator[Row]:
    """Measure a LoRA step of each size in each way.

    Args:
        bench: Where to measure.

    Yields:
        The rows.
    """
    for size in bench.sizes.steps:
        for way in STEP_WAYS:
            name = f"LoRA step, {size[0]}, {size[1]} x {size[2]}, {way}"
            yield attempt(name, partial(_measure_step, bench, size, way, name))


def _measure_step(bench: Bench, size: tuple[str, int, int], way: str, name: str) -> Row:
    backbone, edge, batch = size
    folder = bench.folder / f"step_{backbone}_{edge}_{batch}_{way}"
    configuration, case = _prepare_step(bench, size, folder)
    trainer = _make_trainer(configuration, case, folder / "run", bench.device)
    started = time.perf_counter()
    images, target = draw_batch(configuration, case, trainer.network)
    drawing = (time.perf_counter() - started) / batch
    if bench.device.type == "cuda":  # as the loader does
        images, target = images.pin_memory(), target.pin_memory()
    step = STEP_WAYS[way](trainer, images, target)
    seconds = time_repeatedly(step, bench.device, bench.sizes.seconds)
    operations = count_step(configuration, 1, LABEL_SCHEME.num_outputs)
    kernels = profile_kernels(step, bench.device)
    share = bench.share(operations, seconds)
    return Row(
        name,
        1e3 * seconds,
        "ms",
        name_limit(seconds, kernels, share, bench.precision),
        _STEP_TARGETS.get(size, ""),
        {
            "images_per_second": batch / seconds,
            "operations": operations,
            "share_of_peak": share,
            "kernel_seconds": kernels and kernels.seconds,
            "launches": kernels and kernels.launches,
            "seconds_to_draw_a_sample_in_one_process": drawing,
            "peak_bytes": _peak_bytes(step, bench.device),
        },
    )


def _prepare_step(
    bench: Bench, size: tuple[str, int, int], folder: Path
) -> tuple[Configuration, StoredCase]:
    backbone, edge, batch = size
    settings = {
        "backbone": backbone,
        "encoder_tuning": "lora",
        "input_size": edge,
        "batch_size": batch,
        "gradient_checkpointing": False,
        "augmentation": "none",
    }
    return prepare(folder, settings, str(bench.device), _NUM_SLICES)


def _make_trainer(
    configuration: Configuration, case: StoredCase, folder: Path, device: torch.device
) -> Trainer:
    torch.manual_seed(0)
    network = build_network(configuration, 1, LABEL_SCHEME.num_outputs)
    task = TrainingTask(configuration, LABEL_SCHEME, [case], [case], False, 0, None, 0)
    return Trainer(network.train(), task, RunFolder(folder), device)


def _peak_bytes(work: Work, device: torch.device) -> int | None:
    if device.type != "cuda":
        return None
    torch.cuda.reset_peak_memory_stats(device)
    work()
    synchronise(device)
    return torch.cuda.max_memory_allocated(device)


# ---- encoders ------------------------------------------------------------------------------------


def own_encoder(backbone: str, size: int) -> nn.Module:
    """Return samnet's encoder."""
    return build_encoder(BACKBONES[backbone], size)


def other_encoder(backbone: str, size: int) -> nn.Module:
    """Return the encoder of `segment_anything`."""
    return shipped_encoder(backbone, size, build_encoder(BACKBONES[backbone], size))


# Another encoder, such as a captured one, is one entry.
ENCODERS: Mapping[str, Callable[[str, int], nn.Module]] = {
    "samnet": own_encoder,
    "segment_anything": other_encoder,
}
_ENCODER_TARGETS = {1024: "350", 512: "900", 448: "2,000"}


def measure_encoders(bench: Bench) -> Iterator[Row]:
    """Measure the forward pass of each encoder at each size.

    Args:
        bench: Where to measure.

    Yields:
        The rows.
    """
    for edge, batch in bench.sizes.encoders:
        for way in ENCODERS:
            name = f"encoder {bench.sizes.encoder}, {edge} x {batch}, {way}"
            yield attempt(name, partial(_measure_encoder, bench, (edge, batch), way, name))


@torch.inference_mode()
def _measure_encoder(bench: Bench, size: tuple[int, int], way: str, name: str) -> Row:
    edge, batch = size
    torch.manual_seed(0)
    encoder = ENCODERS[way](bench.sizes.encoder, edge).eval().to(bench.device)
    images = torch.rand(batch, 3, edge, edge, device=bench.device)

    def encode() -> None:
        with autocast("bfloat16", bench.device):
            encoder(images)

    seconds = time_repeatedly(encode, bench.device, bench.sizes.seconds)
    operations = batch * count_encoder(bench.sizes.encoder, edge)
    kernels = profile_kernels(encode, bench.device)
    share = bench.share(operations, seconds)
    return Row(
        name,
        batch / seconds,
        "images/s",
        name_limit(seconds, kernels, share, bench.precision),
        _ENCODER_TARGETS.get(edge, "") if way == "samnet" else "",
        {
            "seconds": seconds,
            "operations": operations,
            "share_of_peak": share,
            "kernel_seconds": kernels and kernels.seconds,
            "launches": kernels and kernels.launches,
            "peak_bytes": _peak_bytes(encode, bench.device),
        },
    )


# ---- heads ---------------------------------------------------------------------------------------


def measure_heads(bench: Bench) -> Iterator[Row]:
    """Measure heads from stored embeddings against the step with the frozen encoder.

    Args:
        bench: Where to measure.

    Yields:
        The rows.
    """
    for head in _HEADS:
        backbone, edge, batch = bench.sizes.heads
        name = f"head {head} on {backbone}, {edge} x {batch}, from the cache"
        yield attempt(name, partial(_measure_head, bench, head, name))


def _measure_head(bench: Bench, head: str, name: str) -> Row:
    backbone, edge, batch = bench.sizes.heads
    rounds, cached_steps = bench.sizes.rounds
    options = argparse.Namespace(
        backbone=backbone,
        size=edge,
        head=head,
        batch_size=batch,
        kept=max(2, batch),
        device=str(bench.device),
        rounds=rounds,
        cached_steps=cached_steps,
    )
    sides = prepare_sides(options, bench.folder / f"head_{head}")
    seconds = medians(alternate_steps(options, sides.trainer, sides.whole, sides.kept))
    outputs = LABEL_SCHEME.num_outputs
    whole = count_step(sides.configuration, 1, outputs)
    operations = count_step(sides.configuration, 1, outputs, from_cache=True)
    kernels = profile_kernels(_cached_step(sides), bench.device)
    share = bench.share(operations, seconds["cache"])
    ratio = seconds["encoder"] / seconds["cache"]
    limit = name_limit(seconds["cache"], kernels, share, bench.precision)
    return Row(
        name,
        ratio,
        "x",
        f"{limit}; {describe_bound(whole / operations)}",
        f"{_WANTED_RATIO} x",
        {
            "seconds_with_encoder": seconds["encoder"],
            "seconds_from_cache": seconds["cache"],
            "operations_with_encoder": whole,
            "operations_from_cache": operations,
            "ratio_of_operations": whole / operations,
            "share_of_peak": share,
            "kernel_seconds": kernels and kernels.seconds,
            "launches": kernels and kernels.launches,
        },
    )


def describe_bound(ratio: float) -> str:
    """Tell what the ratio of operations allows.

    Args:
        ratio: Operations of a step with the encoder, divided by those of a step from the cache.
    """
    text = f"a step with the encoder has {ratio:.1f} times the operations"
    if ratio >= _WANTED_RATIO:
        return text
    return f"{text}, so at equal speed no more than {ratio:.1f} x can be reached"


def _cached_step(sides: Sides) -> Work:
    return partial(time_step, sides.trainer, sides.kept, collate, 0)
