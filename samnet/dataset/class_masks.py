"""Merging the masks of a case, of which each holds one class, into one mask of classes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from samnet.core.errors import UserError
from samnet.dataset.formats.image import Image
from samnet.dataset.mask_rules import MaskRules
from samnet.dataset.mask_values import nearest_values
from samnet.dataset.masks import mask_codes, show_code

_SHOWN_VALUES = 5


def merge_masks(files: Sequence[Path | None], rules: MaskRules) -> tuple[Image, np.ndarray]:
    """Read the mask of each class of a case, and merge them.

    Args:
        files: The masks in the order of the classes; None for a class that the case does not have.
        rules: How masks are read, and what is done where they overlap.

    Returns:
        The first mask as an image, whose grid all share, and `(Z, Y, X)` the number of the class of
        each voxel, from 1; 0 for background.

    Raises:
        UserError: A mask cannot be read, holds several values, or lies on another grid than the
            first, or masks overlap and no rule says which class counts.
    """
    reference: Image | None = None
    merged = np.zeros(0, np.int64)
    present = [(number, file) for number, file in enumerate(files, 1) if file is not None]
    for number, file in present:
        image, codes = mask_codes(file)
        inside = _inside(file, codes, rules)
        if reference is None:
            reference, merged = image, np.zeros(codes.shape, np.int64)
        difference = image.grid.difference(reference.grid)
        if difference is not None:
            first = present[0][1]
            raise UserError(
                f"{file}: {difference.describe(str(first))}; save the masks of a case on one grid"
            )
        covered = inside & (merged > 0)
        if covered.any() and rules.overlap is None:
            raise UserError(_overlap(file, files, merged[covered]))
        merged[inside & ~covered if rules.overlap == "first" else inside] = number
    assert reference is not None, "a case has at least one mask"
    return reference, merged


def _inside(file: Path, codes: np.ndarray, rules: MaskRules) -> np.ndarray:
    """Return where a mask holds its class."""
    found, counts = np.unique(codes[codes > 0], return_counts=True)
    if len(found) < 2 or rules.binary:
        return codes > 0
    values = [int(value) for value in found]
    if not rules.nearest:
        shown = ", ".join(show_code(value) for value in values[:_SHOWN_VALUES])
        more = ", ..." if len(values) > _SHOWN_VALUES else ""
        raise UserError(
            f"{file}: holds {len(values)} values other than 0 ({shown}{more}), but the mask of a "
            "class has one; correct it, add --binary to take all of them, or --nearest to take the "
            "nearest of 0 and the most frequent one"
        )
    most_frequent = values[int(counts.argmax())]
    replaced = nearest_values(values, [value for value in values if value != most_frequent])
    kept = [value for value in values if replaced.get(value, value)]
    return np.isin(codes, kept)


def _overlap(file: Path, files: Sequence[Path | None], classes: np.ndarray) -> str:
    numbers, counts = np.unique(classes, return_counts=True)
    others = [
        f"{count} voxels with {files[number - 1]}"
        for number, count in zip(numbers, counts, strict=True)
    ]
    return (
        f"{file}: overlaps in {' and '.join(others)}; correct the masks, or add --overlap last "
        "(the class named last in --class-suffixes counts, such as a tumour in an organ) or "
        "--overlap first"
    )
