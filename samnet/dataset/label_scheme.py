"""What the values of label maps stand for: classes that exclude each other, or nested regions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

# What a name in `dataset.json` stands for: the value of a class, or the values of a region.
Label = int | tuple[int, ...]


@dataclass(frozen=True)
class Regions:
    """Unions of labels, as in nnU-Net v2. A network has an output for each; they may overlap.

    Attributes:
        label_sets: The values of each region, in the order of the network's outputs.
        class_order: The label that is written for each region, later ones over earlier ones.
    """

    label_sets: tuple[tuple[int, ...], ...]
    class_order: tuple[int, ...]

    def around(self, value: int) -> tuple[int, ...]:
        """Return the numbers of the regions in which a label lies.

        Args:
            value: A value of a label map.

        Returns:
            Positions in `label_sets`, ascending.
        """
        return tuple(number for number, values in enumerate(self.label_sets) if value in values)

    def label_written_for(self, value: int) -> int:
        """Return the label that a prediction holds where it finds exactly the regions of a label.

        Args:
            value: A value of a label map.

        Returns:
            The value that is written in its place.
        """
        return self.class_order[self.around(value)[-1]]


@dataclass(frozen=True)
class LabelScheme:
    """The classes or regions of a data set, and the value of voxels that nobody has labelled.

    Its fields are keys of `dataset.json`, of plans and of fingerprints.

    Attributes:
        labels: Name -> value of a class, or values of a region. Background first, without the
            ignore label.
        ignore_label: The value of voxels that are not labelled, or None.
        regions_class_order: The label that is written for each region, in the order of `labels`;
            empty without regions.
    """

    labels: dict[str, Label]
    ignore_label: int | None = None
    regions_class_order: tuple[int, ...] = ()

    @property
    def foreground(self) -> dict[str, Label]:
        """The labels without background: classes by their values, regions in the order given."""
        found = {name: label for name, label in self.labels.items() if label != 0}
        if has_regions(found):
            return found
        return dict(sorted(found.items(), key=lambda entry: values_of(entry[1])))

    @property
    def class_names(self) -> tuple[str, ...]:
        """The names of the foreground classes or regions, in the order of the outputs."""
        return tuple(self.foreground)

    @property
    def label_sets(self) -> tuple[tuple[int, ...], ...]:
        """The values in a label map of each foreground class or region, in the same order."""
        return tuple(values_of(label) for label in self.foreground.values())

    @property
    def num_classes(self) -> int:
        """The number of foreground classes or regions."""
        return len(self.class_names)

    @property
    def num_outputs(self) -> int:
        """The outputs of a network: one a class and the background, or one a region."""
        return self.num_classes if self.regions_class_order else self.num_classes + 1

    @property
    def regions(self) -> Regions | None:
        """The regions; None where the labels are classes that exclude each other."""
        if not self.regions_class_order:
            return None
        return Regions(self.label_sets, self.regions_class_order)

    @property
    def values(self) -> list[int]:
        """Every value that a label map may hold except the ignore label, ascending."""
        return all_values(self.labels)

    @property
    def highest_value(self) -> int:
        """The highest value that a label map may hold, the ignore label included."""
        return max(*self.values, self.ignore_label or 0)

    def is_labelled(self, label_map: np.ndarray) -> np.ndarray:
        """Return where a label map holds foreground: neither background nor the ignore label.

        Args:
            label_map: Whole numbers of any shape.

        Returns:
            Booleans of the same shape.
        """
        labelled = label_map != 0
        if self.ignore_label is not None:  # NumPy compares with None voxel by voxel
            labelled &= label_map != self.ignore_label
        return labelled


def has_regions(labels: dict[str, Label]) -> bool:
    """Tell whether any name stands for several values.

    Args:
        labels: Name -> value, or values.

    Returns:
        Whether there is a region among them.
    """
    return any(isinstance(label, tuple) for label in labels.values())


def values_of(label: Label) -> tuple[int, ...]:
    """Return the values in a label map that belong to a class or region.

    Args:
        label: A value, or the values of a region.

    Returns:
        The values.
    """
    return label if isinstance(label, tuple) else (label,)


def all_values(labels: dict[str, Label]) -> list[int]:
    """Return every value of some labels, ascending.

    Args:
        labels: Name -> value, or values.

    Returns:
        Each value once.
    """
    found: set[int] = set()
    for label in labels.values():
        found.update(values_of(label))
    return sorted(found)


def mask_of(label_map: np.ndarray, values: Sequence[int]) -> np.ndarray:
    """Return where a label map has one of some values.

    Args:
        label_map: Whole numbers of any shape.
        values: At least one value.

    Returns:
        Booleans of the same shape.
    """
    return label_map == values[0] if len(values) == 1 else np.isin(label_map, values)


def find_boxes(
    label_map: np.ndarray, label_sets: Sequence[Sequence[int]]
) -> list[tuple[slice, ...] | None]:
    """Find the box around the voxels of each set of labels.

    Args:
        label_map: Whole numbers of any shape.
        label_sets: The values of each class or region.

    Returns:
        A range along each axis for every set; None for a set that does not occur.
    """
    from scipy.ndimage import find_objects  # slow to load, and not needed by every worker

    highest = max(max(values) for values in label_sets)
    boxes_by_value = find_objects(label_map, highest)
    found = []
    for values in label_sets:
        boxes = [boxes_by_value[value - 1] for value in values]
        found.append(join_boxes(boxes))
    return found


def join_boxes(boxes: Sequence[tuple[slice, ...] | None]) -> tuple[slice, ...] | None:
    """Return the smallest box around several.

    Args:
        boxes: Ranges along each axis, or None for nothing.

    Returns:
        A range along each axis; None where all are None.
    """
    known = [box for box in boxes if box is not None]
    if not known:
        return None
    joined = []
    for ranges in zip(*known, strict=True):
        start = min(part.start for part in ranges)
        stop = max(part.stop for part in ranges)
        joined.append(slice(start, stop))
    return tuple(joined)
