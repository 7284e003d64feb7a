"""From logits at the network's resolution to the label map of a volume: time, and peak memory of the process.

Three ways from one file of logits, each in a process of its own, in turns (`export_sides.py`): `samnet`, its
reconstruction, with slices read as they come from a network; `transcribed`, the method of nnU-Net's export written down
plainly (all classes at the volume's size in single precision, then the largest); with --nnunet-python, `nnunet`,
nnU-Net's own functions in its own environment, in half precision as it predicts. The clock does not run while packages
are imported, nor while all logits are read for the others; samnet's reading counts.

The logits are made: ellipsoids of all classes, with noise. samnet averages probabilities, nnU-Net logits: labels may
differ at edges of classes. `agreement` is the share of equal ones.

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
STRIDE = 4  # input pixels of a network for each of its logits, as of SAM's mask decoder


@dataclass(frozen=True)
class ExportCost(Cost):
    """peak_bytes: of main memory."""

    peak_bytes: int


def main() -> None:
    options = parse()
    run_in_folder(options, measure, describe)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--slices", type=int, default=400, help="default: 400")
    parser.add_argument(
        "--size", type=int, default=512, help="edge of a slice in pixels (default: 512)"
    )
    parser.add_argument("--classes", type=int, default=60, help="with the background (default: 60)")
    parser.add_argument(
        "--input-size",
        type=int,
        default=448,
        help="of the network; logits are a quarter (default: 448)",
    )
    parser.add_argument("--rounds", type=int, default=3, help="default: 3")
    parser.add_argument("--threads", type=int, default=1, help="of torch (default: 1)")
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
        "--work", type=Path, metavar="FOLDER", help="for the logits (default: the system's)"
    )
    parser.add_argument("--output", type=Path, metavar="FILE.json")
    return parser.parse_args()


def make_logits(file: Path, shape: tuple[int, int, int, int]) -> None:
    """Write logits `(N, K, h, w)` in half precision: ellipsoids in the volume, background between them."""
    num_slices, num_classes, *size = shape
    generator = np.random.default_rng(0)
    centres = generator.uniform(0.15, 0.85, (num_classes - 1, 3)).astype(np.float32)
    radii = generator.uniform(0.03, 0.15, (num_classes - 1, 3)).astype(np.float32)

    def squares(places: np.ndarray, axis: int) -> np.ndarray:
        return ((places - centres[:, [axis]]) / radii[:, [axis]]) ** 2

    across, down, along = (
        squares((np.arange(count, dtype=np.float32) + 0.5) / count, axis)
        for axis, count in enumerate((num_slices, *size))
    )
    with file.open("wb") as handle:
        for index in range(num_slices):
            distances = np.sqrt(across[:, index, None, None] + down[:, :, None] + along[:, None, :])
            logits = 0.3 * generator.standard_normal(shape[1:], np.float32)
            logits[1:] += np.clip(8 * (1 - distances), -8, 8)
            handle.write(logits.astype(np.float16).tobytes())


def measure(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
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
        "asked": vars(options),
        "machine": describe_machine(),
        "medians": medians,
        "samnet_against": ratios,
    }


def describe(result: dict[str, Any]) -> str:
    lines = [
        f"{way}: {cost['seconds']:.1f} s, {cost['cpu_seconds']:.1f} s of processor time, "
        f"{cost['peak_bytes'] / 2**30:.2f} GiB at the peak"
        for way, cost in result["medians"].items()
    ]
    lines += [
        f"samnet against {way}: {ratio['times_as_fast']:.1f} x as fast ({ratio['times_less_processor_time']:.1f} x by "
        f"processor time), {ratio['share_of_memory']:.3f} of the memory, {100 * ratio['agreement']:.2f} % equal labels"
        for way, ratio in result["samnet_against"].items()
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
