"""Prediction of a volume with mirrors, against SAMed's loop around the same network.

One process, the two in turns, both from raw intensities to labels on the volume's own voxels. SAMed's way, transcribed
from its description (arXiv 2304.13785) and SAM's own post-processing: slice by slice at batch 1, every slice resampled
to the network's input by cubic splines; the logits of each mirror resampled to the input's size and from there to the
slice's, where probabilities are averaged. A made CT; a random head, which takes as long as a trained one, or longer:
samnet resamples fewer outputs where they are clear.

    python benchmarks/prediction.py --output result.json
    python benchmarks/prediction.py --backbone vit_b --size 448 --slices 8
"""

from __future__ import annotations

import argparse
import copy
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measuring import alternate, describe_machine, median_cost, write_result
from scipy import ndimage
from synthetic_ct import write_dataset
from torch import Tensor
from torch.nn.functional import interpolate

from samnet.core.machine import Machine
from samnet.dataset.cases import RawDataset
from samnet.dataset.images import read_image
from samnet.fingerprint.extract import extract_fingerprint
from samnet.inference.load import prepare_network
from samnet.inference.volume import predict_volume
from samnet.models.lora import merge_lora
from samnet.models.network import SegmentationNetwork, build_network
from samnet.plan.configuration import CHOICES, Configuration
from samnet.planning.planner import make_plan
from samnet.preprocessing.case import prepare_volume
from samnet.preprocessing.intensity import apply_window, window_bounds

NAME = "Dataset990_Synthetic"
FLIPS: tuple[tuple[int, ...], ...] = ((), (-2,), (-1,), (-2, -1))


def main() -> None:
    options = parse()
    if options.threads:
        torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory(prefix="samnet-benchmark-") as folder:
        for part in ("raw", "preprocessed", "results"):
            os.environ[f"samnet_{part}"] = str(Path(folder) / part)
        result = measure(options, Path(folder))
    print("\n" + describe(result))
    write_result(result, options.output)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--backbone", default="small", choices=CHOICES["backbone"], help="default: small"
    )
    parser.add_argument(
        "--size", type=int, default=224, help="edge of the network's input in pixels (default: 224)"
    )
    parser.add_argument("--head", choices=CHOICES["head"], help="default: as planned")
    parser.add_argument("--slices", type=int, default=24, help="default: 24")
    parser.add_argument(
        "--native", type=int, default=512, help="edge of a slice in pixels (default: 512)"
    )
    parser.add_argument("--rounds", type=int, default=3, help="default: 3")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, help="of torch (default: its own)")
    parser.add_argument("--output", type=Path, metavar="FILE.json")
    return parser.parse_args()


def measure(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    write_dataset(
        folder / "raw" / NAME, (options.slices, options.native, options.native), [(3.0, 0.8, 0.8)]
    )
    dataset = RawDataset.load(NAME)
    configuration, num_outputs = plan(dataset, options)
    image = read_image(dataset.cases[0].image_files)
    torch.manual_seed(0)
    plain = build_network(configuration, 1, num_outputs)
    merge_lora(plain)
    plain.to(options.device).eval()
    network = prepare_network(copy.deepcopy(plain), torch.device(options.device))

    def samnet() -> np.ndarray:
        volume = prepare_volume(image.array, image.grid)
        return volume.restore(predict_volume([network], configuration, volume, mirror=True))

    def samed() -> np.ndarray:
        return predict_as_samed(plain, configuration, image.array[0])

    costs = alternate({"samed": samed, "samnet": samnet}, options.rounds)
    typical = {name: median_cost(values) for name, values in costs.items()}
    return {
        "asked": vars(options),
        "head": configuration.head,
        "machine": describe_machine(options.device),
        "medians": typical,
        "times_as_fast": typical["samed"]["seconds"] / typical["samnet"]["seconds"],
        "times_less_processor_time": typical["samed"]["cpu_seconds"]
        / typical["samnet"]["cpu_seconds"],
    }


def plan(dataset: RawDataset, options: argparse.Namespace) -> tuple[Configuration, int]:
    """A planned configuration with whole slices in the input, shown thrice as SAMed does, and every mirror."""
    settings = {
        "slicing_axis": 0,
        "views": [0],
        "channel_layout": "repeat",
        "mirror_axes": [1, 2],
        "backbone": options.backbone,
        "initial_weights": "pretrained" if options.backbone == "small" else "random",
        "encoder_tuning": "lora" if options.backbone == "small" else "full",
        "input_size": options.size,
    } | ({"head": options.head} if options.head else {})
    machine = Machine(options.device.split(":")[0], 16.0)
    made = make_plan(extract_fingerprint(dataset, 0), machine, settings)
    return made.configuration("lora"), made.num_outputs


@torch.inference_mode()
def predict_as_samed(
    network: SegmentationNetwork, configuration: Configuration, volume: np.ndarray
) -> np.ndarray:
    """Labels `(Z, Y, X)` of a volume `(Z, Y, X)`."""
    device = next(network.parameters()).device
    size, native = configuration.input_size, volume.shape[1:]
    windowed = apply_window(volume, window_bounds(configuration.intensity, np.zeros((1, 201))))
    labels = np.empty(volume.shape, np.uint8)
    for index, plane in enumerate(windowed):
        resized = ndimage.zoom(plane, [size / length for length in native], order=3)
        image = torch.from_numpy(resized)[None, None].repeat(1, 3, 1, 1).to(device)
        total = torch.zeros((), device=device)
        for flip in FLIPS:
            total = total + _probabilities(network(image.flip(flip)), size, native).flip(flip)
        labels[index] = total[0].argmax(0).cpu().numpy()
    return labels


def _probabilities(logits: Tensor, size: int, native: tuple[int, ...]) -> Tensor:
    at_input = interpolate(logits.float(), (size, size), mode="bilinear", align_corners=False)
    return interpolate(at_input, native, mode="bilinear", align_corners=False).softmax(1)


def describe(result: dict[str, Any]) -> str:
    asked, machine = result["asked"], result["machine"]
    lines = [
        f"{asked['backbone']} at {asked['size']}, head {result['head']}, {asked['slices']} slices of "
        f"{asked['native']} x {asked['native']}, {len(FLIPS)} mirrors",
        f"{machine['processor']}, {machine['threads']} threads, device {machine['device']}; "
        f"medians of {asked['rounds']}",
    ]
    lines += [
        f"{name}: {cost['seconds']:.2f} s, {cost['cpu_seconds']:.2f} s of processor time"
        for name, cost in result["medians"].items()
    ]
    lines.append(
        f"samnet: {result['times_as_fast']:.2f} x as fast, "
        f"{result['times_less_processor_time']:.2f} x by processor time"
    )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
