"""The three folders of all data sets, and how a data set is named."""

from __future__ import annotations

import os
import re
from pathlib import Path

from samnet.core.errors import UserError

_DATASET_FOLDER = re.compile(r"^Dataset(\d{3,})_(.+)$")


def raw_folder() -> Path:
    """Return the folder of raw data: `samnet_raw`, else `nnUNet_raw`, else `./samnet_data/raw`."""
    raw = os.environ.get("samnet_raw") or os.environ.get("nnUNet_raw")
    return Path(raw or "samnet_data/raw")


def preprocessed_folder() -> Path:
    """Return the folder of prepared data: `samnet_preprocessed`, else one below `./samnet_data`."""
    return Path(os.environ.get("samnet_preprocessed") or "samnet_data/preprocessed")


def results_folder() -> Path:
    """Return the folder of trained models: `samnet_results`, else one below `./samnet_data`."""
    return Path(os.environ.get("samnet_results") or "samnet_data/results")


def find_dataset_name(identifier: str | int) -> str:
    """Find the folder name of a data set in the three folders.

    Args:
        identifier: An id such as `8` or `008`, or a full name.

    Returns:
        The name, `DatasetXXX_Name`.

    Raises:
        UserError: There is no such data set, or several with this id; the message lists what is
            there.
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
            listing = ", ".join(matches)
            raise UserError(
                f"data set id {text} is ambiguous: {listing}. Give each its own number."
            )
    listing = ", ".join(known) if known else "none"
    raise UserError(
        f"no data set {text!r} in {raw_folder()} (known: {listing}). Put it there as "
        "DatasetXXX_Name, or set the environment variable samnet_raw to the folder that holds it."
    )


def _known_dataset_names() -> list[str]:
    names: set[str] = set()
    for folder in (raw_folder(), preprocessed_folder(), results_folder()):
        if folder.is_dir():
            entries = [entry.name for entry in folder.iterdir() if entry.is_dir()]
            names.update(filter(_DATASET_FOLDER.match, entries))
    return sorted(names)


def dataset_number(name: str) -> int:
    """Return the number of a data set.

    Args:
        name: Its folder name, `DatasetXXX_Name`.

    Returns:
        The number `XXX`.

    Raises:
        UserError: The name has another form.
    """
    match = _DATASET_FOLDER.match(name)
    if match is None:
        raise UserError(
            f"{name!r} is not a data set name: expected DatasetXXX_Name, for example "
            "Dataset008_Liver"
        )
    return int(match.group(1))
