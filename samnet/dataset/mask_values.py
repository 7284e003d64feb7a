"""What the values of many masks tell together: other scales, stray values, instance numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import ndimage

from samnet.dataset.masks import COLOUR, show_code

_FIRST_GREY_VALUE = 32  # lower values are numbers of classes, from here on they are shades of grey
_STRAY_SHARE = 0.01  # of the voxels that are not background
_FEWEST_INSTANCES = 3
_SHOWN = 5
_ONE_CLASS = "if all values but 0 mean one class, add --binary"


@dataclass(frozen=True)
class MaskValues:
    """The values of a mask other than 0.

    Attributes:
        file: The mask.
        counts: Number of voxels of each value.
        is_numbered: Whether the values are 1, 2, ..., n, each of one connected piece, as numbers of
            instances are.
    """

    file: Path
    counts: Counter[int]
    is_numbered: bool

    @classmethod
    def of(cls, file: Path, codes: np.ndarray) -> MaskValues:
        """Count the values of a mask.

        Args:
            file: The mask.
            codes: Its codes `(Z, Y, X)`, as `mask_codes` returns them.
        """
        found, numbers = np.unique(codes, return_counts=True)
        counts = Counter(
            {int(value): int(number) for value, number in zip(found, numbers, strict=True) if value}
        )
        is_consecutive = sorted(counts) == list(range(1, len(counts) + 1))
        return cls(file, counts, is_consecutive and _are_single_pieces(codes, len(counts)))


def _are_single_pieces(codes: np.ndarray, count: int) -> bool:
    neighbours = np.ones((3, 3, 3), bool)
    boxes = ndimage.find_objects(codes, max_label=count)
    for value, box in enumerate(boxes, 1):
        if box is not None and ndimage.label(codes[box] == value, neighbours)[1] > 1:
            return False
    return True


def all_values(masks: Iterable[MaskValues]) -> list[int]:
    """Return the values of all masks other than 0, in ascending order.

    Args:
        masks: The masks.
    """
    values: set[int] = set()
    for mask in masks:
        values |= set(mask.counts)
    return sorted(values)


def doubts(
    folder: Path, masks: list[MaskValues], *, is_binary: bool = False, is_nearest: bool = False
) -> list[str]:
    """Return what suggests that the values of the masks are not the numbers of classes.

    Args:
        folder: Folder of the masks, for the messages.
        masks: The masks.
        is_binary: Whether all values other than 0 are taken as one class.
        is_nearest: Whether stray values are replaced.

    Returns:
        Texts with file, finding and remedy; empty where nothing is odd.
    """
    numbered = _instance_doubts(folder, masks)
    stray = [] if is_nearest or numbered else _stray_doubts(masks)
    # Where all values are one class, only its edges can be wrong.
    return stray if is_binary else [*_scale_doubts(folder, masks), *numbered, *stray]


def _scale_doubts(folder: Path, masks: list[MaskValues]) -> list[str]:
    """Name masks that write the same in other values, such as 0 and 1 here, 0 and 255 there."""
    by_scale: dict[str, list[MaskValues]] = {}
    for mask in masks:
        smallest = _STRAY_SHARE * mask.counts.total()
        scales = {_scale(value) for value, count in mask.counts.items() if count > smallest}
        if len(scales) > 1:
            return []
        for scale in scales:
            by_scale.setdefault(scale, []).append(mask)
    if len(by_scale) < 2:
        return []
    parts = []
    for group in by_scale.values():
        shown = _listed([show_code(value) for value in all_values(group)])
        parts.append(f"{shown} in {len(group)} masks (such as {group[0].file.name})")
    return [
        f"{folder}: no mask holds both: {', but '.join(parts)}. They probably mean the same, "
        f"written in two ways: save all masks alike, or {_ONE_CLASS}; if they are different "
        "classes, name each with --labels"
    ]


def _scale(value: int) -> str:
    if value >= COLOUR:
        return "colour"
    return "number" if value < _FIRST_GREY_VALUE else "grey value"


def _instance_doubts(folder: Path, masks: list[MaskValues]) -> list[str]:
    """Tell of masks that number their objects: each holds 1 to n, with an n of its own."""
    filled = [mask for mask in masks if mask.counts]
    numbers = [len(mask.counts) for mask in filled]
    if len(set(numbers)) < 2 or max(numbers) < _FEWEST_INSTANCES:
        return []
    if not all(mask.is_numbered for mask in filled):
        return []
    largest = max(filled, key=lambda mask: len(mask.counts))
    return [
        f"{folder}: the values look like numbers of instances, not of classes: every mask holds "
        f"1 to n, each value in one piece, with n from {min(numbers)} to {max(numbers)} "
        f"({largest.file.name}); {_ONE_CLASS}; if they are classes, name each with --labels"
    ]


def stray_values(masks: list[MaskValues]) -> list[int]:
    """Return the values that are probably no class, such as those of soft edges.

    Args:
        masks: The masks.

    Returns:
        Values that few voxels have. Numbers 1, 2, ... without a gap count only where a single
        mask of several holds them, as structures may be small.
    """
    total: Counter[int] = Counter()
    num_masks: Counter[int] = Counter()
    for mask in masks:
        total.update(mask.counts)
        num_masks.update(mask.counts.keys())
    smallest = _STRAY_SHARE * total.total()
    values = sorted(total)
    is_consecutive = values == list(range(1, len(values) + 1))
    rare = [value for value in values if total[value] < smallest]
    if not is_consecutive:
        return rare
    return [value for value in rare if num_masks[value] == 1 < len(masks)]


def _stray_doubts(masks: list[MaskValues]) -> list[str]:
    stray = stray_values(masks)
    found = []
    for mask in masks:
        parts = [
            f"{show_code(value)} in {mask.counts[value]} voxels"
            for value in stray
            if value in mask.counts
        ]
        if parts:
            found.append(
                f"{mask.file}: stray values ({_listed(parts)}); correct the mask, or add --nearest "
                "to take the nearest other value; if they are classes, name each with --labels"
            )
    return found


def _listed(parts: list[str]) -> str:
    rest = len(parts) - _SHOWN
    return ", ".join(parts[:_SHOWN]) + (f" and {rest} more" if rest > 0 else "")


def nearest_values(values: list[int], stray: list[int]) -> dict[int, int]:
    """Return, for each stray value, the value that takes its place.

    Args:
        values: All values of the masks other than 0.
        stray: Those to replace.

    Returns:
        Stray value -> the nearest value that is kept, or 0. Colours are compared by red, green and
        blue; of two that are equally near, the lower one is taken.
    """
    kept = [0, *(value for value in values if value not in stray)]
    return {value: min(kept, key=lambda other: _distance(value, other)) for value in stray}


def _distance(one: int, other: int) -> int:
    pairs = zip(_channels(one), _channels(other), strict=True)
    return sum((first - second) ** 2 for first, second in pairs)


def _channels(code: int) -> tuple[int, int, int]:
    if code < COLOUR:
        return code, code, code
    return code >> 16 & 255, code >> 8 & 255, code & 255
