"""NIfTI-1 and NIfTI-2, plain or compressed."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np

from samnet.core.errors import UserError
from samnet.core.geometry import Grid
from samnet.dataset.formats.dicom import is_series
from samnet.dataset.formats.image import Image

# NIfTI's codes of metre, millimetre and micrometre (nifti1.h, xyzt_units), in mm. A header without
# a unit is in mm, as for every other program.
_MILLIMETRES = {1: 1000.0, 2: 1.0, 3: 1e-3}
_SPACE_BITS = 7
_LARGEST_DISAGREEMENT = 0.05  # an sform may hold a registration, which changes sizes a little

log = logging.getLogger(__name__)


def read(file: Path) -> Image:
    """Read a volume or a single slice.

    Args:
        file: A NIfTI file.

    Returns:
        The image with the array `(1, Z, Y, X)`.

    Raises:
        UserError: The file has fewer than two or more than three dimensions, or states a distance
            of 0 between voxels.
    """
    import nibabel

    nifti: Any = nibabel.load(file)
    num_axes = len(_shape_of(nifti, file))
    _check_spacing(nifti, file, num_axes)
    return as_image(nifti, file)


def _shape_of(nifti: Any, name: object) -> tuple[int, ...]:
    """Return the shape without axes of one entry behind the third."""
    shape = nifti.shape
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if not 2 <= len(shape) <= 3:
        raise UserError(
            f"{name}: has shape {nifti.shape}; expected a 3D volume (split 4D series into channels)"
        )
    return shape


def as_image(nifti: Any, name: object) -> Image:
    """Convert an image of nibabel to samnet's form.

    Args:
        nifti: A volume or a single slice, of NIfTI or another format that nibabel reads.
        name: What to call it in an error, such as its file.

    Returns:
        The image with the array `(1, Z, Y, X)`.

    Raises:
        UserError: It has fewer than two or more than three dimensions.
    """
    shape = _shape_of(nifti, name)
    shape_xyz = shape if len(shape) == 3 else (*shape, 1)
    # Without a slope the stored type is kept; get_fdata would convert everything to float64.
    voxels_xyz = np.asarray(nifti.dataobj).reshape(shape_xyz)
    voxels_zyx = voxels_xyz.transpose()
    affine = _in_millimetres(nifti)
    return Image(voxels_zyx[None], Grid(voxels_zyx.shape, affine), nifti.header.copy())


def labels_like(labels: np.ndarray, nifti: Any) -> Any:
    """Return a label map in memory with the geometry of an image of nibabel.

    Args:
        labels: Labels `(Z, Y, X)`, of the type to keep.
        nifti: The image, as `as_image` takes it.

    Returns:
        An image of the same shape, affine and, if it is NIfTI, header; else a NIfTI-1 image.
    """
    import nibabel

    data = labels.transpose().reshape(nifti.shape)
    if not isinstance(nifti.header, nibabel.Nifti1Header):
        return nibabel.Nifti1Image(data, nifti.affine)
    image_class = _image_class(nifti.header)
    return image_class(data, nifti.affine, _header_of_labels(nifti.header, labels.dtype))


def _check_spacing(nifti: Any, file: Path, num_axes: int) -> None:
    """Refuse a distance of 0, which nibabel takes for 1 mm, and name two distances that disagree.

    The distances of voxels are stated twice: by pixdim, and by the columns of the sform. Programs
    differ in which of them they read.
    """
    from nibabel.openers import ImageOpener

    with ImageOpener(str(file)) as handle:
        stored = type(nifti.header).from_fileobj(handle, check=False)
    distances = np.abs(stored["pixdim"][1 : 1 + num_axes]).astype(float)
    has_sform = int(stored["sform_code"]) > 0
    if has_sform:
        columns = np.linalg.norm(nifti.affine[:3, :3], axis=0)[:num_axes]
        if not np.allclose(distances, columns, rtol=_LARGEST_DISAGREEMENT):
            log.warning(
                "%s: the header has two sizes of voxels, %s in pixdim and %s in the sform; the "
                "sform is used",
                file,
                _show(distances),
                _show(columns),
            )
    elif (distances == 0).any():
        raise UserError(
            f"{file}: the header states voxels of {_show(distances)} (pixdim) and has no sform; "
            "write their true size"
        )


def _show(lengths: np.ndarray) -> str:
    return " x ".join(f"{length:g}" for length in lengths)


def _in_millimetres(nifti: Any) -> np.ndarray:
    """Return the 4 x 4 matrix from `(x, y, z)` indices to mm, whatever the header's unit."""
    affine = np.array(nifti.affine, dtype=float)
    affine[:3] *= _unit_of(nifti)
    return affine


