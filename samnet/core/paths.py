"""Where raw data, preprocessed data and results live, and how a data set is named."""

from __future__ import annotations

import os
import re
from pathlib import Path

from samnet.core.errors import UserError

_DATASET_FOLDER = re.compile(r"^Dataset(\d{3,})_(.+)$")


def raw_folder() -> Path:
    """`samnet_raw`, else nnU-Net's `nnUNet_raw`, else `./samnet_data/raw`."""
    return Path(os.environ.get("samnet_raw") or os.environ.get("nnUNet_raw") or "samnet_data/raw")


def preprocessed_folder() -> Path:
    return Path(os.environ.get("samnet_preprocessed") or "samnet_data/preprocessed")


def results_folder() -> Path:
    return Path(os.environ.get("samnet_results") or "samnet_data/results")


def find_dataset_name(identifier: str | int) -> str:
    """The folder name `DatasetXXX_Name` for an id (`8`, `008`) or a full name, looked up in every known folder.

    Raises:
        UserError: no such data set, or several with the same id; the message lists what is there.
    """
    text = str(identifier)
    known = _known_dataset_names()
    if text in known:
        return text
    if text.isdecimal():
        matches = [name for name in known if dataset_number(name) == int(text)]
        if len(matches) == 1:
            return matches[0]
        if matches:
            raise UserError(
                f"data set id {text} is ambiguous: {', '.join(matches)}. Give each its own number."
            )
    listing = ", ".join(known) if known else "none"
    raise UserError(
        f"no data set {text!r} in {raw_folder()} (known: {listing}). "
        "Put it there as DatasetXXX_Name, or set the environment variable samnet_raw to the folder that holds it."
    )


def _known_dataset_names() -> list[str]:
    names = set()
    for folder in (raw_folder(), preprocessed_folder(), results_folder()):
        if folder.is_dir():
            names |= {
                entry.name
                for entry in folder.iterdir()
                if entry.is_dir() and _DATASET_FOLDER.match(entry.name)
            }
    return sorted(names)


def dataset_number(name: str) -> int:
    match = _DATASET_FOLDER.match(name)
    if match is None:
        raise UserError(
            f"{name!r} is not a data set name: expected DatasetXXX_Name, for example Dataset008_Liver"
        )
    return int(match.group(1))
