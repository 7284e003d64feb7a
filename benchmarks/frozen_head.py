"""How much faster a head trains on a frozen encoder's kept embeddings than with the encoder at every step.

Made data and random weights, which take as long as trained ones. One process, no workers; the two kinds of step
alternate, so that whatever else the machine does meets both. A step is a training's own: samples drawn from prepared
cases, or from embeddings on disk; forward, loss, backward, optimiser. Epochs are not measured but multiplied: one shows
each of N slices once, in N / batch steps. A whole training counts the encoding, too, of as many views of each slice as
a training keeps.

    python benchmarks/frozen_head.py --backbone vit_b --size 1024 --head linear --output result.json
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measuring import describe_machine, machine_line, run_in_folder
from synthetic_case import LABELS, prepare
from torch_timing import asked, make_parser, medians, parse, time_once

from samnet.models.network import build_network
from samnet.plan.configuration import CHOICES
from samnet.training.embeddings.cache import EmbeddingCache
from samnet.training.embeddings.choice import VIEWS, CacheChoice, embedding_bytes
from samnet.training.embeddings.encoder import SliceEncoder
from samnet.training.embeddings.samples import EmbeddedSamples, collate, embed_samples
from samnet.training.loop import Trainer
from samnet.training.sampling import SliceSamples
from samnet.training.task import TrainingTask


def main() -> None:
    options = parse_options()
    run_in_folder(options, measure, describe)


def parse_options() -> argparse.Namespace:
    parser = make_parser(__doc__)
    parser.add_argument("--backbone", default="vit_b", choices=CHOICES["backbone"])
    parser.add_argument(
        "--size", type=int, default=1024, help="edge of the input in pixels (default: 1024)"
    )
    parser.add_argument("--head", default="linear", choices=CHOICES["head"], help="default: linear")
    parser.add_argument(
        "--slices", type=int, default=1000, help="of the epoch that is worked out (default: 1000)"
    )
    parser.add_argument(
        "--epochs", type=int, default=120, help="of the training that is worked out (default: 120)"
    )
    parser.add_argument("--batch-size", type=int, default=2, help="default: 2")
    parser.add_argument(
        "--kept", type=int, default=8, help="slices to encode once and to train on (default: 8)"
    )
    parser.add_argument(
        "--rounds", type=int, default=3, help="of a step with the encoder, then some from the cache"
    )
    parser.add_argument("--cached-steps", type=int, default=10, help="of each round (default: 10)")
    return parse(parser)


def measure(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    settings = {
        "backbone": options.backbone,
        "encoder_tuning": "frozen",
        "input_size": options.size,
        "head": options.head,
        "batch_size": options.batch_size,
    }
    configuration, case = prepare(folder, settings, options.device, options.kept)
    device = torch.device(options.device)
    torch.manual_seed(0)
    network = build_network(configuration, 1, len(LABELS)).to(device).train()
    given: dict[str, Any] = {"stride": network.stride, "seed": 0}
    with torch.no_grad():  # what only the first pass takes time for
        network.embed(torch.zeros(1, 3, options.size, options.size, device=device))
    cache = EmbeddingCache(
        folder / "kept", CacheChoice(2 * options.kept * bytes_each(options) / 2**30, 1), [case]
    )
    started = time.perf_counter()
    kept = embed_samples(
        cache, SliceEncoder(network, device), [case], configuration, ignore_label=None, **given
    )
    encoding = (time.perf_counter() - started) / options.kept
    whole = SliceSamples([case], configuration, **given)
    task = TrainingTask(configuration, tuple(LABELS)[1:], None, [case], [case], False, 0, None, 0)
    times = alternate_steps(options, Trainer(network, task, folder / "run", device), whole, kept)
    step = medians(times)
    return {
        "asked": asked(options),
        "machine": describe_machine(options.device),
        "bytes_of_an_embedding": bytes_each(options),
        "seconds_to_encode_a_slice_once": encoding,
        "seconds_to_read_an_embedding_from_disk": read_from_disk(kept.files),
        "seconds_of_steps": times,
        "seconds_of_a_step": step,
        "ratio": step["encoder"] / step["cache"],
    }


def bytes_each(options: argparse.Namespace) -> int:
    return embedding_bytes(options.size)


def alternate_steps(
    options: argparse.Namespace, trainer: Trainer, whole: SliceSamples, kept: EmbeddedSamples
) -> dict[str, list[float]]:
    """Seconds of each step of each kind; the first of each warms up and does not count."""
    times: dict[str, list[float]] = {"encoder": [], "cache": []}
    for turn in range(-1, options.rounds):
        counted = turn >= 0
        for name, samples, collate_fn, count in (
            ("encoder", whole, torch.utils.data.default_collate, 1),
            ("cache", kept, collate, options.cached_steps if counted else 2),
        ):
            for step in range(count):
                seconds = time_step(
                    trainer, samples, collate_fn, options.batch_size * (100 * turn + 100 + step)
                )
                if counted:
                    times[name].append(seconds)
        print(f"round {turn + 1} of {options.rounds}" if counted else "warmed up", flush=True)
    return times


def time_step(
    trainer: Trainer, samples: SliceSamples, collate_fn: Callable[[list], Any], first: int
) -> float:
    numbers = range(first, first + trainer.task.configuration.batch_size)
    return time_once(
        lambda: trainer._step(*collate_fn([samples[number] for number in numbers])), trainer.device
    )


def read_from_disk(files: list[Path]) -> float | None:
    """The median time to read one embedding that the system does not hold in memory; None where that cannot be had."""
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
    given, step = result["asked"], result["seconds_of_a_step"]
    counts = {name: len(values) for name, values in result["seconds_of_steps"].items()}
    steps = given["slices"] / given["batch_size"]
    once = given["slices"] * result["seconds_to_encode_a_slice_once"]
    whole = given["epochs"] * steps
    saved = steps * (step["encoder"] - step["cache"])
    read = result["seconds_to_read_an_embedding_from_disk"]
    lines = [
        f"{given['backbone']} at {given['size']}, head {given['head']}, batch {given['batch_size']}; "
        f"{machine_line(result['machine'])}",
        f"measured, medians: a step with the encoder {step['encoder']:.3f} s ({counts['encoder']} steps), "
        f"from the cache {step['cache']:.4f} s ({counts['cache']} steps)",
        f"ratio: {result['ratio']:.1f}",
        f"an epoch of {given['slices']} slices is {steps:.0f} such steps: {steps * step['encoder']:.0f} s with the "
        f"encoder, {steps * step['cache']:.1f} s from the cache",
        f"encoding once: {result['seconds_to_encode_a_slice_once']:.3f} s a slice (of {given['kept']}), {once:.0f} s "
        f"for a view of each, {result['bytes_of_an_embedding'] * given['slices'] / 1e9:.2f} GB; made up for after "
        f"{once / saved:.1f} epochs",
        f"{given['epochs']} epochs, times as fast as with the encoder, the encoding counted in: "
        + ", ".join(
            f"{whole * step['encoder'] / (views * once + whole * step['cache']):.0f} with {views} view(s) of each slice"
            for views in (1, VIEWS)
        ),
    ]
    if read is not None:
        lines.append(
            f"an embedding that is not in memory is read from disk in {1e3 * read:.1f} ms (in none of the steps)"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
