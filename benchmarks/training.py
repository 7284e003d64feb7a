r"""Compare a LoRA step of samnet at the planned size with SAMed's, and each difference by itself.

Each way is a whole training step of the same network on synthetic data with random weights:
forward, loss, backward, fused optimiser. A batch is drawn once before, so that no step includes
reading.

    samnet      samnet's encoder at the planned size (--size), LoRA on q and v of all blocks
    samed       segment_anything's encoder at SAMed's 512, the same LoRA, the same head
    attention   samnet's encoder at 512: against `samed`, the encoder alone
    size        segment_anything's encoder at the planned size: against `samed`, the size alone
    last_half   as `samnet`, with LoRA only in the last half of the blocks
    compiled    as `samnet`, through torch.compile; on request, as compiling takes a minute or more

Steps alternate in one process, so that other load of the machine affects all ways alike. With
several precisions, every way is timed in each of them. For each way the operators are counted that
a step dispatches.

    python benchmarks/training.py --backbone vit_b --size 448 --rounds 5 --output result.json
    python benchmarks/training.py --backbone small --size 224 --batch-size 8 --ways samnet \
        --set lora_rank=16 --set lora_targets=[q,k,v,projection,mlp] --set head=upsampling_quarter \
        --precision float32 bfloat16 --rounds 15
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from measuring import describe_machine, machine_line, run_in_folder
from sam_encoder import shipped_encoder
from synthetic_case import LABEL_SCHEME, prepare
from torch_timing import (
    alternate,
    count_operators,
    given_options,
    make_parser,
    medians,
    parse,
    require_precision,
    synchronise,
    time_once,
)

from samnet.cli.settings import add_set_option
from samnet.models.encoder import ImageEncoder
from samnet.models.lora import add_lora
from samnet.models.model_folder import RunFolder
from samnet.models.network import SegmentationNetwork, build_network
from samnet.plan.backbones import BACKBONES
from samnet.plan.configuration import Configuration
from samnet.preprocessing.storage import StoredCase
from samnet.training.loop import Trainer
from samnet.training.sampling import SliceSamples
from samnet.training.slice_reader import SampleSpecification
from samnet.training.task import TrainingTask

SAMED_SIZE = 512
WAYS = ("samnet", "samed", "attention", "size", "last_half")
ON_REQUEST = ("compiled",)


def main() -> None:
    """Run the benchmark."""
    options = parse_options()
    run_in_folder(options, measure, describe)


def parse_options() -> argparse.Namespace:
    """Return the options of the command line."""
    parser = make_parser(__doc__)
    parser.add_argument("--backbone", default="vit_b", choices=BACKBONES)
    parser.add_argument(
        "--size",
        type=int,
        default=448,
        help="the planned edge of the input in pixels (default: 448)",
    )
    parser.add_argument("--batch-size", type=int, default=1, help="default: 1")
    parser.add_argument(
        "--precision",
        nargs="+",
        default=["float32"],
        choices=["float32", "bfloat16"],
        help="bfloat16 on a GPU, or on a CPU with units for it (default: float32)",
    )
    add_set_option(parser)
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=(*WAYS, *ON_REQUEST))
    parser.add_argument("--rounds", type=int, default=5)
    return parse(parser)


def measure(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Time one step of each way in turns.

    Args:
        options: The options of the script.
        folder: A temporary folder.

    Returns:
        Seconds of the steps, the ratios of `samed` to each way and of single precision to bfloat16,
        the operators of a step, and on a GPU the peak memory.
    """
    settings = {
        "backbone": options.backbone,
        "encoder_tuning": "lora",
        "lora_rank": 4,
        "lora_targets": ["q", "v"],
        "lora_blocks": "all",
        "head": "mask_decoder",
        "input_size": options.size,
        "batch_size": options.batch_size,
        "gradient_checkpointing": False,
        "augmentation": "none",
    }
    settings |= dict(options.settings)
    planned, case = prepare(folder, settings, options.device, max(4, options.batch_size))
    configurations = configurations_of_ways(planned)
    device = torch.device(options.device)
    steps: dict[str, Callable[[], object]] = {}
    for name, precision in itertools.product(options.ways, options.precision):
        require_precision(precision, device)
        title = title_of(name, precision, options.precision)
        steps[title] = make_step(
            replace(configurations[name], precision=precision),
            case,
            folder / title,
            device,
            shipped=name in ("samed", "size"),
            compiled=name == "compiled",
        )
    first = {name: time_once(step, device) for name, step in steps.items()}
    times = alternate(steps, options.rounds, device)
    seconds = medians(times)
    memory = {}
    if device.type == "cuda":
        memory = {name: peak_bytes(step, device) for name, step in steps.items()}
    return {
        "options": given_options(options),
        "machine": describe_machine(options.device),
        "seconds_of_the_first_step": first,
        "seconds_of_steps": times,
        "seconds_of_a_step": seconds,
        "times_as_fast_as_samed": times_as_fast(seconds, "samed"),
        "times_as_fast_in_bfloat16": gains_of_bfloat16(seconds),
        "operators_of_a_step": {name: count_operators(step) for name, step in steps.items()},
        "peak_bytes": memory,
    }


def title_of(way: str, precision: str, precisions: Sequence[str]) -> str:
    """Return what a way in a precision is called in the result.

    Args:
        way: The way.
        precision: Its precision.
        precisions: All precisions that are timed.

    Returns:
        The way alone where all have one precision.
    """
    return f"{way} in {precision}" if len(precisions) > 1 else way


