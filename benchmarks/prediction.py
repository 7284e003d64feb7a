"""Compare the prediction of a volume with mirrors with SAMed's loop around the same network.

The two take turns in one process. Both go from raw intensities to labels on the volume's own
voxels. SAMed's way is transcribed from its description (arXiv 2304.13785) and SAM's own
post-processing: slice by slice at batch 1; every slice is resampled to the network's input by cubic
splines; the logits of each mirror are resampled to the input's size and from there to the slice's,
where probabilities are averaged. The data are a synthetic CT. The head is random, which takes as
long as a trained head or longer, because samnet resamples fewer outputs where they are clear.

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
from samnet.dataset.label_scheme import LabelScheme
from samnet.fingerprint.extract import extract_fingerprint
from samnet.inference.load import prepare_network
from samnet.inference.volume import predict_volume
from samnet.models.heads import HEADS
from samnet.models.lora import merge_lora
from samnet.models.network import SegmentationNetwork, build_network
from samnet.plan.backbones import BACKBONES
from samnet.plan.configuration import Configuration
from samnet.planning.planner import make_plan
from samnet.preprocessing.case import prepare_volume
from samnet.preprocessing.intensity import apply_window, window_bounds

NAME = "Dataset990_Synthetic"
FLIPS: tuple[tuple[int, ...], ...] = ((), (-2,), (-1,), (-2, -1))


def main() -> None:
    """Run the benchmark."""
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
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--backbone", default="small", choices=BACKBONES, help="default: small")
    parser.add_argument(
        "--size", type=int, default=224, help="edge of the network's input in pixels (default: 224)"
    )
    parser.add_argument("--head", choices=HEADS, help="default: as planned")
    parser.add_argument("--slices", type=int, default=24, help="default: 24")
    parser.add_argument(
        "--native", type=int, default=512, help="edge of a slice in pixels (default: 512)"
    )
    parser.add_argument("--rounds", type=int, default=3, help="default: 3")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, help="threads of torch (default: torch's choice)")
    parser.add_argument("--output", type=Path, metavar="FILE.json")
    return parser.parse_args()


def measure(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Predict the volume by both loops in turns.

    Args:
        options: The options of the script.
        folder: A temporary folder, which samnet's environment variables point to.

    Returns:
        The medians of both, and the ratios of SAMed's loop to samnet.
    """
    shape = (options.slices, options.native, options.native)
    write_dataset(folder / "raw" / NAME, shape, [(3.0, 0.8, 0.8)])
    dataset = RawDataset.load(NAME)
    configuration, label_scheme = plan(dataset, options)
    image = read_image(dataset.cases[0].image_files)
    torch.manual_seed(0)
    plain = build_network(configuration, 1, label_scheme.num_outputs)
    merge_lora(plain)
    plain.to(options.device).eval()
    device, precision = torch.device(options.device), configuration.precision
    network = prepare_network(copy.deepcopy(plain), device, precision)

    def samnet() -> np.ndarray:
        volume = prepare_volume(image.array, image.grid)
        labels = predict_volume(
            [network], configuration, volume, mirror=True, label_scheme=label_scheme
        )
        return volume.restore(labels)

    def samed() -> np.ndarray:
        return predict_as_samed(plain, configuration, image.array[0])

    costs = alternate({"samed": samed, "samnet": samnet}, options.rounds)
    medians = {name: median_cost(values) for name, values in costs.items()}
    theirs, ours = medians["samed"], medians["samnet"]
    return {
        "options": vars(options),
        "head": configuration.head,
        "machine": describe_machine(options.device),
        "medians": medians,
        "times_as_fast": theirs["seconds"] / ours["seconds"],
        "times_less_processor_time": theirs["cpu_seconds"] / ours["cpu_seconds"],
    }


def plan(dataset: RawDataset, options: argparse.Namespace) -> tuple[Configuration, LabelScheme]:
    """Plan a network that sees whole slices, in three equal channels as SAMed does.

    Args:
        dataset: The raw data set.
        options: The options of the script.

    Returns:
        The configuration, with mirrors along both axes of a slice, and the classes.
    """
    is_small = options.backbone == "small"
    settings = {
        "slicing_axis": 0,
        "views": [0],
        "channel_layout": "repeat",
        "mirror_axes": [1, 2],
        "backbone": options.backbone,
        "initial_weights": "pretrained" if is_small else "random",
        "encoder_tuning": "lora" if is_small else "full",
        "input_size": options.size,
    }
    if options.head:
        settings["head"] = options.head
    machine = Machine(options.device.split(":")[0], 16.0)
    planned = make_plan(extract_fingerprint(dataset, 0), machine, settings)
    return planned.configuration("lora"), planned.label_scheme


@torch.inference_mode()
def predict_as_samed(
    network: SegmentationNetwork, configuration: Configuration, volume: np.ndarray
) -> np.ndarray:
    """Predict a volume by SAMed's loop.

    Args:
        network: The network.
        configuration: Its configuration.
        volume: Raw intensities `(Z, Y, X)`.

    Returns:
        Labels `(Z, Y, X)` uint8.
    """
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
    """Return the result as text.

    Args:
        result: The result of `measure`.
    """
    given, machine = result["options"], result["machine"]
    lines = [
        f"{given['backbone']} at {given['size']}, head {result['head']}, {given['slices']} slices "
        f"of {given['native']} x {given['native']}, {len(FLIPS)} mirrors",
        f"{machine['processor']}, {machine['threads']} threads, device {machine['device']}; "
        f"medians of {given['rounds']}",
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
