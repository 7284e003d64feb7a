"""The formats that ITK reads and writes: NRRD and MetaImage.

A MetaImage is one file (.mha), or a header (.mhd) with a separate file of voxels next to it.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from samnet.core.errors import UserError
from samnet.core.geometry import Grid
from samnet.dataset.formats.image import Image

if TYPE_CHECKING:
    import SimpleITK

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
_HEADER_BYTES = 65536


@dataclass(frozen=True)
class _Geometry:
    """The geometry of a SimpleITK image, in ITK's order (x, y[, z]) and in LPS mm."""

    origin: tuple[float, ...]
    spacing: tuple[float, ...]
    direction: tuple[float, ...]


def read(file: Path) -> Image:
    """Read a 2D or 3D image.

    Args:
        file: A NRRD or MetaImage file.

    Returns:
        The image with the array `(C, Z, Y, X)`.

    Raises:
        UserError: The file of the voxels is missing or not named by the header, or the image has
            neither 2 nor 3 dimensions.
    """
    import SimpleITK

    missing = [data for data in companions(file) if not data.is_file()]
    if missing:
        raise UserError(
            f"{file}: its voxels are in {missing[0].name}, which is missing; "
            "put it next to the header"
        )
    image = SimpleITK.ReadImage(str(file))
    if image.GetDimension() not in (2, 3):
        raise UserError(f"{file}: has {image.GetDimension()} dimensions; expected 2 or 3")
    return as_image(image)


def as_image(image: SimpleITK.Image) -> Image:
    """Convert an image of SimpleITK to samnet's form.

    Args:
        image: A 2D or 3D image.

    Returns:
        The image with the array `(C, Z, Y, X)`.
    """
    array = channels_first(image)
    geometry = _Geometry(image.GetOrigin(), image.GetSpacing(), image.GetDirection())
    return Image(array, Grid(array.shape[1:], _affine(geometry)), geometry)


def channels_first(image: SimpleITK.Image) -> np.ndarray:
    """Return the voxels of an image of SimpleITK.

    Args:
        image: A 2D or 3D image.

    Returns:
        Values `(C, Z, Y, X)` of the stored type.
    """
    import SimpleITK

    array = SimpleITK.GetArrayFromImage(image)
    array = np.moveaxis(array, -1, 0) if image.GetNumberOfComponentsPerPixel() > 1 else array[None]
    return array[:, None] if image.GetDimension() == 2 else array


def _affine(geometry: _Geometry) -> np.ndarray:
    """Return the 4 x 4 matrix from `(x, y, z)` indices to mm in RAS+."""
    dimension = len(geometry.origin)
    direction, spacing, origin = np.eye(3), np.ones(3), np.zeros(3)
    direction[:dimension, :dimension] = np.reshape(geometry.direction, (dimension, dimension))
    spacing[:dimension] = geometry.spacing
    origin[:dimension] = geometry.origin
    affine = np.eye(4)
    affine[:3, :3] = direction * spacing
    affine[:3, 3] = origin
    return LPS_TO_RAS @ affine


def write(labels: np.ndarray, reference: Image, file: Path) -> None:
    """Write a label map with the geometry of its image, as a single file.

    Args:
        labels: Labels `(Z, Y, X)`.
        reference: The image that the labels belong to, read by this module.
        file: The file to write.
    """
    import SimpleITK

    geometry: _Geometry = reference.header
    image = SimpleITK.GetImageFromArray(labels[0] if len(geometry.origin) == 2 else labels)
    image.SetOrigin(geometry.origin)
    image.SetSpacing(geometry.spacing)
    image.SetDirection(geometry.direction)
    if file.suffix.lower() != ".mhd":
        SimpleITK.WriteImage(image, str(file), useCompression=True)
        return
    # A label map is one file, either complete or absent. So the voxels of a .mhd follow the header
    # in the same file (MetaImage's `ElementDataFile = LOCAL`). ITK writes that form only under the
    # name .mha.
    with tempfile.TemporaryDirectory(prefix="samnet-") as folder:
        single = Path(folder) / "labels.mha"
        SimpleITK.WriteImage(image, str(single), useCompression=True)
        shutil.move(single, file)


def copy_into_one_file(source: Path, target: Path) -> None:
    """Copy a MetaImage header and its voxels into one file.

    Args:
        source: A `.mhd` file.
        target: The `.mha` file to write.
    """
    import SimpleITK

    SimpleITK.WriteImage(SimpleITK.ReadImage(str(source)), str(target), useCompression=True)


def serves(image: Image) -> bool:
    """Say whether label maps of an image can be written in these formats.

    Args:
        image: The image that the labels belong to.

    Returns:
        Whether it was read by this module.
    """
    return isinstance(image.header, _Geometry)


def companions(file: Path) -> list[Path]:
    """Return the file that holds the voxels of a `.mhd` header.

    Args:
        file: A NRRD or MetaImage file.

    Returns:
        One path, existing or not; an empty list for other files and for headers that are followed
        by their voxels.

    Raises:
        UserError: The header names no file, or several.
    """
    if file.suffix.lower() != ".mhd":
        return []
    with file.open("rb") as handle:
        header = handle.read(_HEADER_BYTES)
    match = re.search(rb"^ElementDataFile\s*=\s*(.+?)\s*$", header, re.MULTILINE)
    if match is None:
        raise UserError(f"{file}: is no MetaImage header (no ElementDataFile in it)")
    name = match[1].decode("utf-8", errors="replace")
    if name.upper() == "LOCAL":
        return []
    if name.upper().startswith("LIST") or "%" in name:
        raise UserError(f"{file}: has its voxels in several files ({name}); save it as one .mha")
    return [file.parent / name]
