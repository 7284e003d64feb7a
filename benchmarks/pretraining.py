"""Compare the synthesis of pre-training images with that of an earlier version, in turns.

The earlier version is a checkout of it: `git worktree add BEFORE 31b4617`. Each side draws scenes
in a process with one thread. Processor seconds are measured, so that other load of the machine
counts little.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
from pathlib import Path

import torch
from measuring import run_process

NOW = Path(__file__).resolve().parents[1]
BATCH_SIZE, NUM_PROMPTS, INDIVIDUALS = 8, 4, 2


def measure_here(size: int, seconds: float) -> float:
    """Draw scenes with the samnet of this process.

    Args:
        size: Edge of the images in pixels.
        seconds: For how many processor seconds to draw.

    Returns:
        Images drawn in one processor second.
    """
    import time

    from samnet.pretraining.scenes import Scenes

    torch.set_num_threads(1)
    try:
        scenes = Scenes(0, size, NUM_PROMPTS, BATCH_SIZE)
        per_item = INDIVIDUALS * BATCH_SIZE * scenes.batches
    except TypeError:  # before scenes were drawn in batches
        scenes = Scenes(0, size, NUM_PROMPTS)
        per_item = INDIVIDUALS
    for number in range(2):
        scenes[number]
    images, started = 0, time.process_time()
    while time.process_time() - started < seconds:
        scenes[2 + images // per_item]
        images += per_item
    return images / (time.process_time() - started)


def measure(tree: Path, size: int, seconds: float) -> float:
    """Draw scenes with the samnet of a checkout, in a new process.

    Args:
        tree: Folder of the checkout.
        size: Edge of the images in pixels.
        seconds: For how many processor seconds to draw.

    Returns:
        Images drawn in one processor second.
    """
    command = [sys.executable, __file__, "--here", "--sizes", str(size), "--seconds", str(seconds)]
    path = os.pathsep.join([str(tree), str(NOW / "benchmarks")])
    environment = {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    return float(run_process(command, environment).output)


def main() -> None:
    """Print images per processor second of both versions and their ratio, for each size."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--before", type=Path, metavar="TREE", help="checkout to compare with")
    parser.add_argument("--sizes", type=int, nargs="+", default=[112, 224], help="edges in pixels")
    parser.add_argument("--seconds", type=float, default=3.0, help="processor seconds of a turn")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each version")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.here:
        print(measure_here(options.sizes[0], options.seconds))
        return
    trees = [NOW] if options.before is None else [options.before, NOW]
    for size in options.sizes:
        turns = []
        for _ in range(options.rounds):
            turns.append([measure(tree, size, options.seconds) for tree in trees])
        speeds = [statistics.median(side) for side in zip(*turns, strict=True)]
        line = ", ".join(f"{speed:.0f}" for speed in speeds)
        print(f"{size} pixels: {line} images in a processor second")
        ratios = [turn[-1] / turn[0] for turn in turns]
        print(f"  ratio {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")


if __name__ == "__main__":
    main()
