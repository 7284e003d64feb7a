"""The channels of a case on one grid."""

from __future__ import annotations

import numpy as np

from samnet.core.errors import UserError
from samnet.core.geometry import Grid
from samnet.dataset.dicom_studies.case_search import StudyCase
from samnet.dataset.dicom_studies.geometry import SeriesGeometry
from samnet.dataset.dicom_studies.series_reading import read_geometry, read_volume
from samnet.dataset.formats.image import Image


def check_channels(case: StudyCase, geometry: SeriesGeometry, resample: bool) -> list[str]:
    """Check that the channels of a case lie on the grid of its labels.

    Args:
        case: The case.
        geometry: How the slices of its reference lie.
        resample: Whether channels on another grid are resampled.

    Returns:
        Sentences on the channels that will be resampled.

    Raises:
        UserError: A channel lies on another grid, and is not to be resampled or does not reach the
            labelled series.
    """
    doubts = []
    for series in case.channels:
        if series is case.reference:
            continue
        own = read_geometry(series).grid
        difference = own.difference(geometry.grid)
        if difference is None:
            continue
        text = f"{series.name}: {difference.describe(case.reference.name)}"
        if not resample:
            raise UserError(
                f"{text}; if both are registered, add --resample to bring it to the labelled grid"
            )
        covered = _covered_share(own, geometry.grid)
        if covered == 0:
            raise UserError(f"{text}, and does not reach it; correct --channels")
        doubts.append(f"{text}; it is resampled, and covers {100 * covered:.0f} % of it")
    return doubts


def read_channels(case: StudyCase, reference: Image) -> list[np.ndarray]:
    """Read the channels of a case on the grid of its reference.

    Args:
        case: The case.
        reference: The reference as it was read.

    Returns:
        Values `(Z, Y, X)` of each channel. What a resampled channel does not cover has its lowest
        value.
    """
    channels = []
    for series in case.channels:
        image = reference if series is case.reference else read_volume(series)
        if image.grid.difference(reference.grid) is not None:
            channels.append(_resample(image, reference.grid))
        else:
            channels.append(image.array[0])
    return channels


def _resample(image: Image, grid: Grid) -> np.ndarray:
    """Interpolate an image linearly at the voxels of another grid. Returns `(Z, Y, X)`."""
    from scipy.ndimage import affine_transform

    values = image.array[0].astype(np.float32)
    matrix, offset = _to_voxels(image.grid, grid)
    return affine_transform(
        values, matrix, offset, grid.shape, order=1, mode="constant", cval=float(values.min())
    )


def _to_voxels(source: Grid, target: Grid) -> tuple[np.ndarray, np.ndarray]:
    """Return matrix and offset from voxels `(Z, Y, X)` of one grid to those of another."""
    to_source = np.linalg.inv(source.affine) @ target.affine
    return to_source[2::-1, 2::-1], to_source[2::-1, 3]


def _covered_share(source: Grid, target: Grid) -> float:
    """Return what share of a grid's voxels lies within another grid, from a sample of them."""
    matrix, offset = _to_voxels(source, target)
    axes = [np.unique(np.linspace(0, length - 1, 50).round()) for length in target.shape]
    points = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1) @ matrix.T + offset
    is_inside = (points >= -0.5) & (points <= np.array(source.shape) - 0.5)
    return float(is_inside.all(axis=-1).mean())
