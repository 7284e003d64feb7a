"""`samnet_convert_folder`: make a raw data set of a folder of images and a folder of masks."""

from __future__ import annotations

import argparse
from pathlib import Path

from samnet.cli.command import Command, positive_int
from samnet.core.errors import UserError

_SUMMARY = """\
Make a raw data set of a folder of images and a folder of masks. A mask belongs to the image of the
same name; words such as image and mask in the names do not count. The values or colours of the
masks, such as 0 and 255, become the labels 0, 1, 2, ... in ascending order. 0 (black) is the
background. Where each class has a mask of its own, or each channel a file, name what tells them
with --class-suffixes and --channel-suffixes. Names of BIDS are paired by subject, session and run,
also where the folders of images and masks differ."""


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--images", type=Path, required=True, metavar="FOLDER", help="the images")
    parser.add_argument(
        "--masks", type=Path, required=True, metavar="FOLDER", help="the masks, one an image"
    )
    parser.add_argument(
        "-d",
        "--dataset",
        type=positive_int,
        required=True,
        metavar="ID",
        help="number of the data set, 1 to 999",
    )
    parser.add_argument("--name", required=True, metavar="NAME", help="name of the data set")
    parser.add_argument(
        "--labels",
        nargs="+",
        metavar="NAME",
        help="names of the classes, in the order of their values",
    )
    parser.add_argument(
        "--channels",
        nargs="+",
        metavar="NAME",
        help="names of the channels of an image, such as CT",
    )
    parser.add_argument(
        "--mask-suffix",
        metavar="SUFFIX",
        help="what the name of a mask has after that of its image, such as _mask; images and masks "
        "may then lie in one folder",
    )
    parser.add_argument(
        "--channel-suffixes",
        nargs="+",
        default=(),
        metavar="SUFFIX",
        help="where each channel is a file of its own: how the names of the files end, or what "
        "their folders are called, in the order of the channels, such as _t1 _t2",
    )
    parser.add_argument(
        "--class-suffixes",
        nargs="+",
        default=(),
        metavar="SUFFIX",
        help="where each class has a mask of its own: how the names of the masks end, or what the "
        "masks or their folders are called, in the order of the labels, such as _liver _tumour",
    )
    parser.add_argument(
        "--overlap",
        choices=("first", "last"),
        help="where masks of several classes overlap, take the class named first or last in "
        "--class-suffixes (default: overlaps are an error)",
    )
    parser.add_argument(
        "--allow-missing-masks",
        action="store_true",
        help="take a class without a mask in a case as empty there",
    )
    parser.add_argument(
        "--recursive", action="store_true", help="take the folders in the folders too"
    )
    parser.add_argument(
        "--binary", action="store_true", help="take all values other than 0 (black) as one class"
    )
    parser.add_argument(
        "--nearest",
        action="store_true",
        help="replace stray values, such as those of soft edges, by the nearest other value",
    )
    parser.add_argument(
        "--test-share",
        type=_share,
        default=0.0,
        metavar="SHARE",
        help="hold out this share of the cases, such as 0.2, in imagesTs and labelsTs "
        "(default: none)",
    )
    parser.add_argument(
        "--skip-unmatched",
        action="store_true",
        help="leave out files without a partner, and cases that lack a channel or class",
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="show what would be done, and write nothing"
    )


def _share(text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = -1.0
    if 0 <= share < 1:
        return share
    raise argparse.ArgumentTypeError(f"{text!r} is no share; write a number from 0 to below 1")


def _require_classes(options: argparse.Namespace) -> None:
    """Refuse options that would have no effect."""
    if options.class_suffixes:
        return
    for value, option in (
        (options.overlap, "--overlap"),
        (options.allow_missing_masks, "--allow-missing-masks"),
    ):
        if value:
            raise UserError(
                f"{option}: is for masks of one class each; name the classes with --class-suffixes"
            )


def _run(options: argparse.Namespace) -> None:
    _require_classes(options)
    from samnet.dataset.convert_folder import plan_conversion
    from samnet.dataset.mask_rules import MaskRules
    from samnet.dataset.new_dataset import new_dataset_folder
    from samnet.dataset.write_conversion import convert

    folder = new_dataset_folder(options.dataset, options.name)
    conversion = plan_conversion(
        options.images,
        options.masks,
        label_names=options.labels,
        channel_names=options.channels,
        skip_unmatched=options.skip_unmatched,
        rules=MaskRules(
            suffix=options.mask_suffix,
            recursive=options.recursive,
            nearest=options.nearest,
            binary=options.binary,
            test_share=options.test_share,
            channel_suffixes=tuple(options.channel_suffixes),
            class_suffixes=tuple(options.class_suffixes),
            overlap=options.overlap,
            allow_missing_masks=options.allow_missing_masks,
        ),
    )
    print(conversion.describe())
    if options.dry_run:
        print(f"would write {folder}")
        return
    convert(conversion, folder)
    print(
        f"written: {folder}. Next: samnet_doctor -d {options.dataset}, then "
        f"samnet_plan_and_preprocess -d {options.dataset}"
    )


COMMAND = Command(
    "samnet_convert_folder",
    _SUMMARY,
    _add_arguments,
    _run,
    examples=(
        (
            "samnet_convert_folder --images photos --masks drawn -d 12 --name Polyps",
            "make Dataset012_Polyps of images and masks of the same names",
        ),
        (
            "samnet_convert_folder --images photos --masks drawn -d 12 --name Polyps --dry-run",
            "show what that would do",
        ),
        (
            "samnet_convert_folder --images ct --masks ct -d 14 --name CT --class-suffixes _a _b",
            "join the masks of two classes, whose names end in _a and _b",
        ),
    ),
)
main = COMMAND.main
