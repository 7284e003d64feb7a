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

    array: `(C, Z, Y, X)`, numbers of the stored type (scaled where the header has a slope) in this machine's byte
        order; floats wider than 32 bits become float32.
    grid: shape and affine.
    header: what the writer of the same format needs to give a label map the same geometry; opaque elsewhere.
    """

    array: np.ndarray
    grid: Grid
    header: Any


@dataclass(frozen=True)
class _Format:
    """made: whether an image was read by this format, so that its header serves `write`."""

    read: Callable[[Path], Image]
    write: Callable[[np.ndarray, Image, Path], None]
    made: Callable[[Image], bool]


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
        raise UserError(
            f"{file}: a label map has one channel, this file {image.array.shape[0]} (a colour or palette picture?); "
            "save the label values themselves, as whole numbers"
        )
    array = image.array
    if array.dtype.kind == "f":
        rounded = np.rint(np.nan_to_num(array, nan=-1.0))
        if not np.array_equal(rounded, array):
            wrong = array[rounded != array].ravel()[0]
            raise UserError(f"{file}: label value {wrong} is not a whole number; save the labels as integers")
        array = rounded
    if array.min() < 0 or array.max() > 65535:
        raise UserError(f"{file}: label values go from {array.min()} to {array.max()}; expected 0 to 65535")
    return Image(array.astype(_smallest_type(array)), image.grid, image.header)


def write_labels(labels: np.ndarray, reference: Image, file: Path) -> None:
    """Write `labels` `(Z, Y, X)` on the grid of `reference`, as 8 or 16 bit, whole or not at all.

    Raises:
        UserError: the ending is not supported, or is not of the reference's format.
    """
    if labels.shape != reference.grid.shape:
        raise ValueError(f"labels {labels.shape} do not lie on the reference grid {reference.grid.shape}")
    if labels.dtype.kind not in "iub" or labels.min() < 0 or labels.max() > 65535:
        raise ValueError(f"labels of type {labels.dtype} are not whole numbers from 0 to 65535")
    form = _format_of(file)
    if not form.made(reference):
        raise UserError(f"{file}: the ending differs from that of the image, which cannot lend it its geometry")
    if ending_of(file) == ".bmp" and labels.max() > 255:
        raise UserError(f"{file}: BMP holds labels up to 255, this map has {labels.max()}; use PNG")
    with atomic_path(file) as temporary:
        form.write(labels.astype(_smallest_type(labels)), reference, temporary)


def _smallest_type(labels: np.ndarray) -> type:
    return np.uint8 if labels.max() < 256 else np.uint16


def _read_file(file: Path) -> Image:
    if not file.is_file():
        raise UserError(f"{file}: no such file")
    try:
        image = _format_of(file).read(file)
    except (UserError, MemoryError):
        raise
    except Exception as error:
        lines = str(error).partition("\n -")[0].strip().splitlines()  # without nibabel's hint; ITK's reason comes last
        reason = lines[-1] if lines else type(error).__name__
        raise UserError(f"{file}: cannot be read, it may be truncated or of another format ({reason})") from error
    if 0 in image.array.shape:
        raise UserError(f"{file}: is empty, shape {image.array.shape} (c, z, y, x)")
    if not _is_usable(image.grid):
        raise UserError(f"{file}: its header has no usable geometry (affine {image.grid.affine.tolist()})")
    return Image(_plain_numbers(image.array, file), image.grid, image.header)


def _is_usable(grid: Grid) -> bool:
    """Whether the axes are of finite length and span a volume, whatever the unit."""
    lengths = np.linalg.norm(grid.affine[:3, :3], axis=0)
    if not np.isfinite(grid.affine).all() or lengths.min() == 0:
        return False
    return abs(np.linalg.det(grid.affine[:3, :3] / lengths)) > 1e-6


def _plain_numbers(array: np.ndarray, file: Path) -> np.ndarray:
    if array.dtype.kind not in "iufb":
        raise UserError(f"{file}: has voxels of type {array.dtype}; expected one number each")
    if array.dtype.kind == "b":
        return array.astype(np.uint8)
    if array.dtype.kind == "f" and array.dtype.itemsize > 4:
        return array.astype(np.float32)
    return np.asarray(array, array.dtype.newbyteorder("="))


def _read_nifti(file: Path) -> Image:
    import nibabel

    nifti: Any = nibabel.load(file)
    shape = nifti.shape
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if not 2 <= len(shape) <= 3:
        raise UserError(f"{file}: has shape {nifti.shape}; expected a 3D volume (split 4D series into channels)")
    # Without a slope the stored type is kept; get_fdata would make everything float64.
    data = np.asarray(nifti.dataobj).reshape(shape if len(shape) == 3 else (*shape, 1))
    affine = np.asarray(nifti.affine, dtype=float)
    z_y_x = data.transpose()
    return Image(z_y_x[None], Grid(z_y_x.shape, affine), nifti.header.copy())


def _is_nifti(image: Image) -> bool:
    import nibabel

    return isinstance(image.header, nibabel.Nifti1Header)


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


@dataclass(frozen=True)
class _ItkGeometry:
    """What a SimpleITK image knows of space, in ITK's order (x, y[, z]) and LPS."""

    origin: tuple[float, ...]
    spacing: tuple[float, ...]
    direction: tuple[float, ...]


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
    geometry = _ItkGeometry(image.GetOrigin(), image.GetSpacing(), image.GetDirection())
    return Image(array, Grid(array.shape[1:], _itk_affine(geometry)), geometry)


