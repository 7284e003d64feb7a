"""Voxel grids in space, and the conversion between a file's own axes and samnet's canonical axes.

Inside samnet every volume is an array `(C, Z, Y, X)`. Its X axis runs to the patient's right, Y to
the front and Z to the head, as nearly as the file's own axes allow (nibabel's RAS+). No voxel is
interpolated for this: axes are permuted and flipped, so the conversion back is exact. Models that
other code has trained may need other axes, see `Reorientation`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from nibabel.orientations import (
    apply_orientation,
    axcodes2ornt,
    inv_ornt_aff,
    io_orientation,
    ornt_transform,
)

GRID_TOLERANCE_VOXELS = 0.1
PATIENT = "patient"  # the canonical axes
# Pixels before and behind, of the rows and of the columns of a slice.
Margins = tuple[tuple[int, int], tuple[int, int]]
_UNCHANGED = np.array([[0, 1], [1, 1], [2, 1]], dtype=float)
# Orientations by the axes of the file, whatever their directions: Z, Y, X and Z, X, Y.
_OF_FILE = {"file": _UNCHANGED, "file_transposed": _UNCHANGED[[1, 0, 2]]}
_AXIS_LETTERS = ("LR", "PA", "IS")


@dataclass(frozen=True)
class Grid:
    """The voxel grid of a volume.

    Attributes:
        shape: Number of voxels along `(Z, Y, X)`.
        affine: 4 x 4 matrix from voxel indices `(x, y, z)` to millimetres in RAS+.
        has_spacing: Whether the file states the size of its voxels. Otherwise the affine counts
            voxels, and no length is in mm.
        is_2d: Whether it is that of a 2D image, which has no position in space.
    """

    shape: tuple[int, int, int]
    affine: np.ndarray
    has_spacing: bool = True
    is_2d: bool = False

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Distance of neighbouring voxel centres along `(Z, Y, X)` in mm."""
        lengths = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(lengths[2]), float(lengths[1]), float(lengths[0])

    @property
    def sampling_spacing(self) -> tuple[float, float, float]:
        """The spacing `(Z, Y, X)` by which slices are scaled: 1 for 2D images, taken by pixels."""
        return (1.0, 1.0, 1.0) if self.is_2d else self.spacing

    @property
    def unit(self) -> str:
        """The unit of its lengths: `mm`, or `pixels` or `voxels` where no spacing is known."""
        if self.has_spacing:
            return "mm"
        return "pixels" if self.shape[0] == 1 else "voxels"

    @property
    def direction(self) -> np.ndarray:
        """Unit vectors of the axes x, y and z, as the columns of a 3 x 3 matrix."""
        return self.affine[:3, :3] / np.linalg.norm(self.affine[:3, :3], axis=0)

    @property
    def origin(self) -> tuple[float, float, float]:
        """Position `(x, y, z)` of the first voxel in mm, in RAS+."""
        x, y, z = self.affine[:3, 3]
        return float(x), float(y), float(z)

    @property
    def shear(self) -> float:
        """Largest deviation of any two axes from a right angle, in degrees."""
        cosines = self.direction.T @ self.direction - np.eye(3)
        return float(np.degrees(np.arcsin(min(1.0, np.abs(cosines).max()))))

    def difference(
        self, expected: Grid, tolerance: float = GRID_TOLERANCE_VOXELS
    ) -> GridDifference | None:
        """Compare this grid with the one that it should be equal to.

        Args:
            expected: The grid to compare with.
            tolerance: Largest distance of corresponding voxels that counts as equal, in voxels.

        Returns:
            What differs, or None where both grids have the same shape and position. Shapes alone
            are compared where one of the grids has no spacing.
        """
        if self.shape != expected.shape:
            return GridDifference("shape", self, expected)
        if not (self.has_spacing and expected.has_spacing):
            return None
        if self.distance_in_voxels(expected) <= tolerance:
            return None
        differing = _differing_properties(self, expected)
        return GridDifference(next(iter(differing), "position"), self, expected)

    def distance_in_voxels(self, other: Grid) -> float:
        """Return the largest distance between corresponding corner voxels of two grids.

        Args:
            other: A grid of the same shape.

        Returns:
            The distance in units of this grid's smallest spacing.
        """
        corners = np.array([[x, y, z, 1] for x in (0, 1) for y in (0, 1) for z in (0, 1)], float)
        corners[:, :3] *= np.array(self.shape[::-1]) - 1
        offsets = corners @ (self.affine - other.affine).T
        largest = np.linalg.norm(offsets[:, :3], axis=1).max()
        return float(largest / max(min(self.spacing), 1e-9))


