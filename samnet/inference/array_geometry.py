"""How an array lies in the patient, as its caller says it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

import numpy as np

from samnet.core.errors import UserError
from samnet.core.geometry import Grid, spacing_affine
from samnet.dataset.description import DatasetDescription
from samnet.dataset.images import has_orientation, is_2d_image, is_usable_grid

# Letter -> axis of the patient in RAS+, and whether positions along it grow.
_DIRECTIONS = {
    "R": (0, 1.0),
    "L": (0, -1.0),
    "A": (1, 1.0),
    "P": (1, -1.0),
    "S": (2, 1.0),
    "I": (2, -1.0),
}
_HOW_IT_LIES = (
    "say how it lies in the patient: affine= (4 x 4, as nibabel's, for an array with the axes of "
    "the affine), or orientation= with spacing=, such as orientation='RAS' for nibabel's array of "
    "a RAS+ file and orientation='SPL' for SimpleITK's array of an axial scan; or give the image "
    "of nibabel or SimpleITK, or the path of its file"
)


@dataclass(frozen=True)
class OpenedArray:
    """An array in samnet's form, and the way back to its axes.

    Attributes:
        array: Raw intensities `(C, Z, Y, X)`.
        grid: Their grid.
        to_given_axes: Turns values `(..., Z, Y, X)` to the axes of the given array.
    """

    array: np.ndarray
    grid: Grid
    to_given_axes: Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class ArrayGeometry:
    """What a caller says of an array.

    Attributes:
        affine: 4 x 4 matrix from its indices to mm in RAS+; its columns are in the order of the
            axes of the array.
        orientation: For each of its axes, in their order, the side of the patient to which its
            index grows: `R` or `L` (right, left), `A` or `P` (front, back), `S` or `I` (head,
            feet).
        spacing: The distance of voxels in mm along each of its axes, in their order.
        channel_axis: The axis of the channels, which affine, orientation and spacing leave out.
    """

    affine: np.ndarray | None = None
    orientation: str | None = None
    spacing: Sequence[float] | None = None
    channel_axis: int | None = None

    def refuse(self, what: str) -> None:
        """Refuse to be told what an image says itself.

        Args:
            what: What kind of image it is.

        Raises:
            UserError: Anything is given.
        """
        for field in fields(self):
            if getattr(self, field.name) is not None:
                raise UserError(
                    f"{field.name}= is for arrays, and {what} says it itself; leave it out"
                )

    def open(self, array: np.ndarray, description: DatasetDescription) -> OpenedArray:
        """Bring an array to samnet's form.

        Args:
            array: Two or three axes, and one of channels.
            description: What the model expects.

        Returns:
            The array on its grid.

        Raises:
            UserError: It is not clear how the array lies in the patient, or what is said of it does
                not fit it.
        """
        if 0 in array.shape:
            raise UserError(f"the array is empty, shape {array.shape}")
        channels = self._channels_first(array, description)
        num_axes = channels.ndim - 1
        if self.affine is not None and (self.orientation or self.spacing is not None):
            raise UserError("affine= holds orientation and spacing; leave out the others")
        if num_axes == 2:
            return self._open_2d(channels, description)
        self._check_spacing(3)
        if self.affine is not None:
            return _open_volume(channels, self._given_affine(), starts_with_z=False)
        if self.orientation is not None:
            affine, letters = self._affine_of_orientation(), self.orientation.upper()
            return _open_volume(channels, affine, starts_with_z=letters[0] in "SI")
        if has_orientation(description.file_ending):
            raise UserError(f"an array of shape {array.shape} may lie in any way; {_HOW_IT_LIES}")
        return self._open_stack(channels)

    def _check_spacing(self, num_axes: int) -> None:
        """Refuse a spacing that does not fit so many axes."""
        if self.spacing is None:
            return
        lengths = [float(length) for length in self.spacing]
        is_usable = len(lengths) == num_axes and all(0 < length < np.inf for length in lengths)
        if not is_usable:
            raise UserError(
                f"spacing={lengths}: expected {num_axes} lengths above 0 in mm, one for each axis "
                "of the array, in their order"
            )

    def _channels_first(self, array: np.ndarray, description: DatasetDescription) -> np.ndarray:
        """Return the array as `(C, ...)` with two or three other axes."""
        axis = self.channel_axis
        if axis is not None and not -array.ndim <= axis < array.ndim:
            raise UserError(f"channel_axis={axis}: the array has {array.ndim} axes")
        if axis is None and array.ndim == 4:
            axis = 0
        channels = array[None] if axis is None else np.moveaxis(array, axis, 0)
        if channels.ndim not in (3, 4):
            raise UserError(
                f"an array of shape {array.shape} is no image; expected two axes or three, and one "
                "more for channels (channel_axis=)"
            )
        is_unsaid_colour = axis is None and array.ndim == 3 and self._is_plain_image(description)
        if is_unsaid_colour:
            raise UserError(
                f"the model was trained on 2D images, the array has the shape {array.shape}; if it "
                "is in colour, say which axis is that of the channels, such as channel_axis=-1"
            )
        return channels

    def _is_plain_image(self, description: DatasetDescription) -> bool:
        """Tell whether the model knows nothing but single 2D images, such as PNG."""
        return is_2d_image(description.file_ending, num_slices=2) and self.affine is None

    def _open_2d(self, channels: np.ndarray, description: DatasetDescription) -> OpenedArray:
        """Take rows and columns as a viewer shows them."""
        if not is_2d_image(description.file_ending, num_slices=1):
            raise UserError(
                f"the model was trained on volumes ({description.file_ending}), the array is one "
                f"slice; give it as a volume of one slice, array[None], and {_HOW_IT_LIES}"
            )
        if self.affine is not None or self.orientation is not None:
            raise UserError("a 2D array has no place in the patient; give spacing= alone, or none")
        self._check_spacing(2)
        has_spacing = self.spacing is not None
        y, x = (1.0, 1.0) if self.spacing is None else (float(value) for value in self.spacing)
        array = channels[:, None]
        grid = Grid(array.shape[1:], spacing_affine((1.0, y, x)), has_spacing, is_2d=True)
        return OpenedArray(array, grid, without_z)

    def _open_stack(self, channels: np.ndarray) -> OpenedArray:
        """Take slices, rows and columns as TIFF has them, which says nothing of the patient."""
        has_spacing = self.spacing is not None
        spacing = (1.0, 1.0, 1.0) if self.spacing is None else self.spacing
        z, y, x = (float(value) for value in spacing)
        grid = Grid(channels.shape[1:], spacing_affine((z, y, x)), has_spacing)
        return OpenedArray(channels, grid, unchanged_axes)

    def _given_affine(self) -> np.ndarray:
        affine = np.asarray(self.affine, dtype=float)
        if affine.shape != (4, 4) or not np.allclose(affine[3], (0, 0, 0, 1)):
            raise UserError(
                "affine= has to be a 4 x 4 matrix with the last row 0, 0, 0, 1; found "
                f"{affine.tolist()}"
            )
        return affine

    def _affine_of_orientation(self) -> np.ndarray:
        """Return the matrix from the indices of the array's axes to mm."""
        letters = str(self.orientation).upper()
        axes = [_DIRECTIONS[letter][0] for letter in letters if letter in _DIRECTIONS]
        if len(letters) != 3 or sorted(axes) != [0, 1, 2]:
            raise UserError(
                f"orientation={self.orientation!r}: expected one letter for each axis of the "
                "array, of R or L, A or P, S or I, such as 'LPS'"
            )
        if self.spacing is None:
            raise UserError(
                "orientation= needs the spacing: spacing=(..., ..., ...) in mm, in the order of "
                "the axes of the array"
            )
        affine = np.zeros((4, 4))
        affine[3, 3] = 1.0
        for column, (letter, length) in enumerate(zip(letters, self.spacing, strict=True)):
            row, sign = _DIRECTIONS[letter]
            affine[row, column] = sign * float(length)
        return affine