def _itk_affine(geometry: _ItkGeometry) -> np.ndarray:
    """ITK's origin, spacing and direction (LPS) as an affine to RAS+."""
    dimension = len(geometry.origin)
    direction, spacing, origin = np.eye(3), np.ones(3), np.zeros(3)
    direction[:dimension, :dimension] = np.reshape(geometry.direction, (dimension, dimension))
    spacing[:dimension] = geometry.spacing
    origin[:dimension] = geometry.origin
    affine = np.eye(4)
    affine[:3, :3] = direction * spacing
    affine[:3, 3] = origin
    return np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine


def _write_itk(labels: np.ndarray, reference: Image, file: Path) -> None:
    import SimpleITK

    geometry: _ItkGeometry = reference.header
    image = SimpleITK.GetImageFromArray(labels[0] if len(geometry.origin) == 2 else labels)
    image.SetOrigin(geometry.origin)
    image.SetSpacing(geometry.spacing)
    image.SetDirection(geometry.direction)
    SimpleITK.WriteImage(image, str(file), useCompression=True)


def _is_itk(image: Image) -> bool:
    return isinstance(image.header, _ItkGeometry)


def _read_picture(file: Path) -> Image:
    from skimage import io

    picture = io.imread(file)
    if picture.ndim == 2:
        array = picture[None, None]
    elif picture.ndim == 3 and picture.shape[-1] in (2, 3, 4):
        colours = picture.shape[-1] if picture.shape[-1] == 3 else picture.shape[-1] - 1
        array = np.moveaxis(picture[..., :colours], -1, 0)[:, None]  # an alpha channel says nothing of tissue
    else:
        raise UserError(f"{file}: has shape {picture.shape}; expected a grey or colour picture (height, width[, 3])")
    return Image(array, Grid(array.shape[1:], spacing_affine((1.0, 1.0, 1.0))), None)


def _write_picture(labels: np.ndarray, reference: Image, file: Path) -> None:
    from skimage import io

    io.imsave(file, labels[0], check_contrast=False)


def _is_bare(image: Image) -> bool:
    return image.header is None


_NIFTI = _Format(_read_nifti, _write_nifti, _is_nifti)
_ITK = _Format(_read_itk, _write_itk, _is_itk)
_PICTURE = _Format(_read_picture, _write_picture, _is_bare)
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


def may_hold_channels(file_ending: str) -> bool:
    """Whether one file of this ending can hold several channels, as colour pictures do."""
    return _FORMATS[file_ending] is not _NIFTI


def ending_of(file: Path) -> str | None:
    """The supported ending of a file name, or None."""
    return next((ending for ending in _FORMATS if file.name.endswith(ending)), None)


def _format_of(file: Path) -> _Format:
    ending = ending_of(file)
    if ending is None:
        raise UserError(f"{file}: unknown file ending; supported are {', '.join(_FORMATS)}")
    return _FORMATS[ending]
