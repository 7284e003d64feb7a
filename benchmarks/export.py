"""Measure the export: from logits at the network's resolution to the label map of a volume.

Measured are time and peak memory of the process. Three ways start from one file of logits, each in
a separate process (`export_sides.py`), and take turns:

    samnet       samnet's reconstruction; slices are read as they come from a network
    transcribed  the method of nnU-Net's export written down plainly: all classes at the volume's
                 size in single precision, then the largest
    nnunet       nnU-Net's own functions in its own environment, in half precision as it predicts;
                 needs --nnunet-python

Importing packages is not timed. Reading the logits is timed for samnet, and not for the other two.

The logits are synthetic: ellipsoids of all classes, with noise. samnet averages probabilities,
nnU-Net averages logits, so labels may differ at edges of classes. `agreement` is the share of
equal labels.

    python benchmarks/export.py --output result.json
    python benchmarks/export.py --slices 40 --nnunet-python ENV/bin/python
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from measuring import Cost, describe_machine, median_cost, run_in_folder, run_process

SIDES = Path(__file__).with_name("export_sides.py")
STRIDE = 4  # input pixels of the network per logit, as of SAM's mask decoder


@dataclass(frozen=True)
class ExportCost(Cost):
    """What an export took.

    Attributes:
        seconds: Elapsed time in seconds.
        cpu_seconds: Processor time in seconds, summed over all cores.
        peak_bytes: Largest main memory of the process in bytes.
    """

    peak_bytes: int


def main() -> None:
    """Run the benchmark."""
    options = parse()
    run_in_folder(options, measure, describe)


def parse() -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--slices", type=int, default=400, help="default: 400")
    parser.add_argument(
        "--size", type=int, default=512, help="edge of a slice in pixels (default: 512)"
    )
    parser.add_argument(
        "--classes", type=int, default=60, help="classes with the background (default: 60)"
    )
    parser.add_argument(
        "--input-size",
        type=int,
        default=448,
        help="edge of the network's input in pixels; logits have a quarter (default: 448)",
    )
    parser.add_argument("--rounds", type=int, default=3, help="default: 3")
    parser.add_argument("--threads", type=int, default=1, help="threads of torch (default: 1)")
    parser.add_argument(
        "--without",
        nargs="*",
        default=[],
        metavar="WAY",
        help="ways to leave out, such as transcribed",
    )
    parser.add_argument(
        "--nnunet-python", metavar="FILE", help="Python of an environment with nnU-Net 2.8"
    )
    parser.add_argument(
        "--work",
        type=Path,
        metavar="FOLDER",
        help="folder for the logits (default: the system's temporary folder)",
    )
    parser.add_argument("--output", type=Path, metavar="FILE.json")
    return parser.parse_args()


def make_logits(file: Path, shape: tuple[int, int, int, int]) -> None:
    """Write synthetic logits in half precision: ellipsoids in a volume, background between them.

    Args:
        file: The file to write, without a header.
        shape: Numbers of slices, classes, rows and columns `(N, K, h, w)`.
    """
    num_slices, num_classes, *size = shape
    generator = np.random.default_rng(0)
    centres = generator.uniform(0.15, 0.85, (num_classes - 1, 3)).astype(np.float32)
    radii = generator.uniform(0.03, 0.15, (num_classes - 1, 3)).astype(np.float32)

    def squared_distances(count: int, axis: int) -> np.ndarray:
        """Squares of distances to the centres along an axis in radii, `(K - 1, count)`."""
        positions = (np.arange(count, dtype=np.float32) + 0.5) / count
        return ((positions - centres[:, [axis]]) / radii[:, [axis]]) ** 2

    across, down, along = (
        squared_distances(count, axis) for axis, count in enumerate((num_slices, *size))
    )
    with file.open("wb") as handle:
        for index in range(num_slices):
            distances = np.sqrt(across[:, index, None, None] + down[:, :, None] + along[:, None, :])
            logits = 0.3 * generator.standard_normal(shape[1:], np.float32)
            logits[1:] += np.clip(8 * (1 - distances), -8, 8)
            handle.write(logits.astype(np.float16).tobytes())


def measure(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Run every way in turns.

    Args:
        options: The options of the script.
        folder: A temporary folder.

    Returns:
        The medians of each way, and samnet's ratios to the others.
    """
    edge = options.input_size // STRIDE
    shape = (options.slices, options.classes, edge, edge)
    logits = folder / "logits"
    make_logits(logits, shape)
    pythons = {
        "samnet": sys.executable,
        "transcribed": sys.executable,
        "nnunet": options.nnunet_python,
    }
    pythons = {
        way: python for way, python in pythons.items() if python and way not in options.without
    }
    given = ["--logits", str(logits), "--shape", *map(str, shape)]
    given += ["--size", str(options.size), "--threads", str(options.threads)]
    costs: dict[str, list[ExportCost]] = {way: [] for way in pythons}
    for turn in range(options.rounds):
        for way, python in pythons.items():
            command = [python, str(SIDES), way, *given, "--labels", str(folder / f"{way}.npy")]
            costs[way].append(ExportCost(**json.loads(run_process(command).output)))
        print(f"round {turn + 1} of {options.rounds}", flush=True)
    labels = {way: np.load(folder / f"{way}.npy") for way in pythons}
    medians = {way: median_cost(values) for way, values in costs.items()}
    ours = medians["samnet"]
    ratios = {
        way: {
            "times_as_fast": other["seconds"] / ours["seconds"],
            "times_less_processor_time": other["cpu_seconds"] / ours["cpu_seconds"],
            "share_of_memory": ours["peak_bytes"] / other["peak_bytes"],
            "agreement": float((labels[way] == labels["samnet"]).mean()),
        }
        for way, other in medians.items()
        if way != "samnet"
    }
    return {
        "options": vars(options),
        "machine": describe_machine(),
        "medians": medians,
        "samnet_against": ratios,
    }


def describe(result: dict[str, Any]) -> str:
    """Return the result as text.

    Args:
        result: The result of `measure`.
    """
    lines = [
        f"{way}: {cost['seconds']:.1f} s, {cost['cpu_seconds']:.1f} s of processor time, "
        f"{cost['peak_bytes'] / 2**30:.2f} GiB at the peak"
        for way, cost in result["medians"].items()
    ]
    lines += [
        f"samnet against {way}: {ratio['times_as_fast']:.1f} x as fast "
        f"({ratio['times_less_processor_time']:.1f} x by processor time), "
        f"{ratio['share_of_memory']:.3f} of the memory, "
        f"{100 * ratio['agreement']:.2f} % equal labels"
        for way, ratio in result["samnet_against"].items()
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