def _open_volume(channels: np.ndarray, affine: np.ndarray, *, starts_with_z: bool) -> OpenedArray:
    """Take the axes of an array for x, y and z, or for z, y and x.

    Models that other code has trained may cut slices by the axes of the file, not of the patient.
    nibabel's arrays begin with x, SimpleITK's with z.
    """
    if starts_with_z:
        array, affine, to_given_axes = channels, affine[:, [2, 1, 0, 3]], unchanged_axes
    else:
        array, to_given_axes = channels.transpose(0, 3, 2, 1), reversed_axes
    grid = Grid(array.shape[1:], affine)
    if not is_usable_grid(grid):
        raise UserError(f"affine= has an axis without length, or two alike: {affine.tolist()}")
    return OpenedArray(array, grid, to_given_axes)


def reversed_axes(values: np.ndarray) -> np.ndarray:
    """Return values with the axes of nibabel's arrays.

    Args:
        values: Values `(..., Z, Y, X)`.

    Returns:
        The same values `(..., X, Y, Z)`.
    """
    return np.moveaxis(values, (-3, -2, -1), (-1, -2, -3))


def unchanged_axes(values: np.ndarray) -> np.ndarray:
    """Return values with the axes of SimpleITK's arrays, which are samnet's.

    Args:
        values: Values `(..., Z, Y, X)`.
    """
    return values


def without_z(values: np.ndarray) -> np.ndarray:
    """Return values of a 2D image.

    Args:
        values: Values `(..., 1, Y, X)`.

    Returns:
        The same values `(..., Y, X)`.
    """
    return values[..., 0, :, :]
