"""Reading images of every supported format to one form, and writing label maps back in the form of their image.

An image is an array `(C, Z, Y, X)` on the file's own grid; 2D files have Z = 1. A label map written for an image has
its shape, affine and header geometry.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from samnet.core.errors import UserError
from samnet.core.files import atomic_path
from samnet.core.geometry import Grid, spacing_affine

GRID_TOLERANCE_VOXELS = 0.1


@dataclass(frozen=True)
class Image:
    """An image on its native grid.

    array: `(C, Z, Y, X)`, in the type it was stored in (scaled values where the header has a slope).
    grid: shape and affine.
    header: what the writer of the same format needs to give a label map the same geometry; opaque elsewhere.
    """

    array: np.ndarray
    grid: Grid
    header: Any


@dataclass(frozen=True)
class _Format:
    read: Callable[[Path], Image]
    write: Callable[[np.ndarray, Image, Path], None]


def read_image(files: Sequence[Path]) -> Image:
    """Read the channels of one case, one or more a file, and stack them.

    Raises:
        UserError: a file is missing, unreadable or not 2D/3D, or the channels do not lie on one grid.
    """
    images = [_read_file(Path(file)) for file in files]
    first = images[0]
    for file, image in zip(files[1:], images[1:], strict=True):
        if image.grid.shape != first.grid.shape:
            raise UserError(
                f"{file}: shape {image.grid.shape} (z, y, x) differs from {first.grid.shape} of {files[0]}; "
                "resample the channels of a case to one grid"
            )
        if not image.grid.is_close_to(first.grid, GRID_TOLERANCE_VOXELS):
            raise UserError(
                f"{file}: lies {image.grid.distance_in_voxels(first.grid):.1f} voxels beside {files[0]} "
                "(affines differ); resample the channels of a case to one grid"
            )
    if len(images) == 1:
        return first
    return Image(np.concatenate([image.array for image in images]), first.grid, first.header)


def read_labels(file: Path) -> Image:
    """Read a label map; `array` is `(1, Z, Y, X)` of whole numbers.

    Raises:
        UserError: as `read_image`, or the values are not whole numbers from 0 to 65535.
    """
    image = _read_file(Path(file))
    if image.array.shape[0] != 1:
        raise UserError(f"{file}: a label map has one channel, this file has {image.array.shape[0]}")
    array = image.array
    if array.dtype.kind == "f":
        rounded = np.rint(np.nan_to_num(array, nan=-1.0))
        if not np.array_equal(rounded, array):
            wrong = array[rounded != array].ravel()[0]
            raise UserError(f"{file}: label value {wrong} is not a whole number; save the labels as integers")
        array = rounded
    if array.size and (array.min() < 0 or array.max() > 65535):
        raise UserError(f"{file}: label values go from {array.min()} to {array.max()}; expected 0 to 65535")
    kind = np.uint8 if array.size == 0 or array.max() < 256 else np.uint16
    return Image(array.astype(kind), image.grid, image.header)


def write_labels(labels: np.ndarray, reference: Image, file: Path) -> None:
    """Write `labels` `(Z, Y, X)` on the grid of `reference`, whole or not at all.

    Raises:
        UserError: the ending is not supported, or is not of the reference's format.
    """
    if labels.shape != reference.grid.shape:
        raise ValueError(f"labels {labels.shape} do not lie on the reference grid {reference.grid.shape}")
    with atomic_path(file) as temporary:
        _format_of(file).write(labels, reference, temporary)


def _read_file(file: Path) -> Image:
    if not file.is_file():
        raise UserError(f"{file}: no such file")
    try:
        image = _format_of(file).read(file)
    except UserError:
        raise
    except Exception as error:
        reason = str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__
        raise UserError(f"{file}: cannot be read, it may be truncated or of another format ({reason})") from error
    if 0 in image.array.shape:
        raise UserError(f"{file}: is empty, shape {image.array.shape} (c, z, y, x)")
    if not np.isfinite(image.grid.affine).all() or abs(np.linalg.det(image.grid.affine[:3, :3])) < 1e-12:
        raise UserError(f"{file}: its header has no usable geometry (affine {image.grid.affine.tolist()})")
    return image


def _read_nifti(file: Path) -> Image:
    import nibabel

    nifti = nibabel.load(file)
    shape = nifti.shape
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if not 2 <= len(shape) <= 3:
        raise UserError(f"{file}: has shape {nifti.shape}; expected a 3D volume (split 4D series into channels)")
    # Without a slope the stored type is kept; nibabel would make everything float64.
    data = np.asanyarray(nifti.dataobj).reshape(shape if len(shape) == 3 else (*shape, 1))
    if data.dtype == np.float64:
        data = data.astype(np.float32)
    affine = np.asarray(nifti.affine, dtype=float)
    z_y_x = data.transpose()
    return Image(z_y_x[None], Grid(z_y_x.shape, affine), nifti.header.copy())


def _write_nifti(labels: np.ndarray, reference: Image, file: Path) -> None:
    import nibabel

    header = reference.header.copy()
    data = labels.transpose().reshape(header.get_data_shape())
    header.set_data_dtype(labels.dtype)
    header.set_slope_inter(1, 0)
    header["cal_max"], header["cal_min"] = 0, 0
    image_class = nibabel.Nifti2Image if isinstance(header, nibabel.Nifti2Header) else nibabel.Nifti1Image
    # affine None: the header's own qform and sform, with their codes, are written back untouched.
    nibabel.save(image_class(data, None, header), file)


def _read_itk(file: Path) -> Image:
    import SimpleITK

    image = SimpleITK.ReadImage(str(file))
    array = SimpleITK.GetArrayFromImage(image)
    dimension, components = image.GetDimension(), image.GetNumberOfComponentsPerPixel()
    if dimension not in (2, 3):
        raise UserError(f"{file}: has {dimension} dimensions; expected 2 or 3")
    if components > 1:
        array = np.moveaxis(array, -1, 0)
    else:
        array = array[None]
    if dimension == 2:
        array = array[:, None]
    return Image(array, Grid(array.shape[1:], _itk_affine(image)), image)


def _itk_affine(image: Any) -> np.ndarray:
    """ITK's origin, spacing and direction (LPS) as an affine to RAS+."""
    dimension = image.GetDimension()
    direction, spacing, origin = np.eye(3), np.ones(3), np.zeros(3)
    direction[:dimension, :dimension] = np.reshape(image.GetDirection(), (dimension, dimension))
    spacing[:dimension] = image.GetSpacing()
    origin[:dimension] = image.GetOrigin()
    affine = np.eye(4)
    affine[:3, :3] = direction * spacing
    affine[:3, 3] = origin
    return np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine


