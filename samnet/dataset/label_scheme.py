"""What the values of label maps stand for: classes that exclude each other, or regions that lie within each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

# What a name in `dataset.json` stands for: the value of a class, or the values of a region.
Label = int | tuple[int, ...]


@dataclass(frozen=True)
class Regions:
    """Unions of labels, as in nnU-Net v2: a network has an output for each, and one voxel may lie in several.

    label_sets: the values of each region, in the order of the network's outputs.
    class_order: the label that is written for each of them, later ones over earlier ones.
    """

    label_sets: tuple[tuple[int, ...], ...]
    class_order: tuple[int, ...]

    def around(self, value: int) -> tuple[int, ...]:
        """The regions, by number, in which a label lies."""
        return tuple(number for number, values in enumerate(self.label_sets) if value in values)

    def label_written_for(self, value: int) -> int:
        """What a prediction that finds the regions of this label, and no others, has in its place."""
        return self.class_order[self.around(value)[-1]]


class Labelled:
    """What follows from the labels of a data set, for the records that hold them.

    labels: name -> value of a class, or values of a region; background first, without the ignore label.
    ignore_label: the value whose voxels are not labelled, or None.
    regions_class_order: the label that is written for each region, in the order of `labels`; empty without regions.
    """

    labels: dict[str, Label]
    ignore_label: int | None
    regions_class_order: tuple[int, ...]

    @property
    def class_names(self) -> tuple[str, ...]:
        """The foreground classes in the order of their values, or the regions in their own."""
        return tuple(foreground(self.labels))

    @property
    def num_classes(self) -> int:
        """Foreground classes or regions."""
        return len(self.class_names)

    @property
    def num_outputs(self) -> int:
        """Of a network: one for each class and the background, or one for each region."""
        return self.num_classes if self.regions_class_order else self.num_classes + 1

    @property
    def regions(self) -> Regions | None:
        """None where the labels are classes that exclude each other."""
        if not self.regions_class_order:
            return None
        return Regions(
            tuple(map(values_of, foreground(self.labels).values())), self.regions_class_order
        )


def foreground(labels: dict[str, Label]) -> dict[str, Label]:
    """Labels without the background: classes in the order of their values, regions in the order given."""
    found = {name: label for name, label in labels.items() if label != 0}
    if has_regions(found):
        return found
    return dict(sorted(found.items(), key=lambda entry: values_of(entry[1])))


def has_regions(labels: dict[str, Label]) -> bool:
    return any(isinstance(label, tuple) for label in labels.values())


def values_of(label: Label) -> tuple[int, ...]:
    """The values in a label map that belong to a class or region."""
    return label if isinstance(label, tuple) else (label,)


def all_values(labels: dict[str, Label]) -> list[int]:
    """Every value that a label map may have, the ignore label aside, in ascending order."""
    return sorted({value for label in labels.values() for value in values_of(label)})


def label_sets_of(classes: int | Sequence[Sequence[int]]) -> Sequence[Sequence[int]]:
    """The values of each class or region; those of a number of classes are 1, 2, and so on."""
    return [(value,) for value in range(1, classes + 1)] if isinstance(classes, int) else classes


def mask_of(label_map: np.ndarray, values: Sequence[int]) -> np.ndarray:
    """Where a label map of any shape has one of these values."""
    return label_map == values[0] if len(values) == 1 else np.isin(label_map, values)


def find_boxes(
    label_map: np.ndarray, label_sets: Sequence[Sequence[int]]
) -> list[tuple[slice, ...] | None]:
    """The box around the voxels of each set of labels; None for one that does not occur."""
    from scipy.ndimage import find_objects

    highest = max(value for values in label_sets for value in values)
    single = find_objects(label_map, highest)
    return [join_boxes([single[value - 1] for value in values]) for values in label_sets]


def join_boxes(boxes: Sequence[tuple[slice, ...] | None]) -> tuple[slice, ...] | None:
    """The smallest box around all; None where there is none."""
    known = [box for box in boxes if box is not None]
    if not known:
        return None
    return tuple(
        slice(min(s.start for s in sides), max(s.stop for s in sides))
        for sides in zip(*known, strict=True)
    )
