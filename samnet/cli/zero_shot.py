"""`samnet_zero_shot`: segment with plain SAM and boxes from the reference, as a baseline."""

from __future__ import annotations

import argparse
from pathlib import Path

from samnet.cli.command import Command, add_part_options, chosen_part, non_negative_int


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-d",
        "--dataset",
        required=True,
        metavar="ID",
        help="id or name of a planned data set, such as 8",
    )
    parser.add_argument(
        "-o", "--output", type=Path, required=True, metavar="OUT", help="folder for the label maps"
    )
    parser.add_argument(
        "-i",
        "--input",
        type=Path,
        metavar="IN",
        help="folder of images (default: imagesTs of the data set)",
    )
    parser.add_argument(
        "-r",
        "--references",
        type=Path,
        metavar="FOLDER",
        help="the true label maps (default: labelsTs of the data set)",
    )
    parser.add_argument(
        "--backbone",
        default="vit_b",
        metavar="NAME",
        help="small, vit_b, vit_l or vit_h (default: vit_b)",
    )
    parser.add_argument(
        "--margin",
        type=non_negative_int,
        default=0,
        metavar="N",
        help="pixels around each box (default: 0)",
    )
    parser.add_argument(
        "--device", metavar="DEVICE", help="cpu, cuda or mps (default: the best one here)"
    )
    add_part_options(parser)
    parser.epilog = (
        "The boxes are drawn around every object of the reference, so this is a baseline to "
        "compare with, not a prediction. Score it with samnet_evaluate."
    )


def _run(options: argparse.Namespace) -> None:
    from samnet.core.errors import UserError
    from samnet.core.job_array import select_part
    from samnet.core.machine import choose_device
    from samnet.dataset.cases import find_prediction_input
    from samnet.inference.zero_shot import ZeroShot, zero_shot_cases
    from samnet.models.prompted import BoxPromptedSam
    from samnet.models.registry import find_checkpoint
    from samnet.plan.backbones import BACKBONES
    from samnet.planning.planned_dataset import PlannedDataset

    released = [name for name, backbone in BACKBONES.items() if backbone.has_weights]
    if options.backbone not in released:
        raise UserError(f"--backbone {options.backbone}: choose from {', '.join(released)}")
    dataset = PlannedDataset.find(options.dataset)
    plan, folder = dataset.plan, dataset.folder
    backbone = BACKBONES[options.backbone]
    size = backbone.pretrained_size or 1024
    network = BoxPromptedSam(backbone, size, find_checkpoint(backbone))
    model = ZeroShot(
        network.to(choose_device(options.device)),
        plan.configuration("lora"),
        plan.label_scheme,
        size,
        options.margin,
    )
    source = find_prediction_input(
        options.input or folder.test_images, plan.description, options.output
    )
    part = select_part(source.cases, *chosen_part(options))
    with source.reminder_of_left_out():
        zero_shot_cases(model, part, options.references or folder.test_labels, options.output)


COMMAND = Command(
    "samnet_zero_shot",
    "Segment with plain SAM and boxes around the objects of the reference: the baseline before any "
    "adaptation.",
    _add_arguments,
    _run,
    examples=(
        ("samnet_zero_shot -d 8 -o masks", "segment the test images of data set 8"),
        (
            "samnet_zero_shot -d 8 -o masks --backbone small --margin 5",
            "use the small backbone, and boxes that are 5 pixels wider",
        ),
    ),
)
main = COMMAND.main
