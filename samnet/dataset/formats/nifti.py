"""NIfTI-1 and NIfTI-2, plain or compressed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from samnet.core.errors import UserError
from samnet.core.geometry import Grid
from samnet.dataset.formats.dicom import is_series
from samnet.dataset.formats.image import Image


def read(file: Path) -> Image:
    import nibabel

    nifti: Any = nibabel.load(file)
    shape = nifti.shape
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if not 2 <= len(shape) <= 3:
        raise UserError(
            f"{file}: has shape {nifti.shape}; expected a 3D volume (split 4D series into channels)"
        )
    # Without a slope the stored type is kept; get_fdata would make everything float64.
    data = np.asarray(nifti.dataobj).reshape(shape if len(shape) == 3 else (*shape, 1))
    affine = np.asarray(nifti.affine, dtype=float)
    z_y_x = data.transpose()
    return Image(z_y_x[None], Grid(z_y_x.shape, affine), nifti.header.copy())


def serves(image: Image) -> bool:
    """NIfTI images lend their headers; a DICOM series has nothing to lend but its grid, and needs no more."""
    import nibabel

    return isinstance(image.header, nibabel.Nifti1Header) or is_series(image)


def write(labels: np.ndarray, reference: Image, file: Path) -> None:
    import nibabel

    if is_series(reference):
        nibabel.save(_on_grid(labels, reference.grid), file)
        return
    header = reference.header.copy()
    data = labels.transpose().reshape(header.get_data_shape())
    header.set_data_dtype(labels.dtype)
    header.set_slope_inter(1, 0)
    header["cal_max"], header["cal_min"] = 0, 0
    image_class = (
        nibabel.Nifti2Image if isinstance(header, nibabel.Nifti2Header) else nibabel.Nifti1Image
    )
    # affine None: the header's own qform and sform, with their codes, are written back untouched.
    nibabel.save(image_class(data, None, header), file)


def _on_grid(labels: np.ndarray, grid: Grid) -> Any:
    """A NIfTI-1 image in scanner coordinates; the qform, which can hold no shear, only where it says the same."""
    import nibabel

    nifti = nibabel.Nifti1Image(labels.transpose(), grid.affine)
    nifti.set_sform(grid.affine, code=1)
    nifti.set_qform(grid.affine, code=1)
    if not np.allclose(nifti.get_qform(), grid.affine, atol=1e-3):
        nifti.header["qform_code"] = 0
    nifti.header.set_xyzt_units("mm")
    return nifti
