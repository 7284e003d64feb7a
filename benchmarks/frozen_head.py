"""Compare a head's step from cached embeddings with a step that runs the frozen encoder.

The data are synthetic and the weights random, which takes as long as trained weights. Everything
runs in one process without workers. The two kinds of step alternate, so that other load of the
machine affects both alike. A step is that of a training run: samples are drawn from prepared cases,
or from embeddings on disk; then forward, loss, backward and optimiser. Epochs are not measured but
calculated: an epoch shows each of N slices once, in N / batch steps. A whole training run includes
the encoding, of as many variants of each slice as a training run keeps.

    python benchmarks/frozen_head.py --backbone vit_b --size 1024 --head linear --output result.json
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measuring import describe_machine, machine_line, run_in_folder
from operations import count_step
from synthetic_case import LABEL_SCHEME, prepare
from torch_timing import (
    given_options,
    make_parser,
    medians,
    parse,
    require_precision,
    synchronise,
)

from samnet.models.heads import HEADS
from samnet.models.model_folder import RunFolder
from samnet.models.network import build_network
from samnet.plan.backbones import BACKBONES
from samnet.plan.configuration import Configuration
from samnet.training.embeddings.cache import EmbeddingCache
from samnet.training.embeddings.choice import VARIANTS, CacheChoice, embedding_bytes
from samnet.training.embeddings.encoder import SliceEncoder
from samnet.training.embeddings.samples import EmbeddedSamples, collate, embed_samples
from samnet.training.loop import Trainer
from samnet.training.sampling import SliceSamples
from samnet.training.slice_reader import SampleSpecification
from samnet.training.task import TrainingTask

WANTED_RATIO = 50  # of a step with the encoder to one from the cache


def main() -> None:
    """Run the benchmark."""
    options = parse_options()
    run_in_folder(options, measure, describe)


def parse_options() -> argparse.Namespace:
    """Return the options of the command line.

    Raises:
        SystemExit: samnet computes in another precision on the device.
    """
    parser = make_parser(__doc__)
    parser.add_argument("--backbone", default="vit_b", choices=BACKBONES)
    parser.add_argument(
        "--size", type=int, default=1024, help="edge of the input in pixels (default: 1024)"
    )
    parser.add_argument("--head", default="linear", choices=HEADS, help="default: linear")
    parser.add_argument(
        "--precision",
        default="float32",
        choices=("float32", "bfloat16"),
        help="the precision of both kinds of step (default: float32)",
    )
    parser.add_argument(
        "--processor-time",
        action="store_true",
        help="count the processor time of this process, for a CPU that does other work as well",
    )
    parser.add_argument(
        "--slices", type=int, default=1000, help="slices of the calculated epoch (default: 1000)"
    )
    parser.add_argument(
        "--epochs", type=int, default=120, help="epochs of the calculated run (default: 120)"
    )
    parser.add_argument("--batch-size", type=int, default=2, help="default: 2")
    parser.add_argument(
        "--kept", type=int, default=8, help="slices to encode once and to train on (default: 8)"
    )
    parser.add_argument(
        "--rounds",
        type=int,
        default=3,
        help="rounds of one step with the encoder, then several from the cache (default: 3)",
    )
    parser.add_argument(
        "--cached-steps", type=int, default=10, help="steps from the cache per round (default: 10)"
    )
    options = parse(parser)
    require_precision(options.precision, torch.device(options.device))
    return options


@dataclass(frozen=True)
class Sides:
    """What both kinds of step need.

    Attributes:
        configuration: The configuration of both.
        trainer: Makes the steps.
        whole: Samples for steps with the encoder.
        kept: Samples for steps from the cache.
        encoding: Seconds to encode a slice once.
    """

    configuration: Configuration
    trainer: Trainer
    whole: SliceSamples
    kept: EmbeddedSamples
    encoding: float


def measure(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Encode the slices once, then time both kinds of step.

    Args:
        options: The options of the script.
        folder: A temporary folder.

    Returns:
        Seconds of the steps, of encoding and of reading, and the ratio of the steps.
    """
    sides = prepare_sides(options, folder)
    operations = count_sides(sides)
    times = alternate_steps(options, sides.trainer, sides.whole, sides.kept)
    step = medians(times)
    return {
        "options": given_options(options),
        "machine": describe_machine(options.device),
        "bytes_of_an_embedding": embedding_bytes(options.size),
        "seconds_to_encode_a_slice_once": sides.encoding,
        "seconds_to_read_an_embedding_from_disk": read_from_disk(stored_files(sides.kept)),
        "seconds_of_steps": times,
        "seconds_of_a_step": step,
        "ratio": step["encoder"] / step["cache"],
        "operations_of_steps": operations,
        "ratio_of_operations": operations["encoder"] / operations["cache"],
    }