def times_as_fast(seconds: dict[str, float], reference: str) -> dict[str, float]:
    """Return how many times as fast as a reference each way is.

    Args:
        seconds: Title -> seconds of a step.
        reference: The way to compare with; each precision is compared with its own.

    Returns:
        Title -> ratio; nothing where the reference was not timed.
    """
    ratios = {}
    for title, value in seconds.items():
        _, *precision = title.split(" in ")
        other = " in ".join([reference, *precision])
        if other in seconds:
            ratios[title] = seconds[other] / value
    return ratios


def gains_of_bfloat16(seconds: dict[str, float]) -> dict[str, float]:
    """Return how many times as fast each way is in bfloat16.

    Args:
        seconds: Title -> seconds of a step.

    Returns:
        Way -> ratio; nothing where not both precisions were timed.
    """
    gains = {}
    for title, value in seconds.items():
        way, _, precision = title.partition(" in ")
        single = seconds.get(f"{way} in float32")
        if precision == "bfloat16" and single is not None:
            gains[way] = single / value
    return gains


def configurations_of_ways(planned: Configuration) -> dict[str, Configuration]:
    """Return the configuration of each way.

    Args:
        planned: The configuration of `samnet`.

    Returns:
        Way -> configuration.
    """
    at_512 = replace(
        planned, input_size=SAMED_SIZE, zoom=planned.zoom * SAMED_SIZE / planned.input_size
    )
    return {
        "samnet": planned,
        "samed": at_512,
        "attention": at_512,
        "size": planned,
        "last_half": replace(planned, lora_blocks="last_half"),
        "compiled": planned,
    }


def make_step(
    configuration: Configuration,
    case: StoredCase,
    folder: Path,
    device: torch.device,
    *,
    shipped: bool,
    compiled: bool,
) -> Callable[[], float]:
    """Build a configuration's network and return a training step of it.

    Args:
        configuration: The configuration.
        case: The prepared case to draw a batch from.
        folder: A folder for the training run.
        device: The device to train on.
        shipped: Whether to use `segment_anything`'s encoder in place of samnet's.
        compiled: Whether to compile the network.

    Returns:
        A function that makes one step with the same batch each time, and returns the loss.
    """
    torch.manual_seed(0)
    frozen = replace(configuration, encoder_tuning="frozen")
    network = build_network(frozen, 1, LABEL_SCHEME.num_outputs)
    encoder = network.encoder
    assert isinstance(encoder, ImageEncoder)
    if shipped:
        network.encoder = shipped_encoder(configuration.backbone, configuration.input_size, encoder)
    targets, blocks = configuration.lora_targets, configuration.lora_blocks
    add_lora(network.encoder, rank=configuration.lora_rank, targets=targets, blocks=blocks)
    task = TrainingTask(configuration, LABEL_SCHEME, [case], [case], False, 0, None, 0)
    trainer = Trainer(network.train(), task, RunFolder(folder), device)
    if compiled:
        network.compile()
    images, target = draw_batch(configuration, case, network)
    return lambda: trainer.step(images, target)


def draw_batch(
    configuration: Configuration, case: StoredCase, network: SegmentationNetwork
) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw one training batch.

    Args:
        configuration: The configuration.
        case: The prepared case to draw from.
        network: The network that the batch is for.

    Returns:
        Images `(N, C, H, W)` and their target, as the training loop gets them.
    """
    specification = SampleSpecification(configuration, LABEL_SCHEME, network.stride, seed=0)
    samples = SliceSamples([case], specification)
    drawn = [samples[row] for row in range(configuration.batch_size)]
    images, target = torch.utils.data.default_collate(drawn)
    return images, target


def peak_bytes(step: Callable[[], object], device: torch.device) -> int:
    """Return the GPU memory that a step allocates in addition to what is allocated before it.

    Args:
        step: A function that makes one step.
        device: A GPU.

    Returns:
        The memory in bytes.
    """
    synchronise(device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    step()
    synchronise(device)
    return torch.cuda.max_memory_allocated(device) - before


def describe(result: dict[str, Any]) -> str:
    """Return the result as text.

    Args:
        result: The result of `measure`.
    """
    given, ratios = result["options"], result["times_as_fast_as_samed"]
    operators = result["operators_of_a_step"]
    lines = [f"{given['backbone']}, batch {given['batch_size']}; {machine_line(result['machine'])}"]
    for name, seconds in result["seconds_of_a_step"].items():
        size = SAMED_SIZE if name.split(" in ")[0] in ("samed", "attention") else given["size"]
        ratio = f", {ratios[name]:.2f} times as fast as samed" if name in ratios else ""
        memory = f", {result['peak_bytes'][name] / 2**30:.2f} GiB" if result["peak_bytes"] else ""
        facts = f"{seconds:.3f} s a step{ratio}, {operators[name]} operators{memory}"
        lines.append(f"{name:<10} at {size}: {facts}")
    for name, gain in result["times_as_fast_in_bfloat16"].items():
        lines.append(f"{name}: {gain:.2f} times as fast in bfloat16")
    for name, seconds in result["seconds_of_the_first_step"].items():
        if name.startswith("compiled"):
            lines.append(f"the first step of {name} took {seconds:.0f} s")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
