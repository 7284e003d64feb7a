"""Measuring one case: intensities, and the sizes of its classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from acvl_utils.morphology.morphology_helper import cc3d_label_with_component_sizes
from scipy import ndimage

from samnet.core.errors import UserError
from samnet.core.field_of_view import (
    BLANK_SHARE,
    amid_blank,
    axes_of_slices,
    blank_limits,
    find_blank,
    find_outside,
)
from samnet.core.geometry import Grid, Reorientation, bounding_box, nonzero_box
from samnet.dataset.cases import Case
from samnet.dataset.description import DatasetDescription
from samnet.dataset.images import read_image, read_labels
from samnet.dataset.label_scheme import LabelScheme, find_boxes, mask_of
from samnet.fingerprint.records import (
    PERCENTILES,
    BlankVoxels,
    CaseFingerprint,
    ChannelStatistics,
    ClassStatistics,
)

MAX_SHAPE_SLICES = 32
MAX_SAMPLED_VOXELS = 200_000
_ALL_NEIGHBOURS = 26  # voxels that touch by a face, an edge or a corner belong together
_TOUCHING_PIXELS = np.ones((3, 3))  # likewise in a slice


@dataclass(frozen=True)
class SliceSizes:
    """Sizes of a class in up to `MAX_SHAPE_SLICES` evenly chosen slices across one axis.

    `ShapeStatistics` says how they are measured.

    Attributes:
        diameters: In mm, one for each slice.
        thicknesses: In mm, one for each slice.
    """

    diameters: tuple[float, ...] = ()
    thicknesses: tuple[float, ...] = ()


@dataclass(frozen=True)
class CaseMeasurements:
    """What is measured on one case.

    Attributes:
        case: What the fingerprint keeps of the case.
        sizes: Class -> sizes in slices across `(Z, Y, X)`, which count towards the statistics of
            all cases.
    """

    case: CaseFingerprint
    sizes: dict[str, tuple[SliceSizes, SliceSizes, SliceSizes]]


def measure_case(case: Case, description: DatasetDescription) -> CaseMeasurements:
    """Measure one training case.

    Args:
        case: Its files.
        description: The `dataset.json` of the data set.

    Returns:
        Its statistics.

    Raises:
        UserError: Image or label map cannot be read, or they do not belong together.
    """
    array, labels, grid = _read_canonical(case, description)
    spacing = grid.sampling_spacing
    scheme = description.label_scheme
    labelled = scheme.is_labelled(labels)
    boxes = find_boxes(labels, scheme.label_sets)
    classes: dict[str, ClassStatistics] = {}
    sizes: dict[str, tuple[SliceSizes, SliceSizes, SliceSizes]] = {}
    for name, values, box in zip(scheme.class_names, scheme.label_sets, boxes, strict=True):
        classes[name], sizes[name] = _measure_class(labels, values, box, spacing)
    channels = tuple(_channel_statistics(channel, labelled) for channel in array)
    measured = CaseFingerprint(
        shape=labels.shape,
        spacing=spacing,
        cropped_shape=nonzero_box(array, labels).shape,
        channels=channels,
        classes=classes,
        labelled_slices=_labelled_slices(labelled),
        has_spacing=grid.has_spacing,
        blank=_blank_voxels(array, labels, scheme, channels),
    )
    return CaseMeasurements(measured, sizes)


def _read_canonical(
    case: Case, description: DatasetDescription
) -> tuple[np.ndarray, np.ndarray, Grid]:
    """Read image `(C, Z, Y, X)` and label map `(Z, Y, X)` with canonical axes, and their grid."""
    expected = description.channel_names
    image = read_image(case.image_files, len(expected))
    if case.label_file is None:
        raise UserError(f"{case.identifier}: has no label map")
    if len(image.array) != len(expected):
        raise UserError(
            f"{case.image_files[0]}: the case has {len(image.array)} channel(s), dataset.json "
            f"names {len(expected)}: {', '.join(expected)}"
        )
    label_image = read_labels(case.label_file)
    difference = label_image.grid.difference(image.grid)
    if difference is not None and difference.kind == "shape":
        raise UserError(f"{case.label_file}: {difference.describe('its image')}")
    reorientation = Reorientation(image.grid)
    array = reorientation.to_canonical(image.array)
    if array.dtype.kind == "f":
        # As preprocessing takes them.
        array = np.nan_to_num(array, nan=0.0, posinf=0.0, neginf=0.0)
    labels = reorientation.to_canonical(label_image.array[0])
    return array, labels, reorientation.canonical_grid


def _labelled_slices(foreground: np.ndarray) -> tuple[int, int, int]:
    z, y, x = (int(foreground.any(axis=others).sum()) for others in ((1, 2), (0, 2), (0, 1)))
    return z, y, x


def _channel_statistics(channel: np.ndarray, foreground: np.ndarray) -> ChannelStatistics:
    inside = _subsample(channel[foreground])
    return ChannelStatistics(
        minimum=float(channel.min()),
        maximum=float(channel.max()),
        whole_numbers=bool(channel.dtype.kind in "iu" or np.array_equal(np.rint(channel), channel)),
        nonzero=_percentiles(_subsample(channel[channel != 0])) or (0.0,) * len(PERCENTILES),
        foreground=_percentiles(inside),
    )


def _blank_voxels(
    array: np.ndarray,
    labels: np.ndarray,
    scheme: LabelScheme,
    channels: Sequence[ChannelStatistics],
) -> BlankVoxels:
    lowest = [channel.minimum for channel in channels]
    highest = [channel.nonzero[-1] for channel in channels]
    limits = blank_limits(lowest, highest)
    wider = blank_limits(lowest, highest, 2 * BLANK_SHARE)
    if limits is None or wider is None:
        return BlankVoxels(0.0, 0.0, 0)
    share = round(float(find_blank(array, limits).mean()), 6)
    labelled = scheme.is_labelled(labels)
    z, y, x = (
        slice(max(0, part.start - 1), part.stop + 1)  # with their neighbours
        for part in bounding_box(labelled).slices
    )
    axes = axes_of_slices(labelled.shape)
    amid = _amid_blank(find_blank(array[:, z, y, x], wider), axes)
    if not (amid & labelled[z, y, x]).any():
        return BlankVoxels(share, 0.0, 0)
    shares = []
    for values in scheme.label_sets:
        mask = mask_of(labels[z, y, x], values)
        shares.append(float(amid[mask].mean()) if mask.any() else 0.0)
    outside = np.zeros_like(labelled)
    for axis in axes:
        outside |= find_outside(array, wider, axis)
    return BlankVoxels(share, round(max(shares), 6), int((outside & labelled).sum()))


def _amid_blank(blank: np.ndarray, axes: Sequence[int]) -> np.ndarray:
    """Find the voxels amid blank ones in slices across any of some axes."""
    amid = np.zeros_like(blank)
    for axis in axes:
        np.moveaxis(amid, axis, 0)[:] |= amid_blank(np.moveaxis(blank, axis, 0))
    return amid


def _subsample(values: np.ndarray) -> np.ndarray:
    # Every k-th voxel rather than a random draw: the same numbers on every run.
    return values[:: max(1, values.size // MAX_SAMPLED_VOXELS)]


def _percentiles(values: np.ndarray) -> tuple[float, ...] | None:
    if values.size == 0:
        return None
    return tuple(float(value) for value in np.percentile(values, PERCENTILES))


def _measure_class(
    labels: np.ndarray,
    values: Sequence[int],
    box: tuple[slice, ...] | None,
    spacing: tuple[float, float, float],
) -> tuple[ClassStatistics, tuple[SliceSizes, SliceSizes, SliceSizes]]:
    """Measure one class in a label map `(Z, Y, X)`.

    The box is that around its voxels, None where there are none; the spacing is in mm.
    """
    if box is None:
        return ClassStatistics(0, 0, (0, 0, 0)), (SliceSizes(),) * 3
    mask = np.ascontiguousarray(mask_of(labels[box], values))
    components = cc3d_label_with_component_sizes(mask, connectivity=_ALL_NEIGHBOURS)[1]
    z, y, x = (_sizes_across(mask, spacing, axis) for axis in range(3))
    return ClassStatistics(int(mask.sum()), len(components), _labelled_slices(mask)), (z, y, x)


def _sizes_across(mask: np.ndarray, spacing: tuple[float, float, float], axis: int) -> SliceSizes:
    in_plane = tuple(spacing[other] for other in range(3) if other != axis)
    slices = np.moveaxis(mask, axis, 0)
    present = np.flatnonzero(slices.any(axis=(1, 2)))
    count = min(len(present), MAX_SHAPE_SLICES)
    positions = np.linspace(0, len(present) - 1, count).round().astype(int)
    chosen = present[positions]
    measured = [_typical_component(slices[index], in_plane) for index in chosen]
    return SliceSizes(
        diameters=tuple(round(diameter, 3) for diameter, _ in measured),
        thicknesses=tuple(round(thickness, 3) for _, thickness in measured),
    )


def _typical_component(mask: np.ndarray, spacing: tuple[float, ...]) -> tuple[float, float]:
    """Return diameter and thickness in mm of the typical component of a mask `(H, W)`.

    It is the component that holds the middle pixel when all pixels are ordered by the area of their
    component: the area-weighted median.
    """
    labelled, count = ndimage.label(mask, structure=_TOUCHING_PIXELS)
    areas = np.bincount(labelled.ravel(), minlength=count + 1)[1:]
    typical = 0
    if count > 1:
        order = np.argsort(areas, kind="stable")
        typical = int(order[np.searchsorted(np.cumsum(areas[order]), areas.sum() / 2)])
    diameter = 2 * np.sqrt(areas[typical] * spacing[0] * spacing[1] / np.pi)
    # With a border of background. np.pad takes several times as long for small masks.
    component = np.zeros((mask.shape[0] + 2, mask.shape[1] + 2), bool)
    np.equal(labelled, typical + 1, out=component[1:-1, 1:-1])
    # The distance is to the nearest outside pixel's centre: half a pixel beyond the edge.
    widest = ndimage.distance_transform_edt(component, sampling=spacing).max()
    return float(diameter), float(max(2 * widest - min(spacing), min(spacing)))