@dataclass(frozen=True)
class GridDifference:
    """What differs between a grid and the one that it should be equal to.

    Attributes:
        kind: `shape`, `spacing`, `direction`, `origin`, or `position` where several small
            differences add up.
        found: The grid that was found.
        expected: The grid that it should be equal to.
    """

    kind: str
    found: Grid
    expected: Grid

    def describe(self, expected_name: str) -> str:
        """Say what differs, for an error message that begins with the name of the found file.

        Args:
            expected_name: What to call the expected grid, such as `its image` or a file name.

        Returns:
            A clause such as `shape (9, 8, 7) (z, y, x) differs from (9, 8, 6) of its image`.
        """
        if self.kind == "shape":
            return (
                f"shape {self.found.shape} (z, y, x) differs from {self.expected.shape} "
                f"of {expected_name}"
            )
        distance = self.found.distance_in_voxels(self.expected)
        listing = ", ".join(
            f"{name} {_show(found)} and not {_show(expected)}"
            for name, (found, expected) in _differing_properties(self.found, self.expected).items()
        )
        details = f" ({listing})" if listing else ""
        return f"lies {distance:.1f} voxels beside {expected_name}{details}"


def _differing_properties(found: Grid, expected: Grid) -> dict[str, tuple[Any, Any]]:
    """Return name -> (found, expected) of the properties that explain a shift between two grids."""
    finest = min(expected.spacing)  # a microscope's spacing is a fraction of a thousandth of a mm
    candidates: dict[str, tuple[Any, Any, float]] = {
        "spacing": (found.spacing, expected.spacing, 1e-5 * finest),
        "direction": (found.direction, expected.direction, 1e-5),
        "origin": (found.origin, expected.origin, 1e-3 * finest),
    }
    return {
        name: (one, other)
        for name, (one, other, tolerance) in candidates.items()
        if not np.allclose(one, other, rtol=0, atol=tolerance)
    }


def _show(numbers: tuple[float, ...] | np.ndarray) -> str:
    return str(np.asarray(numbers).round(6).tolist())


def spacing_affine(spacing: tuple[float, float, float]) -> np.ndarray:
    """Return the affine of an unrotated grid whose first voxel lies at the origin.

    Args:
        spacing: Voxel spacing along `(Z, Y, X)` in mm.

    Returns:
        A 4 x 4 matrix from `(x, y, z)` indices to mm.
    """
    return np.diag([spacing[2], spacing[1], spacing[0], 1.0])


def is_orientation(text: str) -> bool:
    """Tell whether a text names an orientation, see `Reorientation`.

    Args:
        text: The text.

    Returns:
        Whether it is `patient`, `file`, `file_transposed`, or three letters with one for each axis
        of the patient.
    """
    if text == PATIENT or text in _OF_FILE:
        return True
    if len(text) != 3:
        return False
    return all(len(set(text) & set(pair)) == 1 for pair in _AXIS_LETTERS)


