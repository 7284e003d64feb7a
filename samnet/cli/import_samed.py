"""`samnet_import_samed`: turn a file of SAMed's own code into a samnet model."""

from __future__ import annotations

import argparse
from pathlib import Path

from samnet.cli.command import Command, positive_float, positive_int


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "file",
        type=Path,
        metavar="FILE",
        help="a file that SAMed, SAMed_s or SAMed_h has written, such as epoch_159.pth",
    )
    parser.add_argument(
        "--dataset-json",
        type=Path,
        required=True,
        metavar="FILE",
        help="a dataset.json with the channel, and the classes in the order SAMed was trained with",
    )
    parser.add_argument(
        "-o", "--output", type=Path, required=True, metavar="FOLDER", help="folder of the model"
    )
    parser.add_argument(
        "--input-size",
        type=positive_int,
        default=512,
        metavar="N",
        help="SAMed's --img_size, 512 or 224 (default: 512)",
    )
    parser.add_argument(
        "--frame",
        metavar="FRAME",
        help="how slices come to the input: splines_224 (as SAMed's code: each stretched to 224 "
        "pixels and to the input), splines (at once), stretch (linearly), scale (all at one scale) "
        "(default: splines_224, or scale with --slice-width)",
    )
    parser.add_argument(
        "--slice-width",
        type=positive_float,
        metavar="MM",
        help="width in mm of the slices SAMed was trained on, for --frame scale",
    )
    parser.add_argument(
        "--axes",
        default="file",
        metavar="AXES",
        help="directions of slices, rows and columns that SAMed was trained on: file (as SimpleITK "
        "reads a file), file_transposed (as nibabel), patient (turned as samnet does), or three "
        "letters of R, L, A, P, S, I such as SPL (default: file)",
    )
    parser.add_argument(
        "--window",
        type=float,
        nargs=2,
        default=(-125.0, 275.0),
        metavar=("LOW", "HIGH"),
        help="intensities that become 0 and 1 (default: -125 275, in HU)",
    )
    parser.add_argument(
        "--base",
        type=Path,
        metavar="FILE",
        help="the weights it was trained on (default: SAM's own)",
    )
    parser.add_argument(
        "--dataset-name",
        default="Dataset000_SAMed",
        metavar="NAME",
        help="name of the data set that the model is of (default: Dataset000_SAMed)",
    )


def _frame(options: argparse.Namespace) -> str:
    from samnet.core.errors import UserError
    from samnet.sharing.samed import SamedOptions

    if options.slice_width is None:
        return options.frame or SamedOptions.frame
    if options.frame not in (None, "scale"):
        raise UserError(
            f"--slice-width is for --frame scale; {options.frame} fills the input with every slice"
        )
    return "scale"


def _run(options: argparse.Namespace) -> None:
    from samnet.core.paths import dataset_number
    from samnet.dataset.description import DatasetDescription
    from samnet.plan.checks import check_value
    from samnet.sharing.samed import SamedOptions, import_samed

    frame = _frame(options)
    check_value("frame", frame, "--frame")
    check_value("orientation", options.axes, "--axes")
    dataset_number(options.dataset_name)
    plan = import_samed(
        options.file,
        DatasetDescription.load(options.dataset_json),
        options.output,
        SamedOptions(
            dataset_name=options.dataset_name,
            input_size=options.input_size,
            frame=frame,
            orientation=options.axes,
            slice_width=options.slice_width or SamedOptions.slice_width,
            window=(options.window[0], options.window[1]),
            base_file=options.base,
        ),
    )
    name, num_classes = plan.single_name, plan.label_scheme.num_classes
    print(f"{options.output}: {name}, {plan.single_configuration.backbone}, {num_classes} classes")
    print(f"predict with: samnet_predict -m {options.output} -i IN -o OUT")


COMMAND = Command(
    "samnet_import_samed",
    "Turn a file of SAMed's own code into a samnet model that predicts.",
    _add_arguments,
    _run,
    examples=(
        (
            "samnet_import_samed epoch_159.pth --dataset-json dataset.json -o imported",
            "make a model of a file that SAMed's code has written",
        ),
        (
            "samnet_import_samed samed.pth --dataset-json dataset.json -o model --input-size 224",
            "import one that was trained with --img_size 224",
        ),
    ),
)
main = COMMAND.main
