"""`samnet_pretrain`: pre-train the small backbone on synthetic images."""

from __future__ import annotations

import argparse
from pathlib import Path

from samnet.cli.command import Command, non_negative_int, positive_float, positive_int

# The numbers of steps of the weights that come with samnet.
_COARSE_STEPS, _FINE_STEPS = 2273, 900


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        required=True,
        metavar="OUT",
        help="folder for weights and curve",
    )
    parser.add_argument(
        "--coarse-steps",
        type=non_negative_int,
        default=_COARSE_STEPS,
        metavar="N",
        help=f"optimiser steps on smaller images, which are done first (default: {_COARSE_STEPS})",
    )
    parser.add_argument(
        "--fine-steps",
        type=non_negative_int,
        default=_FINE_STEPS,
        metavar="N",
        help=f"optimiser steps on images of the last size (default: {_FINE_STEPS})",
    )
    parser.add_argument(
        "--batch-size",
        type=positive_int,
        default=8,
        metavar="N",
        help="pairs of images in a step (default: 8)",
    )
    parser.add_argument(
        "--lr",
        type=positive_float,
        default=1e-3,
        metavar="RATE",
        help="peak learning rate (default: 0.001)",
    )
    parser.add_argument(
        "--seed",
        type=non_negative_int,
        default=0,
        metavar="N",
        help="seed of everything random (default: 0)",
    )
    parser.add_argument(
        "--sizes",
        type=positive_int,
        nargs="+",
        default=[112, 224],
        metavar="S",
        help="edges of the images in pixels, in the order of training: --coarse-steps are divided "
        "among all but the last (default: 112 224)",
    )
    parser.add_argument(
        "--averaging",
        type=positive_float,
        default=0.0,
        metavar="DECAY",
        help="decay of exponentially averaged weights, which are then the result (default: none)",
    )
    parser.add_argument(
        "--prototype-weight",
        type=positive_float,
        default=1.0,
        metavar="W",
        help="weight of the segmentation from one example (default: 1)",
    )
    parser.add_argument(
        "--spread",
        type=positive_float,
        default=1.0,
        metavar="F",
        help="factor on the bounds of noise, blur, textures and differences of individuals "
        "(default: 1)",
    )
    parser.add_argument(
        "--device", metavar="DEVICE", help="cpu, cuda or mps (default: the best one here)"
    )
    parser.add_argument(
        "--workers",
        type=non_negative_int,
        metavar="N",
        help="worker processes that draw images (default: by the machine; CUDA devices draw "
        "themselves)",
    )
    parser.epilog = (
        "Needs no data: images and label maps are synthetic. The same command resumes an "
        "interrupted training run; more --fine-steps resume a finished one. Use the weights with "
        "samnet_train ... --set initial_weights=OUT/small.safetensors."
    )


def _run(options: argparse.Namespace) -> None:
    import torch

    from samnet.core.errors import UserError
    from samnet.core.machine import choose_device
    from samnet.core.worker_pool import default_processes
    from samnet.pretraining.recipe import Recipe
    from samnet.pretraining.run import pretrain

    if options.coarse_steps + options.fine_steps == 0:
        raise UserError("--coarse-steps and --fine-steps are both 0: there is nothing to train")
    wrong = [size for size in options.sizes if size % 16 or size < 48]
    if wrong:
        raise UserError(f"--sizes {wrong[0]}: sizes are multiples of 16 from 48 pixels on")
    if options.averaging >= 1:
        raise UserError(f"--averaging {options.averaging}: the decay has to be below 1, as 0.999")
    recipe = Recipe(
        coarse_steps=options.coarse_steps,
        fine_steps=options.fine_steps,
        seed=options.seed,
        batch_size=options.batch_size,
        learning_rate=options.lr,
        sizes=tuple(options.sizes),
        averaging=options.averaging,
        prototype_weight=options.prototype_weight,
        spread=options.spread,
    )
    workers = max(1, default_processes() - 1) if options.workers is None else options.workers
    print(pretrain(options.output, recipe, torch.device(choose_device(options.device)), workers))


COMMAND = Command(
    "samnet_pretrain",
    "Pre-train the small backbone on synthetic images, as samnet's own was.",
    _add_arguments,
    _run,
    examples=(
        ("samnet_pretrain -o pretrained", "pre-train as samnet's own weights were"),
        (
            "samnet_pretrain -o trial --coarse-steps 20 --fine-steps 10 --batch-size 2",
            "try it out in a few steps",
        ),
    ),
)
main = COMMAND.main
