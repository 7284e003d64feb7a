"""Which `dataset.json` declares the labels of some label maps."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from samnet.core.errors import UserError
from samnet.dataset.dataset_folder import DatasetFolder
from samnet.dataset.description import DESCRIPTION_FILE, DatasetDescription


def find_description(
    dataset: str | int | None, file: Path | None, places: Sequence[Path]
) -> DatasetDescription:
    """Read the description that is named, else the first one that is found.

    Args:
        dataset: Id or name of the data set that declares the labels, or None.
        file: The `dataset.json`, or None.
        places: The folders to search where neither is given.

    Returns:
        The description.

    Raises:
        UserError: There is none, or it is not usable.
    """
    if file is not None:
        return DatasetDescription.load(file)
    if dataset is not None:
        return DatasetDescription.load(DatasetFolder.find(dataset).description_file)
    for place in places:
        if (place / DESCRIPTION_FILE).is_file():
            return DatasetDescription.load(place / DESCRIPTION_FILE)
    raise UserError(
        f"no dataset.json in {' or '.join(map(str, places))}; name the data set with -d ID, or the "
        "file with --dataset-json"
    )
