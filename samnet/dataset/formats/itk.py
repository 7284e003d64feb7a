"""The formats that ITK reads and writes: NRRD and MetaImage.

A MetaImage is one file (.mha), or a header (.mhd) with a separate file of voxels next to it; a NRRD
is one file (.nrrd), or a header (.nhdr) with one or more files of voxels.
"""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from samnet.core.errors import UserError
from samnet.core.geometry import Grid
from samnet.core.units import millimetres_per
from samnet.dataset.formats.image import Image
from samnet.dataset.formats.itk_headers import (
    NRRD_ENDINGS,
    add_units,
    check_geometry,
    check_scale,
    files_of_voxels,
    states_spacing,
    units_of_axes,
)

if TYPE_CHECKING:
    import SimpleITK

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
# Files of these endings may have their voxels in other files.
HEADER_ENDINGS = (*NRRD_ENDINGS, ".mha", ".mhd")
_ONE_FILE_ENDINGS = {".mhd": ".mha", ".nhdr": ".nrrd"}


@dataclass(frozen=True)
class _Geometry:
    """The geometry of a SimpleITK image, in ITK's order (x, y[, z]) and in LPS.

    The units are those that the file names for its axes in space; without any, lengths are in mm.
    """

    origin: tuple[float, ...]
    spacing: tuple[float, ...]
    direction: tuple[float, ...]
    units: tuple[str, ...] = ()


def read(file: Path) -> Image:
    """Read a 2D or 3D image.

    Args:
        file: A NRRD or MetaImage file.

    Returns:
        The image with the array `(C, Z, Y, X)`.

    Raises:
        UserError: A file of the voxels is missing or not named by the header, its unit is not
            known, its directions are no numbers, its values are to be scaled, or the image has
            neither 2 nor 3 dimensions.
    """
    import SimpleITK

    missing = [data for data in files_of_voxels(file) if not data.is_file()]
    if missing:
        raise UserError(
            f"{file}: its voxels are in {missing[0].name}, which is missing; "
            "put it next to the header"
        )
    image = SimpleITK.ReadImage(str(file))
    if image.GetDimension() not in (2, 3):
        raise UserError(f"{file}: has {image.GetDimension()} dimensions; expected 2 or 3")
    check_scale(file)
    check_geometry(file)
    converted = _with_units(as_image(image), units_of_axes(file, image.GetDimension()))
    if states_spacing(file):
        return converted
    return replace(converted, grid=replace(converted.grid, has_spacing=False))


def _with_units(image: Image, units: tuple[str, ...]) -> Image:
    """Return an image with its grid in mm: ITK takes all lengths for mm."""
    if not units:
        return image
    geometry = replace(image.header, units=units)
    return Image(image.array, replace(image.grid, affine=_affine(geometry)), geometry)


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
    for axis, unit in enumerate(geometry.units):
        affine[axis] *= millimetres_per(unit) or 1.0
    return LPS_TO_RAS @ affine


def write(labels: np.ndarray, reference: Image, file: Path) -> None:
    """Write a label map with the geometry of its image, as a single file.

    Args:
        labels: Labels `(Z, Y, X)`.
        reference: The image that the labels belong to, read by this module.
        file: The file to write.
    """
    geometry: _Geometry = reference.header
    _write_one_file(labels_like(labels, reference), file, geometry.units)


def labels_like(labels: np.ndarray, reference: Image) -> SimpleITK.Image:
    """Return a label map in memory with the geometry of its image.

    Args:
        labels: Labels `(Z, Y, X)`.
        reference: The image that the labels belong to, of `read` or `as_image`.

    Returns:
        An image of as many dimensions.
    """
    import SimpleITK

    geometry: _Geometry = reference.header
    image = SimpleITK.GetImageFromArray(labels[0] if len(geometry.origin) == 2 else labels)
    image.SetOrigin(geometry.origin)
    image.SetSpacing(geometry.spacing)
    image.SetDirection(geometry.direction)
    return image


def _write_one_file(image: SimpleITK.Image, file: Path, units: tuple[str, ...] = ()) -> None:
    """Write an image with its voxels behind the header, in the same file.

    A label map is one file, either complete or absent. ITK writes this form only under the names
    .mha and .nrrd, but reads it under the names of headers, .mhd and .nhdr, too.
    """
    import SimpleITK

    one_file_ending = _ONE_FILE_ENDINGS.get(file.suffix.lower())
    if one_file_ending is None:
        SimpleITK.WriteImage(image, str(file), useCompression=True)
    else:
        with tempfile.TemporaryDirectory(prefix="samnet-") as folder:
            single = Path(folder) / f"single{one_file_ending}"
            SimpleITK.WriteImage(image, str(single), useCompression=True)
            shutil.move(single, file)
    if units:
        add_units(file, units)


def copy_into_one_file(source: Path, target: Path) -> None:
    """Copy a header and its voxels into one file.

    Args:
        source: A NRRD or MetaImage file.
        target: The file of the same format to write.
    """
    import SimpleITK

    image = SimpleITK.ReadImage(str(source))
    _write_one_file(image, target, units_of_axes(source, image.GetDimension()))


def companions(file: Path) -> list[Path]:
    """Return the files that hold the voxels of a header.

    Args:
        file: A NRRD or MetaImage file.

    Returns:
        Paths, existing or not; an empty list where the voxels follow their header.

    Raises:
        UserError: A MetaImage header names no file, or several.
    """
    return files_of_voxels(file)


def serves(image: Image) -> bool:
    """Say whether label maps of an image can be written in these formats.

    Args:
        image: The image that the labels belong to.

    Returns:
        Whether it was read by this module.
    """
    return isinstance(image.header, _Geometry)
