"""A new raw data set, made as a whole or not at all."""

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
    """Where the data set `DatasetXXX_Name` is to be made, below `samnet_raw`.

    Raises:
        UserError: the number or name cannot be used, or a data set has the number already; nothing is overwritten.
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
            f"{taken[0]}: has the number {number} already; choose another with -d, or remove the folder"
        )
    return raw_folder() / f"Dataset{number:03d}_{name}"


@contextlib.contextmanager
def making_dataset(folder: Path) -> Iterator[Path]:
    """Yield a temporary folder with `imagesTr` and `labelsTr`; on success it becomes `folder`, else it is removed."""
    with atomic_path(folder) as temporary:
        for part in ("imagesTr", "labelsTr"):
            (temporary / part).mkdir(parents=True)
        yield temporary