def _unit_of(nifti: Any) -> float:
    import nibabel

    if not isinstance(nifti.header, nibabel.Nifti1Header):  # another format, which is in mm
        return 1.0
    return _MILLIMETRES.get(int(nifti.header["xyzt_units"]) & _SPACE_BITS, 1.0)


def millimetres_of_unit(file: Path) -> float:
    """Return the length of the unit that a header states, in mm; 1 where it states none.

    Args:
        file: A NIfTI file.
    """
    import nibabel

    return _unit_of(nibabel.load(file))


def serves(image: Image) -> bool:
    """Say whether label maps of an image can be written as NIfTI.

    Args:
        image: The image that the labels belong to.

    Returns:
        Whether it is a NIfTI image, whose header is copied, or a DICOM series, of which only the
        grid is needed.
    """
    import nibabel

    return isinstance(image.header, nibabel.Nifti1Header) or is_series(image)


def write(labels: np.ndarray, reference: Image, file: Path) -> None:
    """Write a label map with the geometry of its image.

    Args:
        labels: Labels `(Z, Y, X)`.
        reference: The image that the labels belong to, a NIfTI image or a DICOM series.
        file: The file to write.
    """
    import nibabel

    nibabel.save(labels_image(labels, reference), file)


def labels_image(labels: np.ndarray, reference: Image) -> Any:
    """Return a label map as an image of nibabel with the geometry of its image.

    Args:
        labels: Labels `(Z, Y, X)`.
        reference: The image that the labels belong to, a NIfTI image or a DICOM series.

    Returns:
        An image that nibabel can save.
    """
    if is_series(reference):
        return on_grid(labels, reference.grid)
    header = _header_of_labels(reference.header, labels.dtype)
    data = labels.transpose().reshape(header.get_data_shape())
    # With its own affine, the header's qform and sform, with their codes, stay unchanged.
    return _image_class(header)(data, header.get_best_affine(), header)


def _header_of_labels(header: Any, dtype: np.dtype) -> Any:
    header = header.copy()
    header.set_data_dtype(dtype)
    header.set_slope_inter(1, 0)
    header["cal_max"], header["cal_min"] = 0, 0
    return header


def _image_class(header: Any) -> type:
    import nibabel

    is_nifti2 = isinstance(header, nibabel.Nifti2Header)
    return nibabel.Nifti2Image if is_nifti2 else nibabel.Nifti1Image


def write_volume(values: np.ndarray, grid: Grid, file: Path) -> None:
    """Write intensities with a grid, and nothing else of the file that they come from.

    Args:
        values: Values `(Z, Y, X)` of 16-bit integers, 32-bit integers or floats.
        grid: Their grid.
        file: The file to write.
    """
    import nibabel

    nibabel.save(on_grid(values, grid), file)


def on_grid(values: np.ndarray, grid: Grid) -> Any:
    """Return a NIfTI-1 image in scanner coordinates.

    Args:
        values: Labels or intensities `(Z, Y, X)`.
        grid: Their grid.

    Returns:
        An image that nibabel can save.
    """
    import nibabel

    nifti = nibabel.Nifti1Image(values.transpose(), grid.affine)
    nifti.set_sform(grid.affine, code=1)
    nifti.set_qform(grid.affine, code=1)
    # A qform cannot hold shear; it is declared only where it agrees with the sform.
    if not np.allclose(nifti.get_qform(), grid.affine, atol=1e-3):
        nifti.header["qform_code"] = 0
    nifti.header.set_xyzt_units("mm")
    return nifti
