"""Measuring one case."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cc3d
import numpy as np
from scipy import ndimage

from samnet.core.errors import UserError
from samnet.core.geometry import Reorientation, nonzero_box
from samnet.dataset.cases import Case
from samnet.dataset.description import DatasetDescription
from samnet.dataset.images import read_image, read_labels
from samnet.dataset.label_scheme import find_boxes, foreground, mask_of, values_of
from samnet.fingerprint.records import (
    PERCENTILES,
    CaseFingerprint,
    ChannelStatistics,
    ClassStatistics,
)

MAX_SHAPE_SLICES = 32
MAX_SAMPLED_VOXELS = 200_000


@dataclass(frozen=True)
class SliceSizes:
    """Of up to `MAX_SHAPE_SLICES` evenly chosen slices across one axis: diameter and thickness of a class in mm.

    See `ShapeStatistics`.
    """

    diameters: tuple[float, ...] = ()
    thicknesses: tuple[float, ...] = ()


@dataclass(frozen=True)
class CaseMeasurements:
    """What is kept of one case, and what counts towards the statistics of all: class -> sizes across `(Z, Y, X)`."""

    case: CaseFingerprint
    sizes: dict[str, tuple[SliceSizes, SliceSizes, SliceSizes]]


def measure_case(case: Case, description: DatasetDescription) -> CaseMeasurements:
    """The statistics of one case.

    Raises:
        UserError: image or label map cannot be read, or they do not belong together.
    """
    image = read_image(case.image_files)
    if case.label_file is None:
        raise UserError(f"{case.identifier}: has no label map")
    if len(image.array) != len(description.channel_names):
        raise UserError(
            f"{case.image_files[0]}: the case has {len(image.array)} channel(s), dataset.json names "
            f"{len(description.channel_names)}: {', '.join(description.channel_names)}"
        )
    label_image = read_labels(case.label_file)
    if label_image.grid.shape != image.grid.shape:
        raise UserError(
            f"{case.label_file}: shape {label_image.grid.shape} differs from {image.grid.shape} of its image"
        )
    reorientation = Reorientation(image.grid)
    array, labels = (
        reorientation.to_canonical(image.array),
        reorientation.to_canonical(label_image.array[0]),
    )
    if array.dtype.kind == "f":
        array = np.nan_to_num(array, nan=0.0, posinf=0.0, neginf=0.0)  # as preprocessing takes them
    grid = reorientation.canonical_grid
    labelled = (labels > 0) & (labels != description.ignore_label)
    label_sets = {name: values_of(label) for name, label in foreground(description.labels).items()}
    boxes = find_boxes(labels, list(label_sets.values()))
    classes = {
        name: _measure_class(labels, values, box, grid.spacing)
        for (name, values), box in zip(label_sets.items(), boxes, strict=True)
    }
    measured = CaseFingerprint(
        shape=grid.shape,
        spacing=grid.spacing,
        cropped_shape=nonzero_box(array, labels).shape,
        channels=tuple(_channel_statistics(channel, labelled) for channel in array),
        classes={name: statistics for name, (statistics, _) in classes.items()},
        labelled_slices=_labelled_slices(labelled),
    )
    return CaseMeasurements(measured, {name: sizes for name, (_, sizes) in classes.items()})


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
    """labels `(Z, Y, X)`, box around the voxels of these values or None where there are none, spacing in mm."""
    if box is None:
        return ClassStatistics(0, 0, (0, 0, 0)), (SliceSizes(),) * 3
    mask = np.ascontiguousarray(mask_of(labels[box], values))
    components = int(cc3d.connected_components(mask, return_N=True)[1])
    z, y, x = (_sizes_across(mask, spacing, axis) for axis in range(3))
    return ClassStatistics(int(mask.sum()), components, _labelled_slices(mask)), (z, y, x)


def _sizes_across(mask: np.ndarray, spacing: tuple[float, float, float], axis: int) -> SliceSizes:
    in_plane = tuple(spacing[other] for other in range(3) if other != axis)
    slices = np.moveaxis(mask, axis, 0)
    present = np.flatnonzero(slices.any(axis=(1, 2)))
    chosen = present[
        np.linspace(0, len(present) - 1, min(len(present), MAX_SHAPE_SLICES)).round().astype(int)
    ]
    measured = [_typical_component(slices[index], in_plane) for index in chosen]
    return SliceSizes(
        diameters=tuple(round(diameter, 3) for diameter, _ in measured),
        thicknesses=tuple(round(thickness, 3) for _, thickness in measured),
    )


def _typical_component(mask: np.ndarray, spacing: tuple[float, ...]) -> tuple[float, float]:
    """Diameter and thickness in mm of the component in which the middle pixel lies when all are lined up by size."""
    labelled, count = ndimage.label(mask, structure=np.ones((3, 3)))
    areas = np.bincount(labelled.ravel(), minlength=count + 1)[1:]
    order = np.argsort(areas, kind="stable")
    typical = int(order[np.searchsorted(np.cumsum(areas[order]), areas.sum() / 2)])
    diameter = 2 * np.sqrt(areas[typical] * spacing[0] * spacing[1] / np.pi)
    component = np.pad(labelled == typical + 1, 1)
    # The distance is to the nearest outside pixel's centre: half a pixel beyond the edge.
    widest = ndimage.distance_transform_edt(component, sampling=spacing).max()
    return float(diameter), float(max(2 * widest - min(spacing), min(spacing)))
