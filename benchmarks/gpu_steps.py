"""The training steps of `gpu.py`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path

import torch
from gpu_bench import Bench, Work, peak_bytes
from gpu_rows import Row, attempt, name_limit, profile_kernels
from operations import count_step
from synthetic_case import LABEL_SCHEME, prepare
from torch import Tensor
from torch_timing import time_repeatedly
from training import draw_batch

from samnet.models.model_folder import RunFolder
from samnet.models.network import build_network
from samnet.plan.configuration import Configuration
from samnet.preprocessing.storage import StoredCase
from samnet.training.loop import Trainer
from samnet.training.static_step import StaticStep
from samnet.training.step import TrainingStep
from samnet.training.task import TrainingTask

_NUM_SLICES = 16  # of the synthetic case


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
            "peak_bytes": peak_bytes(step, bench.device),
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
