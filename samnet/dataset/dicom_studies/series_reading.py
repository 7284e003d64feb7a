"""Reading a series of a study: where its slices lie, and its intensities."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from samnet.core.errors import UserError
from samnet.dataset.dicom_studies.geometry import SeriesGeometry
from samnet.dataset.dicom_studies.objects import Series
from samnet.dataset.formats.dicom import arrange_slices, read_slices
from samnet.dataset.formats.dicom_files import read_header
from samnet.dataset.formats.image import Image


def read_geometry(series: Series) -> SeriesGeometry:
    """Read where the slices of a series lie, from the headers.

    Args:
        series: The series.

    Returns:
        The grid and the slices.

    Raises:
        UserError: The slices form no volume.
    """
    slices, grid = arrange_slices(series.name, _headers(series))
    uids = {image.file: image.uid for image in series.images}
    positions = np.array([entry.position for entry in slices])
    return SeriesGeometry(grid, positions, tuple(uids[entry.file] for entry in slices))


def read_volume(series: Series) -> Image:
    """Read the intensities of a series.

    Args:
        series: The series.

    Returns:
        The image with the array `(1, Z, Y, X)`.

    Raises:
        UserError: A file is damaged, the slices form no volume, or they are in colour.
    """
    image = read_slices(series.name, _headers(series))
    if len(image.array) != 1:
        raise UserError(f"{series.name}: is in colour; only grey images can be converted")
    return image


def _headers(series: Series) -> dict[Path, Any]:
    return {file: read_header(file) for file in series.files}
