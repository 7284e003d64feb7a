"""`samnet_convert_msd`: make a raw data set of a task of the Medical Segmentation Decathlon."""

from __future__ import annotations

import argparse
from pathlib import Path

from samnet.cli.command import Command, positive_int


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-i",
        "--input",
        type=Path,
        required=True,
        metavar="FOLDER",
        help="the folder of a task, such as Task09_Spleen",
    )
    parser.add_argument(
        "-d",
        "--dataset",
        type=positive_int,
        metavar="ID",
        help="number of the data set, 1 to 999 (default: that of the task)",
    )
    parser.add_argument(
        "--name", metavar="NAME", help="name of the data set (default: that of the task)"
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="show what would be done, and write nothing"
    )


def _run(options: argparse.Namespace) -> None:
    from samnet.core.errors import UserError
    from samnet.dataset.convert_msd import convert_task, read_task
    from samnet.dataset.new_dataset import new_dataset_folder

    task = read_task(options.input)
    number, name = options.dataset or task.number, options.name or task.name
    if number is None or name is None:
        raise UserError(f"{options.input}: is not called TaskNN_Name; give -d ID and --name NAME")
    folder = new_dataset_folder(number, name)
    print(task.describe())
    if options.dry_run:
        print(f"would write {folder}")
        return
    convert_task(task, folder)
    print(
        f"written: {folder}. Next: samnet_doctor -d {number}, then "
        f"samnet_plan_and_preprocess -d {number}"
    )


COMMAND = Command(
    "samnet_convert_msd",
    "Make a raw data set of a task of the Medical Segmentation Decathlon. 4D images are split into "
    "channels.",
    _add_arguments,
    _run,
    examples=(
        ("samnet_convert_msd -i Task09_Spleen", "make Dataset009_Spleen"),
        (
            "samnet_convert_msd -i Task09_Spleen -d 20 --name Test --dry-run",
            "show how Dataset020_Test would be made",
        ),
    ),
)
main = COMMAND.main
