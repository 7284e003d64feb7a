r"""Measure which share of the matrix-multiply peak an image encoder's forward pass reaches.

The peak is measured in the same run and with the same threads: a product of the shape of the
encoder's MLP at 1024, (4096, width) x (width, 4 width). The product, samnet's encoder and, on
request, segment_anything's alternate, so that other load of the machine affects all of them alike.
Weights are random, the batch is 1. The operations are those that samnet's encoder needs, counted by
torch; of attention, only its two products are counted. segment_anything's encoder does more work
for the same result (padded windows); that work does not count in its share. A profile shows what
else the forward pass spends its time on.

    python benchmarks/roofline.py --backbone vit_b --sizes 1024 512 448 224 --shipped \
        --output result.json
"""

from __future__ import annotations

import argparse
import copy
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import torch
from measuring import describe_machine, machine_line, write_result
from sam_encoder import shipped_encoder
from torch import Tensor, nn
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode
from torch_timing import alternate, given_options, make_parser, medians, parse, require_precision

from samnet.models.encoder import build_encoder
from samnet.models.precision import autocast, cast_weights
from samnet.plan.backbones import BACKBONES

ROWS = 4096
# Kind of operation -> parts of the names that the profiler gives to its operations. The first kind
# that fits counts.
KINDS = {
    "linear layers": ("addmm", "aten::mm"),
    "fused attention": ("scaled_dot_product", "attention_forward"),
    "products of attention and positions": ("bmm",),
    "convolutions": ("conv", "slow_conv2d"),
    "copies": ("copy", "aten::cat", "contiguous", "clone", "CatArray"),
    "sums": ("aten::add", "aten::sub", "sum"),
    "norms": ("norm", "mean", "pow", "sqrt", "div"),
    "gelu": ("gelu",),
    "softmax": ("softmax", "logsumexp"),
}


def main() -> None:
    """Run the benchmark."""
    options = parse_options()
    device = torch.device(options.device)
    result: dict[str, Any] = {
        "options": given_options(options),
        "machine": describe_machine(options.device),
        "sizes": {},
    }
    for size in options.sizes:
        result["sizes"][str(size)] = measure(options, size, device)
        print(describe(size, result["sizes"][str(size)]), flush=True)
    print(machine_line(result["machine"]))
    write_result(result, options.output)


def parse_options() -> argparse.Namespace:
    """Return the options of the command line."""
    parser = make_parser(__doc__)
    parser.add_argument("--backbone", default="vit_b", choices=BACKBONES)
    parser.add_argument(
        "--sizes", type=int, nargs="+", default=[1024, 512, 448, 224], metavar="PIXELS"
    )
    parser.add_argument(
        "--precision",
        nargs="+",
        default=["float32"],
        choices=["float32", "bfloat16"],
        help="bfloat16 on a GPU, or on a CPU with units for it (default: float32)",
    )
    parser.add_argument("--batch-size", type=int, default=1, help="default: 1")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--shipped", action="store_true", help="time segment_anything's encoder too"
    )
    return parse(parser)


@torch.inference_mode()
def measure(options: argparse.Namespace, size: int, device: torch.device) -> dict[str, Any]:
    """Time the product and the encoders at one input size.

    Args:
        options: The options of the script.
        size: Edge of the input in pixels.
        device: The device to measure on.

    Returns:
        Operations; the peak of each precision in operations per second; seconds, and shares of the
        peak; the profile of samnet's encoder in each precision.
    """
    torch.manual_seed(0)
    encoder = build_encoder(BACKBONES[options.backbone], size).eval()
    images = torch.rand(options.batch_size, 3, size, size)
    operations = count_operations(encoder, images)
    ways = {"samnet": encoder}
    if options.shipped:
        ways["segment_anything"] = shipped_encoder(options.backbone, size, encoder)
    product_operations = 8 * ROWS * BACKBONES[options.backbone].width ** 2
    # So many products that they need about a quarter of the operations of a forward pass.
    repeats = max(1, round(operations / 4 / product_operations))
    products, forward = {}, {}
    for precision in options.precision:
        require_precision(precision, device)
        products[precision] = _product(options.backbone, precision, repeats, device)
        for name, way in ways.items():
            title = f"{name} in {precision}"
            forward[title] = _forward(copy.deepcopy(way), images, precision, device)
    named_products = {f"product in {precision}": product for precision, product in products.items()}
    times = alternate(named_products | forward, options.rounds, device)
    seconds = medians(times)
    peak = {}
    for precision in options.precision:
        peak[precision] = repeats * product_operations / seconds[f"product in {precision}"]
    shares = {}
    for title in forward:
        shares[title] = operations / seconds[title] / peak[title.split(" in ")[1]]
    profiles = {
        precision: profile_kinds(forward[f"samnet in {precision}"], device)
        for precision in options.precision
    }
    return {
        "operations": operations,
        "peak": peak,
        "seconds": seconds,
        "all_seconds": times,
        "share_of_peak": shares,
        "profile": profiles,
    }


