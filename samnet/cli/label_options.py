"""The options that name the `dataset.json` in which labels are declared."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from samnet.dataset.description import DatasetDescription


_NEAR_REFERENCES = "next to the folder of references, else in the folder of predictions"


def add_label_options(parser: argparse.ArgumentParser, default: str = _NEAR_REFERENCES) -> None:
    """Add the options.

    Args:
        parser: The parser of a command.
        default: Where the command looks for the file without them, for the help.
    """
    description = parser.add_mutually_exclusive_group()
    description.add_argument(
        "-d", "--dataset", metavar="ID", help="the data set that declares the labels: id or name"
    )
    description.add_argument(
        "--dataset-json",
        type=Path,
        metavar="FILE",
        help=f"the dataset.json that declares the labels (default: {default})",
    )


def load_description(options: argparse.Namespace, places: Sequence[Path]) -> DatasetDescription:
    """Read the description that the options name, else the first one that is found.

    Args:
        options: The parsed options, with those of `add_label_options`.
        places: The folders to search.

    Returns:
        The description.

    Raises:
        UserError: There is none, or it is not usable.
    """
    from samnet.dataset.find_description import find_description

    return find_description(options.dataset, options.dataset_json, places)