@dataclass(frozen=True)
class Reorientation:
    """The permutation and flips between a native grid and its canonical form.

    Attributes:
        native: The grid of the file.
        orientation: What takes the place of the canonical axes, for models that other code has
            trained. `patient`: nothing. `file`: the file's own Z, Y, X. `file_transposed`: its Z,
            X, Y. Three letters: the directions in which slices, rows and columns run, of R, L, A,
            P, S, I (right, left, front, back, head, feet); `SAR` are the canonical axes.
    """

    native: Grid
    orientation: str = PATIENT

    @property
    def _orientation(self) -> np.ndarray:
        if self.orientation in _OF_FILE:
            return _OF_FILE[self.orientation]
        canonical = io_orientation(self.native.affine)
        if self.orientation == PATIENT:
            return canonical
        # nibabel names the axes in the order x, y, z.
        return ornt_transform(canonical, axcodes2ornt(tuple(reversed(self.orientation))))

    @property
    def canonical_grid(self) -> Grid:
        """The same voxels with canonical axes."""
        shape = self.native.shape[::-1]
        affine = self.native.affine @ inv_ornt_aff(self._orientation, shape)
        order = np.argsort(self._orientation[:, 0])
        x, y, z = (int(shape[axis]) for axis in order)
        return replace(self.native, shape=(z, y, x), affine=affine)

    @property
    def native_axes(self) -> tuple[tuple[int, bool], ...]:
        """For each of the file's axes Z, Y, X: the canonical axis, and whether it is reversed."""
        # The canonical position of each voxel of a cube, as it lies in the file.
        positions = self.to_native(np.indices((2, 2, 2)))
        axes = []
        for native in range(3):
            steps = np.diff(positions, axis=native + 1)[:, 0, 0, 0]
            canonical = int(np.flatnonzero(steps)[0])
            axes.append((canonical, bool(steps[canonical] < 0)))
        return tuple(axes)

    def to_canonical(self, array: np.ndarray) -> np.ndarray:
        """Return a view of an array with canonical axes.

        Args:
            array: Values `(..., Z, Y, X)` on the native grid.

        Returns:
            The same values `(..., Z, Y, X)` on the canonical grid.
        """
        return _apply(array, self._orientation)

    def to_native(self, array: np.ndarray) -> np.ndarray:
        """Return a view of an array with the file's own axes; the inverse of `to_canonical`.

        Args:
            array: Values `(..., Z, Y, X)` on the canonical grid.

        Returns:
            The same values `(..., Z, Y, X)` on the native grid.
        """
        return _apply(array, ornt_transform(_UNCHANGED, self._orientation))


def _apply(array: np.ndarray, orientation: np.ndarray) -> np.ndarray:
    # nibabel works on arrays whose first three axes are x, y, z; ours end in z, y, x.
    return apply_orientation(array.transpose(), orientation).transpose()


@dataclass(frozen=True)
class Box:
    """A block of voxels: half-open ranges `start <= index < stop`.

    Attributes:
        start: First voxel along `(Z, Y, X)`.
        stop: First voxel behind the block along `(Z, Y, X)`.
    """

    start: tuple[int, int, int]
    stop: tuple[int, int, int]

    @property
    def slices(self) -> tuple[slice, slice, slice]:
        """The ranges along `(Z, Y, X)`, to index an array with."""
        z, y, x = (slice(a, b) for a, b in zip(self.start, self.stop, strict=True))
        return z, y, x

    @property
    def shape(self) -> tuple[int, int, int]:
        """Number of voxels along `(Z, Y, X)`."""
        z, y, x = (b - a for a, b in zip(self.start, self.stop, strict=True))
        return z, y, x

    def margins(self, whole: tuple[int, int, int], axis: int) -> Margins:
        """Return what a crop to this box takes of slices.

        Args:
            whole: Number of voxels along `(Z, Y, X)` before it.
            axis: The axis across which the slices lie.

        Returns:
            Pixels before and behind, of rows and of columns.
        """
        ends = zip(self.start, self.stop, whole, strict=True)
        margins = [(start, length - stop) for start, stop, length in ends]
        rows, columns = (margin for index, margin in enumerate(margins) if index != axis)
        return rows, columns


def bounding_box(mask: np.ndarray) -> Box:
    """Return the smallest box around the true voxels of a mask.

    Args:
        mask: Booleans `(Z, Y, X)`.

    Returns:
        The box; the whole volume where no voxel is true.
    """
    if not mask.any():
        return Box((0, 0, 0), mask.shape)
    spans = []
    for axis in range(3):
        others = tuple(other for other in range(3) if other != axis)
        indices = np.flatnonzero(mask.any(axis=others))
        spans.append((int(indices[0]), int(indices[-1]) + 1))
    start, stop = zip(*spans, strict=True)
    return Box(start, stop)


def nonzero_box(array: np.ndarray, labels: np.ndarray | None = None) -> Box:
    """Return the box outside of which every channel is 0 and nothing is labelled.

    Args:
        array: A canonical image `(C, Z, Y, X)`.
        labels: Its label map `(Z, Y, X)`, if there is one.

    Returns:
        The box; the whole volume where everything is 0.
    """
    occupied = (array != 0).any(axis=0)
    if labels is not None:
        occupied |= labels != 0
    return bounding_box(occupied)
