"""The heads of `gpu.py`, from stored embeddings."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from functools import partial

from frozen_head import (
    WANTED_RATIO,
    Sides,
    alternate_steps,
    count_sides,
    describe_bound,
    prepare_sides,
    time_step,
)
from gpu_bench import Bench, Work
from gpu_rows import Row, attempt, name_limit, profile_kernels
from torch_timing import medians

from samnet.training.embeddings.samples import collate

_HEADS = ("vit", "cnn")


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
        precision=bench.precision,
        processor_time=False,
        kept=max(2, batch),
        device=str(bench.device),
        rounds=rounds,
        cached_steps=cached_steps,
    )
    sides = prepare_sides(options, bench.folder / f"head_{head}")
    seconds = medians(alternate_steps(options, sides.trainer, sides.whole, sides.kept))
    operations = count_sides(sides)
    kernels = profile_kernels(_cached_step(sides), bench.device)
    share = bench.share(operations["cache"], seconds["cache"])
    ratio = seconds["encoder"] / seconds["cache"]
    ratio_of_operations = operations["encoder"] / operations["cache"]
    limit = name_limit(seconds["cache"], kernels, share, bench.precision)
    return Row(
        name,
        ratio,
        "x",
        f"{limit}; {describe_bound(ratio_of_operations)}",
        f"{WANTED_RATIO} x",
        {
            "seconds_with_encoder": seconds["encoder"],
            "seconds_from_cache": seconds["cache"],
            "operations_with_encoder": operations["encoder"],
            "operations_from_cache": operations["cache"],
            "ratio_of_operations": ratio_of_operations,
            "share_of_peak": share,
            "kernel_seconds": kernels and kernels.seconds,
            "launches": kernels and kernels.launches,
        },
    )


def _cached_step(sides: Sides) -> Work:
    return partial(time_step, sides.trainer, sides.kept, collate, 0)
