"""Images that a caller from Python gives in the form at hand, and predictions in the same form.

Files, images of nibabel and SimpleITK know how they lie in the patient. An array does not, so its
affine or its orientation has to be said: the wrong one gives wrong predictions without any error.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import nibabel
import numpy as np

from samnet.core.errors import UserError
from samnet.core.geometry import Grid
from samnet.dataset.alignment import read_aligned_image
from samnet.dataset.cases import Case, find_prediction_cases
from samnet.dataset.description import DatasetDescription
from samnet.dataset.formats import itk, nifti
from samnet.dataset.images import Image, is_usable_grid, plain_numbers
from samnet.inference.array_geometry import (
    ArrayGeometry,
    reversed_axes,
    unchanged_axes,
    without_z,
)

_ARRAY = "the array"
_IMAGE = "the image"


@dataclass(frozen=True)
class GivenImage:
    """An image in samnet's form, and the way back to the form in which it was given.

    Attributes:
        array: Raw intensities `(C, Z, Y, X)`.
        grid: Their grid.
        to_given_axes: Turns values `(..., Z, Y, X)` to the axes of what was given.
        wrap: Turns labels `(Z, Y, X)` into what was given: an array, or an image.
    """

    array: np.ndarray
    grid: Grid
    to_given_axes: Callable[[np.ndarray], np.ndarray]
    wrap: Callable[[np.ndarray], Any]


def open_image(image: Any, description: DatasetDescription, geometry: ArrayGeometry) -> GivenImage:
    """Bring an image to samnet's form.

    Args:
        image: A path, an image of nibabel or SimpleITK, or an array; a list or tuple of paths or
            images holds one channel each.
        description: What the model expects.
        geometry: What the caller has said of an array.

    Returns:
        The image.

    Raises:
        UserError: It cannot be read, or it is not clear how it lies in the patient.
    """
    if isinstance(image, (list, tuple)) and not _holds_numbers(image):
        given = _open_channels(image, description, geometry)
    elif isinstance(image, (str, Path)):
        geometry.refuse("a file")
        given = _open_files(_only_case(Path(image), description), description)
    elif isinstance(image, nibabel.spatialimages.SpatialImage):
        geometry.refuse("an image of nibabel")
        given = _open_nibabel(image)
    elif is_sitk(image):
        geometry.refuse("an image of SimpleITK")
        given = _open_sitk(image)
    else:
        array = plain_numbers(np.asarray(image), _ARRAY)
        opened = geometry.open(array, description)
        return GivenImage(opened.array, opened.grid, opened.to_given_axes, opened.to_given_axes)
    return _checked(given)


def is_sitk(image: Any) -> bool:
    """Tell whether something is an image of SimpleITK, which is not loaded for that.

    Args:
        image: Anything.
    """
    module = sys.modules.get("SimpleITK")
    return module is not None and isinstance(image, module.Image)


def _holds_numbers(values: Sequence[Any]) -> bool:
    return (
        bool(values)
        and not isinstance(values[0], (str, Path, np.ndarray))
        and not (isinstance(values[0], nibabel.spatialimages.SpatialImage) or is_sitk(values[0]))
    )


def _checked(given: GivenImage) -> GivenImage:
    if 0 in given.array.shape:
        raise UserError(f"{_IMAGE} is empty, shape {given.array.shape} (c, z, y, x)")
    if not is_usable_grid(given.grid):
        raise UserError(f"{_IMAGE} has no usable affine ({given.grid.affine.tolist()})")
    return replace(given, array=plain_numbers(given.array, _IMAGE))


def _open_channels(
    images: Sequence[Any], description: DatasetDescription, geometry: ArrayGeometry
) -> GivenImage:
    """Open the channels of one image, each given by itself; the first one says the form."""
    if not images:
        raise UserError("the list of channels is empty; give one image for each channel")
    if all(isinstance(image, (str, Path)) for image in images):
        geometry.refuse("a file")
        files = tuple(Path(image) for image in images)
        return _open_files(Case(files[0].name, files), description)
    channels = [open_image(image, description, geometry) for image in images]
    first = channels[0]
    for number, channel in enumerate(channels[1:], 1):
        difference = channel.grid.difference(first.grid)
        if difference is not None:
            raise UserError(
                f"channel {number}: {difference.describe('channel 0')}; resample the channels to "
                "one grid"
            )
    return replace(first, array=np.concatenate([channel.array for channel in channels]))


def _only_case(path: Path, description: DatasetDescription) -> Case:
    if not path.exists():
        raise UserError(f"{path}: no such file or folder")
    cases = find_prediction_cases(path, description)
    if len(cases) > 1:
        raise UserError(
            f"{path}: holds {len(cases)} images, and one is predicted at a time; use "
            "samnet.predict(images, output, model=...) for a folder"
        )
    return cases[0]


def _open_files(case: Case, description: DatasetDescription) -> GivenImage:
    image = read_aligned_image(case, len(description.channel_names))

    def wrap(labels: np.ndarray) -> Any:
        return _in_form_of_file(labels, image)

    if nifti.serves(image):
        return GivenImage(image.array, image.grid, reversed_axes, wrap)
    is_flat = image.grid.is_2d or (itk.serves(image) and len(image.header.origin) == 2)
    return GivenImage(image.array, image.grid, without_z if is_flat else unchanged_axes, wrap)


def _in_form_of_file(labels: np.ndarray, image: Image) -> Any:
    if nifti.serves(image):
        return nifti.labels_image(labels, image)
    if itk.serves(image):
        return itk.labels_like(labels, image)
    return without_z(labels) if image.grid.is_2d else labels


def _open_nibabel(image: Any) -> GivenImage:
    opened = nifti.as_image(image, _IMAGE)

    def to_given_axes(values: np.ndarray) -> np.ndarray:
        # Leading axes, such as that of classes, stay; the others have the order X, Y, Z.
        leading = values.shape[:-3]
        return reversed_axes(values).reshape(*leading, *image.shape)

    return GivenImage(
        opened.array, opened.grid, to_given_axes, lambda labels: nifti.labels_like(labels, image)
    )


def _open_sitk(image: Any) -> GivenImage:
    if image.GetDimension() not in (2, 3):
        raise UserError(f"{_IMAGE} has {image.GetDimension()} dimensions; expected 2 or 3")
    opened = itk.as_image(image)
    to_given_axes = without_z if image.GetDimension() == 2 else unchanged_axes
    return GivenImage(
        opened.array, opened.grid, to_given_axes, lambda labels: itk.labels_like(labels, opened)
    )
