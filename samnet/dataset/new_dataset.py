"""Creating a new raw data set, completely or not at all."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path

from samnet.core.errors import UserError
from samnet.core.files import atomic_path
from samnet.core.paths import raw_folder

_NAME = re.compile(r"^\w[\w-]*$")


def new_dataset_folder(number: int, name: str) -> Path:
    """Return the folder where a new data set is to be created. Nothing is overwritten.

    Args:
        number: The id of the data set, 1 to 999.
        name: Its name without the id, such as `Liver`.

    Returns:
        `DatasetXXX_Name` in the folder of raw data.

    Raises:
        UserError: The number or name cannot be used, or a data set has the number already.
    """
    if not 0 < number < 1000:
        raise UserError(f"-d {number}: the number of a data set goes from 1 to 999")
    if not _NAME.match(name):
        raise UserError(
            f"--name {name!r}: write letters, digits, hyphens and underscores, for example Liver"
        )
    taken = sorted(raw_folder().glob(f"Dataset{number:03d}_*"))
    if taken:
        raise UserError(
            f"{taken[0]}: has the number {number} already; "
            "choose another with -d, or remove the folder"
        )
    return raw_folder() / f"Dataset{number:03d}_{name}"


@contextlib.contextmanager
def new_dataset(folder: Path) -> Iterator[Path]:
    """Create a data set folder, for use in a `with` statement.

    Args:
        folder: The folder to create.

    Yields:
        A temporary folder with `imagesTr` and `labelsTr`. It is renamed to `folder` at the end of
        the `with` block, or removed where the block raises an error.
    """
    with atomic_path(folder) as temporary:
        for part in ("imagesTr", "labelsTr"):
            (temporary / part).mkdir(parents=True)
        yield temporary
