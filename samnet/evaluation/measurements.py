"""Measurements of one label map: volume, parts, extent, position and intensity of each class."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from samnet.core.components import component_sizes, label_components
from samnet.core.geometry import Grid
from samnet.dataset.label_scheme import LabelScheme, find_boxes, mask_of
from samnet.evaluation.volumes import volume_unit, voxel_volume

SHAPE_COLUMNS = (
    "volume",
    "voxels",
    "components",
    "largest_component",
    "extent_x",
    "extent_y",
    "extent_z",
    "centroid_x",
    "centroid_y",
    "centroid_z",
)
_COUNTED = ("volume", "voxels", "components", "largest_component")
_PERCENTILES = {"p5": 5, "p25": 25, "median": 50, "p75": 75, "p95": 95}
INTENSITY_COLUMNS = ("mean", "std", *_PERCENTILES)
Measured = dict[str, float]


def measure_label_map(
    label_map: np.ndarray,
    grid: Grid,
    label_scheme: LabelScheme,
    image: np.ndarray | None = None,
    channel_names: Sequence[str] = (),
) -> dict[str, Measured]:
    """Measure every foreground class or region of a label map.

    Positions and extents are along the patient's axes (x to the right, y to the front, z to the
    head). For 2D images, and where no spacing is known, they are along the axes of the image (x
    along rows, y down, z through the slices) and begin at the centre of the first voxel.

    Args:
        label_map: Whole numbers `(Z, Y, X)`.
        grid: Its grid.
        label_scheme: The classes or regions.
        image: The image `(C, Z, Y, X)` on the same grid, for intensities; None for none.
        channel_names: The names of its channels.

    Returns:
        Name of a class -> name of a measurement -> its value. The names are `SHAPE_COLUMNS`, and
        `CHANNEL_NAME` with those of `INTENSITY_COLUMNS` for each channel. Volumes are in
        `volume_unit(grid)`, lengths in `grid.unit`. Of a class that is not there, volume and counts
        are 0 and everything else NaN.
    """
    unit_volume = voxel_volume(grid.shape, grid.spacing, volume_unit(grid))
    boxes = find_boxes(label_map, label_scheme.label_sets)
    measured = {}
    for name, values, box in zip(
        label_scheme.class_names, label_scheme.label_sets, boxes, strict=True
    ):
        found = dict.fromkeys(SHAPE_COLUMNS, math.nan) | dict.fromkeys(_COUNTED, 0)
        found |= dict.fromkeys(intensity_columns(channel_names), math.nan)
        if box is not None:
            mask = mask_of(label_map[box], values)
            found |= _sizes(mask, unit_volume) | _place(mask, box, grid)
            if image is not None:
                cropped = [channel[box] for channel in image]
                found |= _intensities(cropped, mask, channel_names)
        measured[name] = found
    return measured


def intensity_columns(channel_names: Sequence[str]) -> list[str]:
    """Return the names of the measurements of intensity.

    Args:
        channel_names: The names of the channels.

    Returns:
        Such as `CT_mean`, for each channel.
    """
    columns = []
    for channel in channel_names:
        columns += [f"{channel}_{statistic}" for statistic in INTENSITY_COLUMNS]
    return columns


def _sizes(mask: np.ndarray, unit_volume: float) -> Measured:
    labelled, count = label_components(mask)
    sizes = component_sizes(labelled, count)
    return {
        "volume": float(sizes.sum() * unit_volume),
        "voxels": int(sizes.sum()),
        "components": count,
        "largest_component": float(sizes.max() * unit_volume),
    }


def _place(mask: np.ndarray, box: Sequence[slice], grid: Grid) -> Measured:
    """Return the extent and the centroid of a mask, which is cropped to a box of a grid."""
    affine = grid.affine
    if grid.is_2d or not grid.has_spacing:
        affine = np.diag([*grid.spacing[::-1], 1.0])
    matrix, origin = affine[:3, :3], affine[:3, 3]
    start = np.array([part.start for part in box])
    outermost = (_ends_of_rows(mask) + start)[:, ::-1] @ matrix.T
    # From the centres of the outermost voxels to their far corners.
    extent = np.ptp(outermost, axis=0) + np.abs(matrix).sum(axis=1)
    centroid = matrix @ (_mean_index(mask) + start)[::-1] + origin
    axes = ("x", "y", "z")
    extents = {f"extent_{axis}": float(length) for axis, length in zip(axes, extent, strict=True)}
    position = zip(axes, centroid, strict=True)
    return extents | {f"centroid_{axis}": float(place) for axis, place in position}


def _ends_of_rows(mask: np.ndarray) -> np.ndarray:
    """Return the indices `(N, 3)` of the first and last voxel in each row along X.

    The outermost voxels in any direction are among them.
    """
    z, y = np.nonzero(mask.any(axis=2))
    rows = mask[z, y]
    first = rows.argmax(axis=1)
    last = mask.shape[2] - 1 - rows[:, ::-1].argmax(axis=1)
    return np.concatenate([np.stack([z, y, first], axis=1), np.stack([z, y, last], axis=1)])


def _mean_index(mask: np.ndarray) -> np.ndarray:
    """Return the mean index `(Z, Y, X)` of the voxels of a mask."""
    means = []
    for axis in range(3):
        others = tuple(other for other in range(3) if other != axis)
        counts = mask.sum(axis=others)
        means.append(np.average(np.arange(len(counts)), weights=counts))
    return np.array(means)


def _intensities(
    channels: Sequence[np.ndarray], mask: np.ndarray, channel_names: Sequence[str]
) -> Measured:
    """Return the statistics of the intensities in a mask, without voxels that are not finite."""
    measured = {}
    for name, channel in zip(channel_names, channels, strict=True):
        values = channel[mask].astype(np.float64)
        values = values[np.isfinite(values)]
        if not values.size:
            continue
        percentiles = np.percentile(values, list(_PERCENTILES.values()))
        statistics = dict(zip(_PERCENTILES, percentiles, strict=True))
        statistics |= {"mean": values.mean(), "std": values.std()}
        for statistic in INTENSITY_COLUMNS:
            measured[f"{name}_{statistic}"] = float(statistics[statistic])
    return measured
