"""Planes through a place of a volume: turned for the reader, with their directions and scale."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from samnet.core.geometry import Box, Grid, Reorientation
from samnet.core.slicing import is_anisotropic
from samnet.evaluation.overlays.places import Place

# Directions of RAS+ axes, negative and positive. H and F are head and feet.
_LETTERS = (("L", "R"), ("P", "A"), ("F", "H"))
_NAMES = ("axial", "coronal", "sagittal")
_NAMES_OF_FILE = ("slice", "row plane", "column plane")
# The second letter of an oblique axis: it deviates by at least 20 degrees towards this direction.
_LEAST_COSINE = float(np.sin(np.radians(20)))


def direction_letters(direction: np.ndarray) -> str:
    """Name a direction as viewers do.

    Args:
        direction: A vector `(x, y, z)` in RAS+.

    Returns:
        A letter of R, L, A, P, H, F (right, left, front, back, head, feet), or two for an oblique
        direction, the larger component first.
    """
    cosines = direction / np.linalg.norm(direction)
    letters = ""
    for axis in np.argsort(-np.abs(cosines), kind="stable")[:2]:
        if not letters or abs(cosines[axis]) >= _LEAST_COSINE:
            letters += _LETTERS[axis][int(cosines[axis] > 0)]
    return letters


@dataclass(frozen=True)
class Edges:
    """What lies at the edges of a plane, in letters; empty where the file does not say.

    Attributes:
        left: At the left edge.
        right: At the right edge.
        top: At the top.
        bottom: At the bottom.
    """

    left: str = ""
    right: str = ""
    top: str = ""
    bottom: str = ""


@dataclass(frozen=True)
class Plane:
    """One plane of a volume, or a part of it.

    Attributes:
        axis: The axis of `ShownVolume` that it crosses.
        index: Its index along this axis.
        box: The part of the volume that it shows.
        name: Such as `axial`.
        position: Its number in the file and its position, for a caption.
        edges: The directions of its edges.
        pixel_size: Height and width of a pixel in mm, or 1 where no spacing is known.
        marked: Row and column of the place that it goes through.
        is_turned: Whether rows and columns run from the patient's head or front, and right.
    """

    axis: int
    index: int
    box: Box
    name: str
    position: str
    edges: Edges
    pixel_size: tuple[float, float]
    marked: tuple[int, int]
    is_turned: bool

    @property
    def shape(self) -> tuple[int, int]:
        """Number of rows and columns."""
        rows, columns = (size for axis, size in enumerate(self.box.shape) if axis != self.axis)
        return rows, columns

    @property
    def size(self) -> tuple[float, float]:
        """Height and width in mm, or in pixels where no spacing is known."""
        height, width = self.pixel_size
        return self.shape[0] * height, self.shape[1] * width

    def cut(self, volume: np.ndarray) -> np.ndarray:
        """Return the plane of a volume.

        Args:
            volume: Values `(Z, Y, X)` of `ShownVolume.turn`.

        Returns:
            Values `(rows, columns)` as they are shown.
        """
        ranges: list[slice | int] = list(self.box.slices)
        ranges[self.axis] = self.index
        plane = volume[tuple(ranges)]
        return plane[::-1, ::-1] if self.is_turned else plane

    def outline(self, box: Box) -> tuple[int, int, int, int]:
        """Return where a smaller box lies on the plane.

        Args:
            box: A part of the plane's own box.

        Returns:
            First row, first column, number of rows, number of columns.
        """
        axes = [axis for axis in range(3) if axis != self.axis]
        first, lengths = [], []
        for axis in axes:
            length = box.shape[axis]
            start = box.start[axis] - self.box.start[axis]
            if self.is_turned:
                start = self.box.stop[axis] - box.stop[axis]
            first.append(start)
            lengths.append(length)
        return first[0], first[1], lengths[0], lengths[1]


class ShownVolume:
    """The axes of a volume as a figure shows them.

    The planes of a volume with a position in space are those of the canonical axes: the patient's
    right is on the left, front and head are at the top. Others are shown as the file stores them.

    Attributes:
        grid: The grid of the turned volume.
        is_oriented: Whether the file says how the patient lies.
    """

    def __init__(self, grid: Grid, *, is_oriented: bool) -> None:
        """Choose the axes.

        Args:
            grid: The native grid of the volume.
            is_oriented: Whether the affine says how the patient lies.
        """
        self.is_oriented = is_oriented
        self._reorientation = Reorientation(grid, "patient" if is_oriented else "file")
        self.grid = self._reorientation.canonical_grid
        self._to_native = np.linalg.inv(grid.affine) @ self.grid.affine
        self._native_shape = grid.shape

    def turn(self, volume: np.ndarray) -> np.ndarray:
        """Return a view of a volume with the axes that are shown.

        Args:
            volume: Values `(..., Z, Y, X)` on the native grid.

        Returns:
            The same values `(..., Z, Y, X)`.
        """
        return self._reorientation.to_canonical(volume)

    @property
    def whole(self) -> Box:
        """The box of the whole volume."""
        return Box((0, 0, 0), self.grid.shape)

    def planes(self, place: Place, box: Box | None = None) -> list[Plane]:
        """Return the planes through a place.

        Args:
            place: Its index `(Z, Y, X)` in the turned volume.
            box: The part to show; None for the whole volume.

        Returns:
            The axial, coronal and sagittal plane; the plane of its image alone for a volume of one
            slice.
        """
        shape = self.grid.shape
        axes = [shape.index(1)] if 1 in shape else [0, 1, 2]
        return [self.plane(axis, place, box) for axis in axes]

    def plane(self, axis: int, place: Place, box: Box | None = None) -> Plane:
        """Return one plane through a place.

        Args:
            axis: The axis that it crosses.
            place: Its index `(Z, Y, X)` in the turned volume.
            box: The part to show; None for the whole volume.

        Returns:
            The plane.
        """
        box = self.whole if box is None else box
        row_axis, column_axis = (other for other in range(3) if other != axis)
        marked = []
        for other in (row_axis, column_axis):
            offset = place[other] - box.start[other]
            marked.append(box.shape[other] - 1 - offset if self.is_oriented else offset)
        spacing = self.grid.spacing
        return Plane(
            axis=axis,
            index=place[axis],
            box=box,
            name=(_NAMES if self.is_oriented else _NAMES_OF_FILE)[axis],
            position=self._describe_position(axis, place),
            edges=self._edges(row_axis, column_axis),
            pixel_size=(spacing[row_axis], spacing[column_axis]),
            marked=(marked[0], marked[1]),
            is_turned=self.is_oriented,
        )

    def main_axis(self) -> int:
        """Return the axis across which the volume is usually looked at.

        Returns:
            That of a single slice, else the coarsest axis of an anisotropic volume, else the axial
            one.
        """
        if 1 in self.grid.shape:
            return self.grid.shape.index(1)
        spacing = np.array(self.grid.spacing)
        return int(spacing.argmax()) if is_anisotropic(spacing) else 0

    def _edges(self, row_axis: int, column_axis: int) -> Edges:
        if not self.is_oriented:
            return Edges()
        # The axes of the grid are in the order z, y, x, the columns of the affine in x, y, z.
        rows = self.grid.affine[:3, 2 - row_axis]
        columns = self.grid.affine[:3, 2 - column_axis]
        return Edges(
            left=direction_letters(columns),
            right=direction_letters(-columns),
            top=direction_letters(rows),
            bottom=direction_letters(-rows),
        )

    def _describe_position(self, axis: int, place: Place) -> str:
        """Return the number of a slice in its file, from 1 up, and its position in mm."""
        if self.grid.shape[axis] == 1 and not self.is_oriented:
            return ""
        native = self._to_native @ [place[2], place[1], place[0], 1.0]
        column = int(np.abs(self._to_native[:3, 2 - axis]).argmax())  # of x, y, z in the file
        number, count = round(float(native[column])) + 1, self._native_shape[2 - column]
        text = f"{number} of {count}"
        if not self.is_oriented:
            return text
        position = self.grid.affine @ [place[2], place[1], place[0], 1.0]
        # Of an oblique plane, the coordinate along the nearest direction of the patient.
        coordinate = float(position[2 - axis])
        return f"{text}, {_LETTERS[2 - axis][int(coordinate >= 0)]} {abs(coordinate):.1f} mm"
