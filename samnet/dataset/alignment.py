"""Reading the image of a case to predict, whose channels may lie on different grids."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np

from samnet.core.errors import UserError
from samnet.core.geometry import Grid
from samnet.dataset.case_integrity import TILT_KIND, read_channel
from samnet.dataset.cases import Case
from samnet.dataset.images import Image, ending_of, is_2d_image

log = logging.getLogger(__name__)


def read_aligned_image(case: Case, num_channels: int | None = None) -> Image:
    """Read a case; channels on another grid than the first one are resampled to that grid.

    A warning tells what is resampled. Training data are not resampled in this way: there a channel
    on another grid is a fault, which can be fixed once for all.

    Args:
        case: The case.
        num_channels: Number of channels that the model takes. Where each file should hold one, a
            grey image that is stored in colour counts as one channel.

    Returns:
        All channels `(C, Z, Y, X)` on the grid of the first one.

    Raises:
        UserError: A file is missing, unreadable or not usable; or a channel does not overlap the
            first one, or is a 2D image of another size. The message names all such files.
    """
    if case.fault is not None:
        raise UserError(case.fault)
    images = _read_channels(case, num_channels)
    first = images[0]
    if len(images) == 1:
        return first
    arrays = [first.array]
    for image, file in zip(images[1:], case.image_files[1:], strict=True):
        arrays.append(_on_grid(image, file, first, case))
    return Image(np.concatenate(arrays), first.grid, first.header)


def _read_channels(case: Case, num_channels: int | None) -> list[Image]:
    """Read all image files of a case; raise one error for all that cannot be used."""
    images, faults = [], []
    for file in case.image_files:
        image, found = read_channel(file, case, num_channels)
        for fault in found:
            # Such as a tilted gantry. The label map gets the same grid, so it fits the image.
            if fault.kind == TILT_KIND:
                log.warning(
                    "case %s: %s: %s; distances are not exact", case.identifier, file, fault.value
                )
            else:
                faults.append(fault)
        if image is not None:
            images.append(image)
    if faults:
        raise UserError("; ".join(map(str, faults)))
    return images


def _on_grid(image: Image, file: Path, first: Image, case: Case) -> np.ndarray:
    """Return the array `(C, Z, Y, X)` of a channel's file on the grid of the first one."""
    difference = image.grid.difference(first.grid)
    if difference is None:
        return image.array
    first_file = case.image_files[0]
    ending = ending_of(file)
    if ending is not None and is_2d_image(ending, image.grid.shape[0]):
        raise UserError(
            f"{file}: {difference.describe(str(first_file))}; 2D images have no position "
            "in space by which to resample them: bring the channels to one size"
        )
    resampled, share = resample(image.array, image.grid, first.grid)
    if share == 0:
        raise UserError(
            f"{file}: does not overlap {first_file} anywhere; register the channels, "
            "or correct the headers"
        )
    log.warning(
        "case %s: %s lies on another grid than %s: it was resampled to that "
        "(%.0f %% of the voxels are covered)",
        case.identifier,
        file.name,
        first_file.name,
        100 * share,
    )
    return resampled


def resample(array: np.ndarray, source: Grid, target: Grid) -> tuple[np.ndarray, float]:
    """Resample an array to another grid by linear interpolation.

    Args:
        array: Values `(C, Z, Y, X)` on the source grid.
        source: The grid of the array.
        target: The grid to resample to.

    Returns:
        The values `(C, Z, Y, X)` on the target grid, in the type of `array`; 0 at voxels whose
        centre lies outside every source voxel. And the share of the other voxels, 0 to 1.
    """
    from scipy import ndimage  # slow to load, and only needed here

    # Both affines take (x, y, z). With rows and columns reversed the matrix takes (z, y, x).
    to_source = np.linalg.inv(source.affine) @ target.affine
    matrix, offset = to_source[2::-1, 2::-1], to_source[2::-1, 3]
    depth, height, width = target.shape
    rows, columns = np.meshgrid(np.arange(height), np.arange(width), indexing="ij")
    limits = np.array(source.shape)[:, None, None]
    resampled = np.zeros((len(array), *target.shape), array.dtype)
    num_covered = 0
    # Slice by slice, because the coordinates take six times the memory of the voxels.
    for index in range(depth):
        target_positions = np.stack([np.full_like(rows, index), rows, columns])
        positions = np.einsum("ij,jyx->iyx", matrix, target_positions)
        positions += offset[:, None, None]
        is_inside = ((positions > -0.5) & (positions < limits - 0.5)).all(axis=0)
        num_covered += int(is_inside.sum())
        for channel, output in zip(array, resampled, strict=True):
            values = ndimage.map_coordinates(
                channel, positions, np.float64, order=1, mode="nearest"
            )
            if array.dtype.kind in "iu":
                values = np.rint(values)
            output[index] = np.where(is_inside, values, 0)
    return resampled, num_covered / np.prod(target.shape)
