"""The repair of faults with only one remedy: masks of 0 and 255 where there is a single class."""

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
from samnet.dataset.images import companions_of, read_labels, write_labels


def map_masks(report: Report) -> Iterator[str]:
    """Map 255 to 1 in every label map that a report lists for it.

    Each original file is copied to the folder `labelsTr_before_fix`, next to the folder of the
    label maps, before the file is replaced. If the process is killed, the next call maps the
    remaining files.

    Args:
        report: The findings about the data set.

    Yields:
        One sentence for each file, once it is mapped.

    Raises:
        UserError: A different file of the same name was kept before, or the label map has changed
            since the report. This file is left unchanged.
    """
    for fault in report.faults:
        if fault.kind == MASK_KIND:
            yield _map_mask(Path(fault.file))


def _map_mask(file: Path) -> str:
    image = read_labels(file)
    labels = image.array[0]
    if not np.isin(labels, (0, MASK_VALUE)).all():  # the file has changed since the report
        raise UserError(f"{file}: holds more than 0 and {MASK_VALUE}; check the data set again")
    original = _keep_original(file)
    mapped = (labels == MASK_VALUE).astype(np.uint8)
    write_labels(mapped, image, file)
    return f"{file}: mapped 255 to 1 in {int(mapped.sum())} voxels; the original file is {original}"


def _keep_original(file: Path) -> Path:
    """Copy a file, and those that it refers to, to the folder of originals; return the copy."""
    original = file.parent.with_name(f"{file.parent.name}_before_fix") / file.name
    if original.is_file():
        if not filecmp.cmp(file, original, shallow=False):
            raise UserError(
                f"{original}: is there already and differs from {file}; move it elsewhere, "
                "nothing was changed"
            )
        return original
    for source in (*companions_of(file), file):
        with atomic_path(original.with_name(source.name)) as temporary:
            shutil.copy2(source, temporary)
    return original