def _write_itk(labels: np.ndarray, reference: Image, file: Path) -> None:
    import SimpleITK

    array = labels[0] if reference.header.GetDimension() == 2 else labels
    image = SimpleITK.GetImageFromArray(np.ascontiguousarray(array))
    image.CopyInformation(reference.header)
    SimpleITK.WriteImage(image, str(file), useCompression=True)


def _read_picture(file: Path) -> Image:
    from skimage import io

    picture = io.imread(file)
    if picture.ndim == 2:
        array = picture[None, None]
    elif picture.ndim == 3 and picture.shape[-1] in (3, 4):
        array = np.moveaxis(picture[..., :3], -1, 0)[:, None]  # an alpha channel says nothing of tissue
    else:
        raise UserError(f"{file}: has shape {picture.shape}; expected a grey or colour picture (height, width[, 3])")
    return Image(array, Grid(array.shape[1:], spacing_affine((1.0, 1.0, 1.0))), None)


def _write_picture(labels: np.ndarray, reference: Image, file: Path) -> None:
    from skimage import io

    io.imsave(file, labels[0], check_contrast=False)


_NIFTI = _Format(_read_nifti, _write_nifti)
_ITK = _Format(_read_itk, _write_itk)
_PICTURE = _Format(_read_picture, _write_picture)
_FORMATS = {
    ".nii.gz": _NIFTI,
    ".nii": _NIFTI,
    ".nrrd": _ITK,
    ".mha": _ITK,
    ".png": _PICTURE,
    ".tif": _PICTURE,
    ".tiff": _PICTURE,
    ".bmp": _PICTURE,
}


def supported_endings() -> list[str]:
    return list(_FORMATS)


def is_picture(file_ending: str) -> bool:
    """Whether files of this ending are 2D pictures without a spacing of their own."""
    return _FORMATS[file_ending] is _PICTURE


def ending_of(file: Path) -> str | None:
    """The supported ending of a file name, or None."""
    return next((ending for ending in _FORMATS if file.name.endswith(ending)), None)


def _format_of(file: Path) -> _Format:
    ending = ending_of(file)
    if ending is None:
        raise UserError(f"{file}: unknown file ending; supported are {', '.join(_FORMATS)}")
    return _FORMATS[ending]
