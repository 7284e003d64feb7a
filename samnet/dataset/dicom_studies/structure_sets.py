"""The contours of a structure set (RTSTRUCT, DICOM PS3.3 C.8.8.6)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from samnet.core.errors import UserError
from samnet.dataset.dicom_studies.contours import Contour
from samnet.dataset.formats.dicom_files import read_header


def read_contours(file: Path) -> dict[int, list[Contour]]:
    """Read the contours of all structures.

    Args:
        file: A structure set.

    Returns:
        ROINumber -> its contours; a structure without contours is not in it.

    Raises:
        UserError: A contour has other coordinates than triples of numbers.
    """
    found: dict[int, list[Contour]] = {}
    for region in read_header(file).get("ROIContourSequence") or []:
        contours = found.setdefault(int(region.ReferencedROINumber), [])
        for item in region.get("ContourSequence") or []:
            # pydicom would make an object of each number, which takes seven times as long.
            data = item.get_item("ContourData")
            points = _points(file, None if data is None else data.value)
            contours.append(Contour(points, str(item.get("ContourGeometricType") or "")))
    return found


def _points(file: Path, data: Any) -> np.ndarray:
    """Return points `(N, 3)` of a value that is read or, as bytes, not read yet."""
    listed = data
    if isinstance(data, bytes):
        text = data.strip(b" \0")
        listed = text.split(b"\\") if text else []
    try:
        values = np.array([] if listed is None else listed, np.float64).reshape(-1, 3)
    except (TypeError, ValueError):
        values = np.full((1, 3), np.nan)
    if not np.isfinite(values).all():
        raise UserError(
            f"{file}: the coordinates of a contour are no triples of numbers; export it again"
        )
    return values