def _product(
    backbone: str, precision: str, repeats: int, device: torch.device
) -> Callable[[], None]:
    """Return products of the shape of the encoder's MLP at 1024."""
    width, dtype = BACKBONES[backbone].width, getattr(torch, precision)
    left = torch.rand(ROWS, width, device=device, dtype=dtype)
    right = torch.rand(width, 4 * width, device=device, dtype=dtype)
    product = torch.empty(ROWS, 4 * width, device=device, dtype=dtype)

    def multiply() -> None:
        for _ in range(repeats):
            torch.mm(left, right, out=product)

    return multiply


def _forward(
    encoder: nn.Module, images: Tensor, precision: str, device: torch.device
) -> Callable[[], Tensor]:
    """Return a forward pass; the encoder is changed."""
    if device.type == "cuda":
        dtype = getattr(torch, precision)
        encoder.to(device, dtype)
        on_device = images.to(device, dtype)
        return lambda: encoder(on_device)
    encoder.to(device)
    cast_weights(encoder, precision, device)

    def encode() -> Tensor:
        with autocast(precision, device):
            return encoder(images.to(device))

    return encode


def count_operations(encoder: nn.Module, image: Tensor) -> int:
    """Count the floating-point operations of a forward pass.

    A multiplication and an addition are two operations. The pass runs on the CPU, where attention
    has its plain form. torch has no count for the CPU's fused attention kernel, so the operations
    of that kernel are given here.

    Args:
        encoder: The encoder, on the CPU.
        image: Its input `(N, 3, H, W)`, on the CPU.

    Returns:
        The number of operations.

    Raises:
        SystemExit: Attention did not run as the kernel that is counted.
    """

    def of_attention(query: Any, key: Any, *_: Any, **__: Any) -> int:
        (batch, heads, queries, channels), keys = query, key[2]
        return 4 * batch * heads * queries * keys * channels

    kernel = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    with FlopCounterMode(display=False, custom_mapping={kernel: of_attention}) as counter:
        encoder(image)
    if kernel not in counter.get_flop_counts()["Global"]:
        raise SystemExit(
            "attention did not run as the kernel that is counted; is this torch of another version?"
        )
    return int(counter.get_total_flops())


def profile_kinds(work: Callable[[], object], device: torch.device) -> dict[str, float]:
    """Profile some work by kinds of operation.

    Args:
        work: The work, such as a forward pass.
        device: The device that it runs on.

    Returns:
        Kind -> share of the time that operations take.
    """
    activities = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if device.type == "cuda" else [])
    with profile(activities=activities) as profiler:
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
    return shares_of_kinds(profiler.key_averages(), device)


def shares_of_kinds(events: Iterable[Any], device: torch.device) -> dict[str, float]:
    """Return the share of the time that each kind of operation takes.

    Args:
        events: The averaged events of a profile. Work of a GPU is in there twice, as operations and
            as their kernels; only the operations count.
        device: The device that was profiled.

    Returns:
        Kind -> share, the largest first.
    """
    spent: dict[str, float] = defaultdict(float)
    for event in events:
        if event.device_type != DeviceType.CPU:
            continue
        on_device = (
            event.self_device_time_total if device.type == "cuda" else event.self_cpu_time_total
        )
        spent[_kind_of(event.key)] += on_device
    total = sum(spent.values())
    return {kind: time / total for kind, time in sorted(spent.items(), key=lambda item: -item[1])}


def _kind_of(operation: str) -> str:
    for kind, names in KINDS.items():
        if any(name in operation for name in names):
            return kind
    return "other"


def describe(size: int, result: dict[str, Any]) -> str:
    """Return the result for one input size as text.

    Args:
        size: Edge of the input in pixels.
        result: The result of `measure`.
    """
    peaks = ", ".join(
        f"product in {precision} {peak / 1e9:.0f} GFLOP/s"
        for precision, peak in result["peak"].items()
    )
    lines = [f"{size}: {result['operations'] / 1e9:.1f} GFLOP; {peaks}"]
    for title, share in result["share_of_peak"].items():
        lines.append(f"  {title}: {result['seconds'][title]:.3f} s, {share:.2f} of the peak")
    for precision, profile_of_kinds in result["profile"].items():
        parts = ", ".join(
            f"{kind} {share:.0%}" for kind, share in profile_of_kinds.items() if share >= 0.005
        )
        lines.append(f"  time of samnet's in {precision}: {parts}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
