"""Volumes of structures: in mL, in mm2 for images of one slice, or as a number of voxels."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

from samnet.core.geometry import Grid

MILLILITRES = "mL"
SQUARE_MILLIMETRES = "mm2"
PIXELS = "pixels"
VOXELS = "voxels"
_MM3_PER_ML = 1000.0


def volume_unit(grid: Grid) -> str:
    """Return the unit in which structures on a grid are measured.

    Args:
        grid: The grid of an image.

    Returns:
        `mL`; `mm2` for an image of one slice, whose extent across the slice says nothing; `pixels`
        or `voxels` where the image does not state its spacing.
    """
    if not grid.has_spacing:
        return grid.unit
    return SQUARE_MILLIMETRES if 1 in grid.shape else MILLILITRES


def size_word(unit: str) -> str:
    """Return what a size in a unit is called.

    Args:
        unit: The unit: `mL`, `mm2`, `pixels` or `voxels`.

    Returns:
        `area` for images of one slice, else `volume`.
    """
    return "area" if unit in (SQUARE_MILLIMETRES, PIXELS) else "volume"


def slice_word(unit: str) -> str:
    """Return what the slices of images are called whose sizes are in a unit.

    Args:
        unit: The unit: `mL`, `mm2`, `pixels` or `voxels`.

    Returns:
        `image` for images of one slice, else `slice`.
    """
    return "image" if size_word(unit) == "area" else "slice"


def common_unit(units: Collection[str]) -> str:
    """Return the unit in which structures of several images can be compared.

    Args:
        units: The unit of each image.

    Returns:
        The unit that all have, else `voxels`; `mL` for no image.
    """
    found = set(units)
    if len(found) > 1:
        return VOXELS
    return found.pop() if found else MILLILITRES


def voxel_volume(shape: Sequence[int], spacing: Sequence[float], unit: str) -> float:
    """Return the volume of a voxel, or the area of a pixel.

    Args:
        shape: Number of voxels along `(Z, Y, X)`.
        spacing: Distance of neighbouring voxel centres along `(Z, Y, X)` in mm.
        unit: The unit: `mL`, `mm2`, `pixels` or `voxels`. For `mm2`, an axis has one voxel.

    Returns:
        The volume in this unit; 1 where voxels are counted.
    """
    if unit == MILLILITRES:
        return math.prod(spacing) / _MM3_PER_ML
    if unit == SQUARE_MILLIMETRES:
        flat = list(shape).index(1)
        return math.prod(length for axis, length in enumerate(spacing) if axis != flat)
    return 1.0


def volume_scores(n_pred: int, n_ref: int, volume_of_voxel: float) -> dict[str, float]:
    """Compare the volume of a predicted structure with that of its reference.

    Volumes and their difference are known for every case; a structure in neither label map has the
    volume 0 in both. The relative error is NaN where the reference lacks the structure.

    Args:
        n_pred: Voxels of the prediction.
        n_ref: Voxels of the reference.
        volume_of_voxel: Volume of a voxel.

    Returns:
        Value of each score of `policies.VOLUME_METRICS`. The error is prediction minus reference,
        the relative error its ratio to the reference.
    """
    relative = (n_pred - n_ref) / n_ref if n_ref else math.nan
    return {
        "volume_pred": n_pred * volume_of_voxel,
        "volume_ref": n_ref * volume_of_voxel,
        "volume_error": (n_pred - n_ref) * volume_of_voxel,
        "volume_error_relative": relative,
    }
