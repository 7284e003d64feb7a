"""`samnet_ensemble`: average saved probabilities."""

from __future__ import annotations

import argparse
from pathlib import Path

from samnet.cli.command import Command, positive_float


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-i",
        "--input",
        type=Path,
        nargs="+",
        required=True,
        metavar="FOLDER",
        help="two or more folders that samnet_predict --save-probabilities has written",
    )
    parser.add_argument(
        "-o", "--output", type=Path, required=True, metavar="OUT", help="folder for the label maps"
    )
    parser.add_argument(
        "--weights",
        type=positive_float,
        nargs="+",
        metavar="W",
        help="weight of each folder (default: equal ones)",
    )
    parser.add_argument(
        "--save-probabilities",
        action="store_true",
        help="also write the mean probabilities as OUT/CASE.npz",
    )
    parser.epilog = (
        "The label maps and the dataset.json in the folders tell the grids and labels, which have "
        "to be the same in all of them. samnet_predict with several models gives the same label "
        "maps without saved probabilities."
    )


def _run(options: argparse.Namespace) -> None:
    from samnet.inference.folder_ensemble import ensemble_folders

    ensemble_folders(
        options.input,
        options.output,
        weights=options.weights,
        save_probabilities=options.save_probabilities,
    )


COMMAND = Command(
    "samnet_ensemble",
    "Average the probabilities of several predictions, and write label maps.",
    _add_arguments,
    _run,
    examples=(
        ("samnet_ensemble -i preds_lora preds_full -o masks", "average two predictions"),
        (
            "samnet_ensemble -i preds_lora preds_full -o masks --weights 2 1",
            "count the first one twice",
        ),
    ),
)
main = COMMAND.main
