"""Mending what is wrong with a data set in one way only: masks of 0 and 255 where there is a single class."""

from __future__ import annotations

import filecmp
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from samnet.core.errors import UserError
from samnet.core.files import atomic_path
from samnet.dataset.case_integrity import MASK_KIND, MASK_VALUE
from samnet.dataset.faults import Report
from samnet.dataset.images import read_labels, write_labels


def map_masks(report: Report) -> Iterator[str]:
    """Map 255 to 1 in every label map that the report names for it, and say what was done as it is: a sentence a file.

    The file as it was is kept in a folder beside its own, `labelsTr_before_fix`, from before it is replaced; killed
    and run again, the rest is mapped.

    Raises:
        UserError: another file of the name is kept there already; nothing of this file is changed.
    """
    return (_map_mask(Path(fault.file)) for fault in report.faults if fault.kind == MASK_KIND)


def _map_mask(file: Path) -> str:
    image = read_labels(file)
    labels = image.array[0]
    if not np.isin(labels, (0, MASK_VALUE)).all():  # changed since the report
        raise UserError(f"{file}: holds more than 0 and {MASK_VALUE}; check the data set again")
    kept = _keep(file)
    mapped = (labels == MASK_VALUE).astype(np.uint8)
    write_labels(mapped, image, file)
    return f"{file}: mapped 255 to 1 in {int(mapped.sum())} voxels; the file as it was is {kept}"


def _keep(file: Path) -> Path:
    kept = file.parent.with_name(f"{file.parent.name}_before_fix") / file.name
    if kept.is_file():
        if not filecmp.cmp(file, kept, shallow=False):
            raise UserError(
                f"{kept}: is there already and differs from {file}; move it elsewhere, nothing was changed"
            )
        return kept
    with atomic_path(kept) as temporary:
        shutil.copy2(file, temporary)
    return kept
