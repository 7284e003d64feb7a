"""Measure everything that counts on a GPU, and tell at each line what limits it.

    product      the speed of a large product in bfloat16 and float32, the peak of the other lines
    steps        LoRA steps of the small backbone and of ViT-B, as the training loop makes them
    encoders     ViT-B's forward pass at 1024, 512 and 448 pixels, samnet's and segment_anything's
    predictions  what the small backbone at 224 and ViT-B at 448 make of a full batch, with a head
    heads        the heads `vit` and `cnn` from stored embeddings against the step with the encoder
    dataset      a data set prepared, a training run of 60 s on all its cases, its test cases
                 predicted and scored; needs its raw data in samnet_raw

Weights are random, except those of the small backbone on the data set. A line that fails, such as
for want of memory, becomes a row with its reason, and the exit code is 1. What limits a line is
told by the time in kernels (launches, where it is much less than the time that passes), by the
share of the peak (arithmetic), by the time that a training run waits for its loader, and by the
time that reading takes (disk). On a CPU there are no kernels to count.

    python benchmarks/gpu.py --output result.json
    python benchmarks/gpu.py --device cpu --tiny
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import torch
from gpu_bench import Bench, Sizes, measure_peaks
from gpu_dataset import DatasetWork, measure_dataset
from gpu_encoders import measure_encoders, measure_predictions
from gpu_heads import measure_heads
from gpu_rows import Row, as_json, describe_rows
from gpu_steps import measure_steps
from measuring import describe_machine, machine_line, write_result
from torch_timing import given_options, make_parser, parse

from samnet.core.machine import choose_device

FULL = Sizes(
    product=8192,
    steps=(
        ("small", 224, 16),
        ("small", 224, 128),
        ("vit_b", 224, 16),
        ("vit_b", 448, 4),
        ("vit_b", 1024, 2),
    ),
    encoder="vit_b",
    encoders=((1024, 8), (512, 16), (448, 16)),
    predictions=(("small", 224, 32), ("vit_b", 448, 16)),
    heads=("vit_b", 1024, 2),
    rounds=(3, 10),
    seconds=2.0,
)
TINY = Sizes(
    product=128,
    steps=(("small", 64, 2),),
    encoder="small",
    encoders=((64, 1), (240, 1)),
    predictions=(("small", 64, 2),),
    heads=("small", 64, 1),
    rounds=(1, 1),
    seconds=0.0,
)
# How long `samnet_train` is told to train on the data set.
FULL_LENGTH, TINY_LENGTH = ("--max-time", "60s"), ("--steps", "1", "--workers", "0")
SECTIONS = ("product", "steps", "encoders", "predictions", "heads", "dataset")


def main() -> None:
    """Run the benchmark."""
    options = parse_options()
    started = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="samnet-benchmark-", dir=options.work) as folder:
        sections = measure(options, Path(folder))
    seconds = time.perf_counter() - started
    machine = describe_machine(options.device)
    print(f"\n{machine_line(machine)}\nall of it took {seconds:.0f} s")
    print(describe_rows(sections))
    result = {
        "options": given_options(options),
        "machine": machine,
        "seconds": seconds,
        "sections": as_json(sections),
    }
    write_result(result, options.output)
    rows = [row for rows in sections.values() for row in rows]
    sys.exit(any(row.failure is not None for row in rows))


def parse_options() -> argparse.Namespace:
    """Return the options of the command line."""
    parser = make_parser(__doc__)
    parser.set_defaults(device=None)
    parser.add_argument(
        "--sections", nargs="+", default=list(SECTIONS), choices=SECTIONS, help="default: all"
    )
    parser.add_argument(
        "--tiny",
        action="store_true",
        help="tiny sizes and a training run of one step: to see that everything runs, also on a "
        "CPU; its figures mean nothing",
    )
    parser.add_argument(
        "--dataset", default="4", metavar="ID", help="the data set (default: 4, hippocampus)"
    )
    parser.add_argument(
        "--preprocessed",
        type=Path,
        metavar="FOLDER",
        help="a folder of prepared data sets; what is planned there is not prepared again "
        "(default: the temporary folder)",
    )
    parser.add_argument(
        "--work", type=Path, metavar="FOLDER", help="where to put the temporary folder"
    )
    options = parse(parser)
    options.device = choose_device(options.device)
    return options


def measure(options: argparse.Namespace, folder: Path) -> dict[str, list[Row]]:
    """Measure the sections that were chosen, and print each row as it comes.

    Args:
        options: The options of the script.
        folder: A temporary folder.

    Returns:
        Name of the section -> its rows.
    """
    # The other sections let samnet's folders point to synthetic data.
    raw = os.environ.get("samnet_raw")
    bench = Bench(torch.device(options.device), TINY if options.tiny else FULL, folder, {})
    ways: dict[str, Callable[[], Iterator[Row]]] = {
        "product": partial(measure_peaks, bench),
        "steps": partial(measure_steps, bench),
        "encoders": partial(measure_encoders, bench),
        "predictions": partial(measure_predictions, bench),
        "heads": partial(measure_heads, bench),
        "dataset": partial(measure_dataset, dataset_work(options, raw, folder)),
    }
    sections: dict[str, list[Row]] = {}
    for name in SECTIONS:
        if name not in options.sections:
            continue
        sections[name] = []
        for row in ways[name]():
            sections[name].append(row)
            print(describe_rows({name: [row]}), flush=True)
    return sections


def dataset_work(options: argparse.Namespace, raw: str | None, folder: Path) -> DatasetWork:
    """Return what is done with the data set.

    Args:
        options: The options of the script.
        raw: The folder of raw data sets; None where none is known.
        folder: A temporary folder.
    """
    return DatasetWork(
        raw=Path(raw) if raw else None,
        preprocessed=options.preprocessed or folder / "prepared",
        identifier=options.dataset,
        length=TINY_LENGTH if options.tiny else FULL_LENGTH,
        device=options.device,
        folder=folder,
    )


if __name__ == "__main__":
    main()