def prepare_sides(options: argparse.Namespace, folder: Path) -> Sides:
    """Prepare a case and encode its slices once.

    Args:
        options: The options `backbone`, `size`, `head`, `batch_size`, `precision`, `kept`,
            `processor_time` and `device`.
        folder: A temporary folder.

    Returns:
        What both kinds of step need.
    """
    settings = {
        "backbone": options.backbone,
        "encoder_tuning": "frozen",
        "input_size": options.size,
        "head": options.head,
        "batch_size": options.batch_size,
        "precision": options.precision,
    }
    configuration, case = prepare(folder, settings, options.device, options.kept)
    device = torch.device(options.device)
    torch.manual_seed(0)
    network = build_network(configuration, 1, LABEL_SCHEME.num_outputs).to(device).train()
    specification = SampleSpecification(configuration, LABEL_SCHEME, network.stride, seed=0)
    with torch.no_grad():  # the first pass of a network takes longer and must not be timed
        network.embed(torch.zeros(1, 3, options.size, options.size, device=device))
    bytes_each = embedding_bytes(options.size)
    choice = CacheChoice(2 * options.kept * bytes_each / 2**30, 1)
    cache = EmbeddingCache(folder / "kept", choice, [case])
    encoder = SliceEncoder(network, device)
    clock = time.process_time if options.processor_time else time.perf_counter
    started = clock()
    kept = embed_samples(cache, encoder, [case], specification)
    encoding = (clock() - started) / options.kept
    whole = SliceSamples([case], specification)
    task = TrainingTask(configuration, LABEL_SCHEME, [case], [case], False, 0, None, 0)
    trainer = Trainer(network, task, RunFolder(folder / "run"), device)
    return Sides(configuration, trainer, whole, kept, encoding)


def count_sides(sides: Sides) -> dict[str, int]:
    """Count the operations of products in a step of each kind.

    Args:
        sides: What both kinds of step need.

    Returns:
        `encoder` and `cache` -> operations.
    """
    outputs = LABEL_SCHEME.num_outputs
    return {
        "encoder": count_step(sides.configuration, 1, outputs),
        "cache": count_step(sides.configuration, 1, outputs, from_cache=True),
    }


def describe_bound(ratio: float) -> str:
    """Tell what the ratio of operations allows.

    Args:
        ratio: Operations of a step with the encoder, divided by those of a step from the cache.
    """
    text = f"a step with the encoder has {ratio:.1f} times the operations"
    if ratio >= WANTED_RATIO:
        return text
    return f"{text}, so at equal speed no more than {ratio:.1f} x can be reached"


def alternate_steps(
    options: argparse.Namespace, trainer: Trainer, whole: SliceSamples, kept: EmbeddedSamples
) -> dict[str, list[float]]:
    """Time steps of both kinds in turns, after steps of each that warm up and do not count.

    Args:
        options: The options of the script.
        trainer: Makes the steps.
        whole: Samples for steps with the encoder.
        kept: Samples for steps from the cache.

    Returns:
        `encoder` and `cache` -> seconds of each step.
    """
    times: dict[str, list[float]] = {"encoder": [], "cache": []}
    for turn in range(-1, options.rounds):
        counted = turn >= 0
        for name, samples, collate_fn, count in (
            ("encoder", whole, torch.utils.data.default_collate, 1),
            ("cache", kept, collate, options.cached_steps if counted else 2),
        ):
            for step in range(count):
                first = options.batch_size * (100 * turn + 100 + step)
                clock = time.process_time if options.processor_time else time.perf_counter
                seconds = time_step(trainer, samples, collate_fn, first, clock)
                if counted:
                    times[name].append(seconds)
        print(f"round {turn + 1} of {options.rounds}" if counted else "warmed up", flush=True)
    return times


