"""Reading of images in every supported format, and writing of label maps in the format of an image.

An image is an array `(C, Z, Y, X)` on the grid of its file; 2D files have Z = 1. A label map that
is written for an image has the shape, affine and header geometry of that image.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from samnet.core.errors import UserError
from samnet.core.files import atomic_path, require_readable
from samnet.core.geometry import Grid
from samnet.core.read_failures import raise_failure_of_machine
from samnet.dataset.formats import dicom, itk, nifti, raster, tiff
from samnet.dataset.formats.dicom_files import contains_dicom
from samnet.dataset.formats.image import Format, Image
from samnet.dataset.grey import as_one_channel, is_grey

_LOSSY = "JPEG changes values as it compresses and cannot hold labels; use PNG"

_NIFTI = Format(nifti.read, nifti.read, nifti.read, nifti.write, nifti.serves)
_ITK = Format(itk.read, itk.read, itk.read, itk.write, itk.serves, itk.companions)
_RASTER = Format(raster.read, raster.read_mask, raster.read_labels, raster.write, raster.serves)
_BMP = replace(_RASTER, highest_label=255)
_JPEG = replace(_RASTER, highest_label=0)
_TIFF = Format(
    tiff.read, tiff.read_mask, tiff.read_labels, tiff.write, tiff.serves, tiff.companions
)
_FORMATS = {
    ".nii.gz": _NIFTI,
    ".nii": _NIFTI,
    ".nrrd": _ITK,
    ".nhdr": _ITK,
    ".mha": _ITK,
    ".mhd": _ITK,
    ".tif": _TIFF,
    ".tiff": _TIFF,
    ".png": _RASTER,
    ".bmp": _BMP,
    ".jpg": _JPEG,
    ".jpeg": _JPEG,
}
# Endings that may stand for each other within one data set.
_VARIANTS = (
    (".nii.gz", ".nii"),
    (".nrrd", ".nhdr"),
    (".mha", ".mhd"),
    (".tif", ".tiff"),
    (".jpg", ".jpeg"),
)


def read_image(files: Sequence[Path], num_channels: int | None = None) -> Image:
    """Read the channels of one case and stack them.

    Args:
        files: Files with one or more channels each, in channel order. A folder is a DICOM series.
        num_channels: Number of channels that the case should have. Where each file should hold
            one, a grey image that is stored in colour counts as one channel.

    Returns:
        The image with all channels `(C, Z, Y, X)` and the header of the first file.

    Raises:
        UserError: A file is missing, unreadable or not 2D/3D, or the channels do not lie on one
            grid.
    """
    images = [_read_file(Path(file), _read_plainly) for file in files]
    if num_channels == len(images):
        images = [as_one_channel(image, file) for file, image in zip(files, images, strict=True)]
    first = images[0]
    for file, image in zip(files[1:], images[1:], strict=True):
        difference = image.grid.difference(first.grid)
        if difference is not None:
            raise UserError(
                f"{file}: {difference.describe(str(files[0]))}; resample the channels of a case to "
                "one grid"
            )
    if len(images) == 1:
        return first
    return Image(np.concatenate([image.array for image in images]), first.grid, first.header)


def read_mask(file: Path) -> Image:
    """Read a mask drawn by people, which may be in colour; transparent pixels are 0.

    Args:
        file: The file.

    Returns:
        The mask `(C, Z, Y, X)`.

    Raises:
        UserError: As for `read_image`, or only the opacity tells what is labelled.
    """
    return _read_file(file, lambda form: form.read_mask)


def read_labels(file: Path) -> Image:
    """Read a label map.

    Args:
        file: The file.

    Returns:
        The image with the labels `(1, Z, Y, X)`, uint8 or uint16.

    Raises:
        UserError: As for `read_image`, or the values are not whole numbers from 0 to 65535, or it
            is not clear that they are the labels.
    """
    if ending_of(file) is not None and ending_of(file) not in label_endings():
        raise UserError(f"{file}: {_LOSSY}")
    image = _read_file(file, lambda form: form.read_labels)
    if is_grey(image.array):
        image = Image(image.array[:1], image.grid, image.header)
    if image.array.shape[0] != 1:
        raise UserError(
            f"{file}: a label map has one channel, this file {image.array.shape[0]} "
            "(a colour or palette image?); save the label values themselves, as whole numbers; "
            "samnet_convert_folder makes labels of colours"
        )
    array = image.array
    if array.dtype.kind == "f":
        rounded = np.rint(np.nan_to_num(array, nan=-1.0))
        if not np.array_equal(rounded, array):
            wrong = array[rounded != array].ravel()[0]
            raise UserError(
                f"{file}: label value {wrong} is not a whole number; save the labels as integers"
            )
        array = rounded
    if array.min() < 0 or array.max() > 65535:
        raise UserError(
            f"{file}: label values go from {array.min()} to {array.max()}; expected 0 to 65535"
        )
    return Image(array.astype(_smallest_type(array)), image.grid, image.header)


def write_labels(labels: np.ndarray, reference: Image, file: Path) -> None:
    """Write a label map with 8 or 16 bits a voxel. The file is either complete or absent.

    Args:
        labels: Whole numbers `(Z, Y, X)` from 0 to 65535.
        reference: The image that the labels belong to; its grid and header geometry are written.
        file: The file to write; its ending chooses the format.

    Raises:
        UserError: The format is not supported, cannot hold these labels, or cannot be given the
            geometry of the image.
        ValueError: The labels have another shape than the image, or are not such numbers.
    """
    if labels.shape != reference.grid.shape:
        raise ValueError(
            f"labels {labels.shape} do not lie on the reference grid {reference.grid.shape}"
        )
    if labels.dtype.kind not in "iub" or labels.min() < 0 or labels.max() > 65535:
        raise ValueError(f"labels of type {labels.dtype} are not whole numbers from 0 to 65535")
    form = _format_of(file)
    if not form.serves(reference):
        raise UserError(
            f"{file}: the ending differs from that of the image, so its geometry cannot be kept"
        )
    if form.highest_label == 0:
        raise UserError(f"{file}: {_LOSSY}")
    if labels.max() > form.highest_label:
        raise UserError(
            f"{file}: holds labels up to {form.highest_label}, this map has {labels.max()}; use PNG"
        )
    with atomic_path(file) as temporary:
        form.write(labels.astype(_smallest_type(labels)), reference, temporary)


def _smallest_type(labels: np.ndarray) -> type:
    return np.uint8 if labels.max() < 256 else np.uint16


def _read_plainly(form: Format) -> Callable[[Path], Image]:
    return form.read


def _read_file(file: Path, reader_of: Callable[[Format], Callable[[Path], Image]]) -> Image:
    """Read a file with one of the readers of its format, and check what it returns."""
    # A folder that is named as a file counts as a series only if it is one.
    is_folder = file.is_dir() and (ending_of(file) is None or contains_dicom(file))
    if not is_folder and not file.is_file():
        raise UserError(f"{file}: no such file")
    if not is_folder:
        require_readable(file)
    try:
        image = dicom.read_series(file) if is_folder else reader_of(_format_of(file))(file)
    except UserError:
        raise
    except Exception as error:
        raise_failure_of_machine(file, error)
        # Without the hint that nibabel adds. The last line, because there ITK gives the reason.
        lines = str(error).partition("\n -")[0].strip().splitlines()
        reason = lines[-1] if lines else type(error).__name__
        raise UserError(
            f"{file}: cannot be read, it may be truncated or of another format ({reason})"
        ) from error
    if 0 in image.array.shape:
        raise UserError(f"{file}: is empty, shape {image.array.shape} (c, z, y, x)")
    if not is_usable_grid(image.grid):
        raise UserError(
            f"{file}: its header has no usable geometry (affine {image.grid.affine.tolist()})"
        )
    return Image(plain_numbers(image.array, file), image.grid, image.header)


def is_usable_grid(grid: Grid) -> bool:
    """Tell whether the axes of a grid are of finite length and span a volume, whatever the unit.

    Args:
        grid: The grid.
    """
    lengths = np.linalg.norm(grid.affine[:3, :3], axis=0)
    if not np.isfinite(grid.affine).all() or lengths.min() == 0:
        return False
    return abs(np.linalg.det(grid.affine[:3, :3] / lengths)) > 1e-6


def plain_numbers(array: np.ndarray, name: object) -> np.ndarray:
    """Return voxels as whole numbers or 32-bit floats in the byte order of this machine.

    Args:
        array: The voxels.
        name: What to call the image in an error, such as its file.

    Returns:
        The same values, of the same shape.

    Raises:
        UserError: A voxel is not one real number.
    """
    if array.dtype.kind not in "iufb":
        raise UserError(f"{name}: has voxels of type {array.dtype}; expected one number each")
    if array.dtype.kind == "b":
        return array.astype(np.uint8)
    if array.dtype.kind == "f" and array.dtype.itemsize != 4:
        return array.astype(np.float32)
    return np.asarray(array, array.dtype.newbyteorder("="))


def supported_endings() -> list[str]:
    """Return the endings of all supported formats, with the leading dot."""
    return list(_FORMATS)


def label_endings() -> list[str]:
    """Return the endings that label maps may have, with the leading dot.

    These are all except those of formats whose compression changes values.
    """
    return [ending for ending, form in _FORMATS.items() if form.highest_label > 0]


def variants_of(file_ending: str) -> tuple[str, ...]:
    """Return the endings that the files of a data set with this ending may have.

    Args:
        file_ending: An ending with the leading dot.

    Returns:
        The ending itself, then those that may stand for it, such as `.nii` for `.nii.gz`.
    """
    group = next((group for group in _VARIANTS if file_ending in group), ())
    return (file_ending, *(ending for ending in group if ending != file_ending))


def label_ending_for(image: Path) -> str:
    """Return the ending of the label map that is written for an image.

    Args:
        image: Path of the image file, or the folder of a DICOM series.

    Returns:
        The ending of the image where it can hold labels; `.png` for JPEG, `.nrrd` for `.nhdr`, as a
        label map is one file, and `.nii.gz` for a folder.
    """
    ending = ending_of(image)
    if ending is None or image.is_dir():
        return ".nii.gz"
    if ending == ".nhdr":
        return ".nrrd"
    return ending if ending in label_endings() else ".png"


def is_2d_image(file_ending: str, num_slices: int) -> bool:
    """Tell whether an image is in a 2D format without a spacing.

    Args:
        file_ending: Ending of the file with the leading dot.
        num_slices: Number of slices of the image. It matters for TIFF, which may be a volume.

    Returns:
        True for PNG, BMP and JPEG, and for a TIFF of one slice.
    """
    form = _FORMATS[file_ending]
    return form.read is raster.read or (form is _TIFF and num_slices == 1)


def has_orientation(file_ending: str | None) -> bool:
    """Tell whether images of a format say how they lie in the patient.

    Args:
        file_ending: Ending of the file with the leading dot; None for a DICOM series.

    Returns:
        False for 2D formats and TIFF, also for stacks.
    """
    if file_ending is None:
        return True
    form = _FORMATS[file_ending]
    return form.read is not raster.read and form is not _TIFF


def may_hold_channels(file_ending: str) -> bool:
    """Tell whether one file can hold several channels, as colour images do.

    Args:
        file_ending: Ending of the file with the leading dot.

    Returns:
        False for NIfTI only.
    """
    return _FORMATS[file_ending] is not _NIFTI


def ending_of(file: Path) -> str | None:
    """Return the supported ending of a file name.

    Args:
        file: Path of the file; the ending may be in capitals.

    Returns:
        The ending in small letters with the leading dot, or None where it is not supported.
    """
    name = file.name.lower()
    return next((ending for ending in _FORMATS if name.endswith(ending)), None)


def name_without_ending(file: Path) -> str:
    """Return the name of a file without its supported ending.

    Args:
        file: Path of the file.
    """
    return file.name[: len(file.name) - len(ending_of(file) or "")]


def companions_of(file: Path) -> list[Path]:
    """Return the other files that the content of a file comes from.

    Examples are the voxels of a `.mhd` header and the spacing of a TIFF.

    Args:
        file: Path of the file.

    Returns:
        The other files; empty where the file does not exist or needs none.

    Raises:
        UserError: The file does not say where its voxels are.
    """
    ending = ending_of(file)
    if ending is None or not file.is_file():
        return []
    return _FORMATS[ending].companions(file)


def _format_of(file: Path) -> Format:
    ending = ending_of(file)
    if ending is None:
        raise UserError(f"{file}: unknown file ending; supported are {', '.join(_FORMATS)}")
    return _FORMATS[ending]
