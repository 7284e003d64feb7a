"""The rules by which predicted label maps are changed, and the file that holds them.

`postprocessing.json` in the folder of a model says for each class or region which rules hold. The
cross-validation chooses them (`samnet.selection.postprocessing`). Without the file nothing is
changed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from samnet.core.errors import UserError
from samnet.core.files import read_json, write_json
from samnet.core.geometry import Grid, Reorientation
from samnet.core.records import LEFT_OUT_BY_DEFAULT, from_json, to_json
from samnet.dataset.label_scheme import LabelScheme, find_boxes, mask_of
from samnet.postprocessing.across_slices import (
    FEWEST_SLICES,
    smoothed_across,
    with_closed_gaps,
    without_thin_components,
)
from samnet.postprocessing.structures import (
    largest_component,
    with_filled_holes,
    without_small_components,
)

POSTPROCESSING_FILE = "postprocessing.json"


@dataclass(frozen=True)
class StructureRules:
    """What is done to one class or region.

    What is done across slices is left out of 2D images, and of volumes of one or two slices.

    Attributes:
        closed_gap: Between two slices that show it at the same place, so many slices without it are
            filled there.
        smooth_slices: Whether each voxel gets the value of most of three: its own, and those of the
            same place on the slices before and after it.
        fewest_slices: Components on fewer slices are left out; 0 for none.
        fill_holes: Whether background that it encloses becomes part of it.
        smallest_size: Components below this size are left out; 0 for none. In mm3 (mm2 for 2D
            images), or in pixels or voxels where the images have no spacing.
        largest_component: Whether its largest component alone is kept.
    """

    closed_gap: int = field(default=0, metadata=LEFT_OUT_BY_DEFAULT)
    smooth_slices: bool = field(default=False, metadata=LEFT_OUT_BY_DEFAULT)
    fewest_slices: int = field(default=0, metadata=LEFT_OUT_BY_DEFAULT)
    fill_holes: bool = field(default=False, metadata=LEFT_OUT_BY_DEFAULT)
    smallest_size: float = field(default=0.0, metadata=LEFT_OUT_BY_DEFAULT)
    largest_component: bool = field(default=False, metadata=LEFT_OUT_BY_DEFAULT)

    def __bool__(self) -> bool:
        return self != StructureRules()

    @property
    def is_across_slices(self) -> bool:
        """Whether a slice is changed by what is on the slices next to it."""
        return bool(self.closed_gap or self.smooth_slices or self.fewest_slices)

    def describe(self, size_unit: str) -> str:
        """Say what is done, in a few words.

        Args:
            size_unit: The unit of `smallest_size`.
        """
        parts = []
        if self.closed_gap:
            parts.append(f"close gaps of up to {self.closed_gap} slices")
        if self.smooth_slices:
            parts.append("smooth across slices")
        if self.fewest_slices:
            parts.append(f"leave out components on fewer than {self.fewest_slices} slices")
        if self.fill_holes:
            parts.append("fill holes")
        if self.smallest_size:
            parts.append(f"leave out components below {self.smallest_size:g} {size_unit}")
        if self.largest_component:
            parts.append("keep the largest component")
        return ", ".join(parts) or "nothing"

    def apply(
        self,
        mask: np.ndarray,
        voxel_size: float,
        flat_axes: tuple[int, ...] = (),
        slicing_axis: int | None = None,
    ) -> np.ndarray:
        """Change the mask of the structure.

        Args:
            mask: Booleans `(Z, Y, X)`, of a part of the image that holds the whole structure, and
                all slices where there is something to do across them.
            voxel_size: The size of a voxel, in the unit of `smallest_size`.
            flat_axes: The axes along which the image has one voxel.
            slicing_axis: The axis of the mask across which the slices lie; None to do nothing
                across slices.

        Returns:
            Booleans of the same shape.
        """
        if slicing_axis is not None:
            mask = self._apply_across(mask, slicing_axis)
        if self.fill_holes:
            mask = with_filled_holes(mask, flat_axes)
        if self.smallest_size:
            # The sizes of whole voxels are compared, so rounding must not decide.
            mask = without_small_components(mask, self.smallest_size / voxel_size - 1e-6)
        if self.largest_component:
            mask = largest_component(mask)
        return mask

    def _apply_across(self, mask: np.ndarray, axis: int) -> np.ndarray:
        """Change the mask by what is on neighbouring slices."""
        if self.closed_gap:
            mask = with_closed_gaps(mask, axis, self.closed_gap)
        if self.smooth_slices:
            mask = smoothed_across(mask, axis)
        if self.fewest_slices:
            mask = without_thin_components(mask, axis, self.fewest_slices)
        return mask


@dataclass(frozen=True)
class Postprocessing:
    """The rules of a model.

    Attributes:
        structures: Name of a class or region -> its rules. Others are left unchanged.
        size_unit: The unit of sizes: `mm3`, `mm2`, `pixels` or `voxels`; see `size_of_voxel`.
        slicing_axis: The canonical axis across which the slices of the rules lie: 0 for Z, 1 for Y,
            2 for X.
        weights: The weights that the rules were chosen for (`samnet.models.weights_note`). None in
            a file that a user wrote: its rules hold for any.
    """

    structures: dict[str, StructureRules] = field(default_factory=dict)
    size_unit: str = "mm3"
    slicing_axis: int = field(default=0, metadata=LEFT_OUT_BY_DEFAULT)
    weights: dict[str, str] | None = field(default=None, metadata=LEFT_OUT_BY_DEFAULT)

    def __bool__(self) -> bool:
        return any(self.structures.values())

    def describe(self) -> list[str]:
        """Return a line for each structure that has rules."""
        return [
            f"{name}: {rules.describe(self.size_unit)}"
            for name, rules in self.structures.items()
            if rules
        ]

    def apply(self, labels: np.ndarray, grid: Grid, label_scheme: LabelScheme) -> np.ndarray:
        """Change a predicted label map.

        What is taken from a structure gets the label of the region around it, else that of the
        background. Only background is added to a structure.

        Args:
            labels: Labels `(Z, Y, X)`.
            grid: Their grid.
            label_scheme: The classes or regions.

        Returns:
            The changed labels, of the same type; the same array where nothing changes.

        Raises:
            UserError: Sizes are in another unit than the image has.
        """
        voxel_size, unit = size_of_voxel(grid)
        has_sizes = any(rules.smallest_size for rules in self.structures.values())
        if has_sizes and unit != self.size_unit:
            raise UserError(
                f"the model's {POSTPROCESSING_FILE} has sizes in {self.size_unit}, and the image's "
                f"are in {unit}; correct the spacing of the image, or predict without "
                "postprocessing (--no-postprocessing)"
            )
        flat_axes = tuple(axis for axis, length in enumerate(grid.shape) if length == 1)
        slicing_axis = axis_of_slices(grid, self.slicing_axis)
        for number, name in enumerate(label_scheme.class_names):
            rules = self.structures.get(name)
            if rules:
                axis = slicing_axis if rules.is_across_slices else None
                change = partial(
                    rules.apply, voxel_size=voxel_size, flat_axes=flat_axes, slicing_axis=axis
                )
                labels = _apply_to_structure(labels, label_scheme, number, change, axis)
        return labels

    def save(self, folder: Path) -> None:
        """Write the rules into the folder of a model, or delete the file where there are none.

        Args:
            folder: The folder.
        """
        file = folder / POSTPROCESSING_FILE
        if self:
            write_json(file, to_json(self))
        else:
            file.unlink(missing_ok=True)


NO_POSTPROCESSING = Postprocessing()


def load_postprocessing(folder: Path, label_scheme: LabelScheme) -> Postprocessing:
    """Read the rules of a model.

    Args:
        folder: The folder of the model.
        label_scheme: Its classes or regions.

    Returns:
        The rules; none where there is no file.

    Raises:
        UserError: The file is damaged, or names a structure that the model does not have.
    """
    file = folder / POSTPROCESSING_FILE
    if not file.is_file():
        return NO_POSTPROCESSING
    rules = from_json(Postprocessing, read_json(file), str(file))
    names = label_scheme.class_names
    unknown = [name for name in rules.structures if name not in names]
    if unknown:
        raise UserError(
            f"{file}: has rules for {unknown[0]!r}, the model finds {', '.join(names)}; correct "
            "the name, or delete the file to predict without postprocessing"
        )
    for name, of_one in rules.structures.items():
        for key in ("smallest_size", "closed_gap", "fewest_slices"):
            if getattr(of_one, key) < 0:
                raise UserError(f"{file}: {key} of {name!r} is negative; correct it")
    if rules.slicing_axis not in (0, 1, 2):
        raise UserError(
            f"{file}: slicing_axis is {rules.slicing_axis}; it has to be 0 (Z), 1 (Y) or 2 (X)"
        )
    return rules


def axis_of_slices(grid: Grid, slicing_axis: int) -> int | None:
    """Return the axis of an image across which its slices lie.

    Args:
        grid: The grid of the image.
        slicing_axis: The canonical axis.

    Returns:
        The axis of arrays `(Z, Y, X)` as they lie in the file; None for a 2D image, and for a
        volume of so few slices that nothing lies between two of them.
    """
    if grid.is_2d:
        return None
    axes = [canonical for canonical, _ in Reorientation(grid).native_axes]
    axis = axes.index(slicing_axis)
    return axis if grid.shape[axis] >= FEWEST_SLICES else None


def size_of_voxel(grid: Grid) -> tuple[float, str]:
    """Return the size of a voxel and its unit.

    Args:
        grid: The grid of an image.

    Returns:
        The volume in mm3, the area in mm2 of a 2D image; 1 in pixels or voxels without a spacing.
    """
    if not grid.has_spacing:
        return 1.0, grid.unit
    z, y, x = grid.spacing
    return (y * x, "mm2") if grid.is_2d else (z * y * x, "mm3")


def _apply_to_structure(
    labels: np.ndarray,
    label_scheme: LabelScheme,
    number: int,
    change: Callable[[np.ndarray], np.ndarray],
    whole_axis: int | None,
) -> np.ndarray:
    """Return labels in which one structure is changed, within the box around it.

    The box has all slices across `whole_axis`.
    """
    box = find_boxes(labels, [label_scheme.label_sets[number]])[0]
    if box is None:
        return labels
    if whole_axis is not None:
        box = (*box[:whole_axis], slice(None), *box[whole_axis + 1 :])
    inner = labels[box]
    before = mask_of(inner, label_scheme.label_sets[number])
    after = change(before)
    removed, added = before & ~after, after & ~before & (inner == 0)
    if not (removed.any() or added.any()):
        return labels
    changed = inner.copy()
    for value, below in _labels_below(label_scheme, number).items():
        changed[removed & (inner == value)] = below
    changed[added] = _written_label(label_scheme, number)
    result = labels.copy()
    result[box] = changed
    return result


def _labels_below(label_scheme: LabelScheme, number: int) -> Mapping[int, int]:
    """Return what is left of each label of a structure when the structure is taken away.

    Regions within the structure are taken away with it.
    """
    values = label_scheme.label_sets[number]
    regions = label_scheme.regions
    if regions is None:
        return dict.fromkeys(values, 0)
    below = {}
    for value in values:
        around = [
            other for other in regions.around(value) if set(regions.label_sets[other]) - set(values)
        ]
        below[value] = regions.class_order[around[-1]] if around else 0
    return below


def _written_label(label_scheme: LabelScheme, number: int) -> int:
    regions = label_scheme.regions
    return label_scheme.label_sets[number][0] if regions is None else regions.class_order[number]
