"""The image of a case to predict: its channels may come on grids of their own."""

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


def read_aligned_image(case: Case) -> Image:
    """Read a case; channels on other grids than the first one's are resampled to that, with a warning.

    Training data are not resampled so: there a channel on another grid is a fault, which can be mended once for all.

    Raises:
        UserError: a file is missing, unreadable or unfit; or a channel does not overlap the first, or is a picture of
            another size. The message names all such files.
    """
    if case.fault is not None:
        raise UserError(case.fault)
    images, faults = [], []
    for file in case.image_files:
        image, found = read_channel(file, case)
        for fault in found:
            if fault.kind == TILT_KIND:  # as of a tilted gantry; the label map gets the same grid
                log.warning(
                    "case %s: %s: %s; distances are not exact", case.identifier, file, fault.value
                )
            else:
                faults.append(fault)
        if image is not None:
            images.append(image)
    if faults:
        raise UserError("; ".join(map(str, faults)))
    first = images[0]
    others = [
        _on_grid(image, file, first, case)
        for image, file in zip(images[1:], case.image_files[1:], strict=True)
    ]
    return (
        Image(np.concatenate([first.array, *others]), first.grid, first.header) if others else first
    )


def _on_grid(image: Image, file: Path, first: Image, case: Case) -> np.ndarray:
    """The array `(C, Z, Y, X)` of a channel's file on the grid of the first."""
    difference = image.grid.difference(first.grid)
    if difference is None:
        return image.array
    ending = ending_of(file)
    if ending is not None and is_2d_image(ending, image.grid.shape[0]):
        raise UserError(
            f"{file}: {difference.describe(str(case.image_files[0]))}; 2D images have no position "
            "in space by which to resample them: bring the channels to one size"
        )
    resampled, share = resample(image.array, image.grid, first.grid)
    if share == 0:
        raise UserError(
            f"{file}: does not overlap {case.image_files[0]} anywhere; register the channels, or correct the headers"
        )
    log.warning(
        "case %s: %s lies on another grid than %s: it was resampled to that (%.0f %% of the voxels are covered)",
        case.identifier,
        file.name,
        case.image_files[0].name,
        100 * share,
    )
    return resampled


def resample(array: np.ndarray, source: Grid, target: Grid) -> tuple[np.ndarray, float]:
    """An array `(C, Z, Y, X)` on another grid by linear interpolation, in its own type, and how much of it is covered.

    Voxels of the target whose centre lies outside every source voxel become 0; the share of the others is returned.
    """
    from scipy import ndimage  # seldom needed, and slow to load

    # Both affines take (x, y, z); turned round on both sides the matrix takes and gives (z, y, x).
    to_source = np.linalg.inv(source.affine) @ target.affine
    matrix, offset = to_source[2::-1, 2::-1], to_source[2::-1, 3]
    _, height, width = target.shape
    rows, columns = np.meshgrid(np.arange(height), np.arange(width), indexing="ij")
    limits = np.array(source.shape)[:, None, None]
    resampled = np.zeros((len(array), *target.shape), array.dtype)
    covered = 0
    for index in range(
        target.shape[0]
    ):  # slice by slice: the coordinates take six times the memory of a volume
        places = np.einsum(
            "ij,jyx->iyx", matrix, np.stack([np.full_like(rows, index), rows, columns])
        )
        places += offset[:, None, None]
        inside = ((places > -0.5) & (places < limits - 0.5)).all(axis=0)
        covered += int(inside.sum())
        for channel, output in zip(array, resampled, strict=True):
            values = ndimage.map_coordinates(channel, places, np.float64, order=1, mode="nearest")
            output[index] = np.where(
                inside, np.rint(values) if array.dtype.kind in "iu" else values, 0
            )
    return resampled, covered / np.prod(target.shape)