def time_step(
    trainer: Trainer,
    samples: SliceSamples | EmbeddedSamples,
    collate_fn: Callable[[list], Any],
    first: int,
    clock: Callable[[], float] = time.perf_counter,
) -> float:
    """Return the seconds that one step takes, with drawing its samples.

    Args:
        trainer: Makes the step.
        samples: The samples to draw from.
        collate_fn: Makes a batch of a list of samples.
        first: Number of the first sample of the batch.
        clock: Returns seconds.
    """
    numbers = range(first, first + trainer.task.configuration.batch_size)

    synchronise(trainer.device)
    started = clock()
    batch = collate_fn([samples[number] for number in numbers])
    trainer.step(*batch)
    synchronise(trainer.device)
    return clock() - started


def stored_files(kept: EmbeddedSamples) -> list[Path]:
    """Return the files of all embeddings, each once.

    Args:
        kept: Samples of embeddings on disk.
    """
    index = kept.embedded
    blocks = {index[number].block for number in range(len(index))}
    return [index.file(block) for block in sorted(blocks)]


def read_from_disk(files: list[Path]) -> float | None:
    """Return the median time to read one embedding that the system does not hold in memory.

    Args:
        files: The files of the embeddings.

    Returns:
        The time in seconds; None where the system cannot be told to drop a file from its memory.
    """
    if not hasattr(os, "posix_fadvise"):
        return None
    seconds = []
    for file in files:
        with file.open("rb") as handle:
            os.posix_fadvise(handle.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        for row in range(len(np.load(file, mmap_mode="r"))):
            started = time.perf_counter()
            np.array(np.load(file, mmap_mode="r")[row])
            seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


def describe(result: dict[str, Any]) -> str:
    """Return the result as text, with the calculated epochs.

    Args:
        result: The result of `measure`.
    """
    given, step = result["options"], result["seconds_of_a_step"]
    counts = {name: len(values) for name, values in result["seconds_of_steps"].items()}
    once = result["seconds_to_encode_a_slice_once"]
    steps = given["slices"] / given["batch_size"]
    encoding = given["slices"] * once
    with_encoder, from_cache = steps * step["encoder"], steps * step["cache"]
    gigabytes = result["bytes_of_an_embedding"] * given["slices"] / 1e9
    speedups = []
    for variants in (1, VARIANTS):
        cached = variants * encoding + given["epochs"] * from_cache
        speedup = given["epochs"] * with_encoder / cached
        speedups.append(f"{speedup:.0f} with {variants} variant(s) of each slice")
    lines = [
        f"{given['backbone']} at {given['size']}, head {given['head']}, "
        f"batch {given['batch_size']}; {machine_line(result['machine'])}",
        f"measured, medians: a step with the encoder {step['encoder']:.3f} s "
        f"({counts['encoder']} steps), from the cache {step['cache']:.4f} s "
        f"({counts['cache']} steps)",
        f"ratio: {result['ratio']:.1f}; {describe_bound(result['ratio_of_operations'])}",
        f"an epoch of {given['slices']} slices is {steps:.0f} such steps: "
        f"{with_encoder:.0f} s with the encoder, {from_cache:.1f} s from the cache",
        f"encoding once: {once:.3f} s a slice (of {given['kept']}), {encoding:.0f} s for a "
        f"variant of each, {gigabytes:.2f} GB; gained back after "
        f"{encoding / (with_encoder - from_cache):.1f} epochs",
        f"{given['epochs']} epochs, times as fast as with the encoder, the encoding included: "
        f"{', '.join(speedups)}",
    ]
    read = result["seconds_to_read_an_embedding_from_disk"]
    if read is not None:
        lines.append(
            f"an embedding that is not in memory is read from disk in {1e3 * read:.1f} ms "
            "(not included in any step)"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
