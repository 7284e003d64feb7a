"""`samnet_convert_folder`: make a raw data set of a folder of images and a folder of masks."""

from __future__ import annotations

import argparse
from pathlib import Path

from samnet.cli.command import Command, positive_int

_SUMMARY = """\
Make a raw data set of a folder of images and a folder of masks. A mask belongs to the image of the
same name; words such as image and mask in the names do not count. The values or colours of the
masks, such as 0 and 255, become the labels 0, 1, 2, ... in ascending order. 0 (black) is the
background."""


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
        "--skip-unmatched", action="store_true", help="leave out files without a partner"
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="show what would be done, and write nothing"
    )


def _run(options: argparse.Namespace) -> None:
    from samnet.dataset.convert_folder import convert, plan_conversion
    from samnet.dataset.new_dataset import new_dataset_folder

    folder = new_dataset_folder(options.dataset, options.name)
    conversion = plan_conversion(
        options.images,
        options.masks,
        label_names=options.labels,
        channel_names=options.channels,
        skip_unmatched=options.skip_unmatched,
    )
    print(conversion.describe())
    if options.dry_run:
        print(f"would write {folder}")
        return
    convert(conversion, folder)
    print(f"written: {folder}. Next: samnet_plan_and_preprocess -d {options.dataset}")


COMMAND = Command("samnet_convert_folder", _SUMMARY, _add_arguments, _run)
main = COMMAND.main
