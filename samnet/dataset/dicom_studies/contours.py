"""The contours of a structure, filled on the planes of a series.

The rules:

- A pixel belongs to a contour if its centre lies within it or on it, by the even-odd rule.
- Of several contours on a plane, one that lies within another is a hole, and one within a hole is
  an island. Contours that overlap only in part are united. Contours of the type `CLOSEDPLANAR_XOR`
  are combined by exclusive or (DICOM PS3.3 C.8.8.6.3).
- A contour within a fifth of a slice distance of a slice lies on it.
- A slice between two contours is interpolated where the structure is contoured at about that
  distance throughout, by blending the signed distances to the outlines (Raya & Udupa 1990,
  doi 10.1109/42.52980). Wider gaps stay empty: they may lie between separate parts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy.ndimage import distance_transform_edt

from samnet.dataset.dicom_studies.geometry import SeriesGeometry
from samnet.dataset.dicom_studies.polygons import FilledPolygon, fill_polygon

CLOSED, CLOSED_XOR = "CLOSED_PLANAR", "CLOSEDPLANAR_XOR"
FILLED_TYPES = (CLOSED, CLOSED_XOR)
# In distances of slices.
_ON_SLICE = 0.2  # by as much the distances of the slices of a series may differ
_ONE_PLANE = 0.05
_FLATNESS = 0.25
_WIDEST_GAP = 1.5  # of the usual distance of the contours of a structure
_FEWEST_PLANES = 3  # from which a usual distance follows
# The share of a contour's pixels that lie within another: of a hole, and of mere neighbours.
_IS_HOLE, _IS_NEIGHBOUR = 0.9, 0.1


@dataclass(frozen=True)
class Contour:
    """One contour.

    Attributes:
        points: Corners `(N, 3)` in LPS mm.
        kind: DICOM's type, such as `CLOSED_PLANAR`.
    """

    points: np.ndarray
    kind: str


@dataclass(frozen=True)
class FilledStructure:
    """A structure as voxels.

    Attributes:
        mask: Booleans `(Z, Y, X)`.
        doubts: Sentences on what is odd about its contours, and on what was done.
    """

    mask: np.ndarray
    doubts: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Placed:
    """A contour in voxels: corners `(N, 2)` as x and y, and the height of its plane."""

    corners: np.ndarray
    height: float
    kind: str


def fill_contours(contours: Sequence[Contour], geometry: SeriesGeometry) -> FilledStructure:
    """Fill the contours of one structure.

    Args:
        contours: All its contours.
        geometry: How the slices of the series lie.

    Returns:
        The voxels of the structure, and what is doubtful. The mask is empty where no contour can be
        filled; the doubts say why.
    """
    doubts: list[str] = []
    placed = _place(contours, geometry, doubts)
    planes = _fill_planes(placed, geometry, doubts)
    mask = np.zeros(geometry.grid.shape, bool)
    if planes:
        _fill_slices(planes, mask, doubts)
    return FilledStructure(mask, doubts)


def _place(
    contours: Sequence[Contour], geometry: SeriesGeometry, doubts: list[str]
) -> list[_Placed]:
    placed, skipped, tilted = [], 0, 0
    for contour in contours:
        if contour.kind not in FILLED_TYPES or len(contour.points) < 3:
            skipped += 1
            continue
        voxels = geometry.to_voxels(contour.points)
        height = float(voxels[:, 2].mean())
        if np.abs(voxels[:, 2] - height).max() > _FLATNESS:
            tilted += 1
            continue
        placed.append(_Placed(voxels[:, :2], height, contour.kind))
    if skipped:
        doubts.append(
            f"{skipped} of {len(contours)} contours enclose no area (points or open lines)"
        )
    if tilted:
        doubts.append(
            f"{tilted} of {len(contours)} contours are not parallel to the slices and are left out"
        )
    return placed


def _fill_planes(
    placed: Sequence[_Placed], geometry: SeriesGeometry, doubts: list[str]
) -> dict[float, np.ndarray]:
    """Return height -> mask `(Y, X)` of each plane that has contours, in ascending order."""
    num_slices, *shape = geometry.grid.shape
    rows, columns = shape
    planes: dict[float, np.ndarray] = {}
    num_outside, num_overlaps = 0, 0
    for height, members in _by_height(placed):
        if not -1 < height < num_slices:
            num_outside += len(members)
            continue
        polygons = [fill_polygon(member.corners, (rows, columns)) for member in members]
        outlines = [p for p, m in zip(polygons, members, strict=True) if m.kind == CLOSED]
        combined, has_overlap = _combine(outlines, (rows, columns))
        for polygon, member in zip(polygons, members, strict=True):
            if member.kind == CLOSED_XOR:
                combined ^= polygon.inside
        for polygon, member in zip(polygons, members, strict=True):
            if member.kind == CLOSED_XOR:
                combined |= polygon.on_edge
        num_overlaps += has_overlap
        planes[height] = combined
    if num_outside:
        doubts.append(f"{num_outside} contours lie outside the slices of the series")
    if num_overlaps:
        doubts.append(f"on {num_overlaps} planes contours overlap in part; they are united")
    return planes


def _by_height(placed: Sequence[_Placed]) -> list[tuple[float, list[_Placed]]]:
    """Return the contours of each plane, without copies of one."""
    groups: list[list[_Placed]] = []
    for entry in sorted(placed, key=lambda entry: entry.height):
        if not groups or entry.height - groups[-1][-1].height > _ONE_PLANE:
            groups.append([])
        if not any(_are_copies(entry, other) for other in groups[-1]):
            groups[-1].append(entry)
    return [(_mean_height(group), group) for group in groups]


def _mean_height(group: Sequence[_Placed]) -> float:
    return float(np.mean([entry.height for entry in group]))


def _are_copies(one: _Placed, other: _Placed) -> bool:
    if one.corners.shape != other.corners.shape or one.kind != other.kind:
        return False
    return np.allclose(one.corners, other.corners, rtol=0, atol=1e-3)


def _combine(polygons: list[FilledPolygon], shape: tuple[int, int]) -> tuple[np.ndarray, bool]:
    """Combine closed contours of one plane; say whether any overlap in part."""
    combined = np.zeros(shape, bool)
    has_overlap = False
    for polygon in sorted(polygons, key=lambda polygon: -int(polygon.closed.sum())):
        count = int(polygon.inside.sum())
        share = int((polygon.inside & combined).sum()) / count if count else 0.0
        if share >= _IS_HOLE:
            combined &= ~polygon.inside
            continue
        has_overlap |= share > _IS_NEIGHBOUR
        combined |= polygon.closed
    return combined, has_overlap


def _fill_slices(planes: dict[float, np.ndarray], mask: np.ndarray, doubts: list[str]) -> None:
    """Take each slice's mask from the plane that lies on it, or interpolate between two planes."""
    heights = np.array(list(planes))
    usual = float(np.median(np.diff(heights))) if len(heights) > 1 else 0.0
    filled, interpolated, empty = set(), 0, 0
    for number in range(len(mask)):
        nearest = heights[np.abs(heights - number).argmin()]
        if abs(nearest - number) <= _ON_SLICE:
            mask[number] = planes[nearest]
            filled.add(nearest)
            continue
        below, above = heights[heights < number], heights[heights > number]
        if not len(below) or not len(above):
            continue
        gap = above[0] - below[-1]
        is_usual = gap <= _WIDEST_GAP * usual and (len(heights) >= _FEWEST_PLANES or gap < 2)
        if not is_usual:
            empty += 1
            continue
        position = (number - below[-1]) / gap
        mask[number] = _between(planes[below[-1]], planes[above[0]], position)
        interpolated += 1
    _fill_ends(planes, mask, filled)
    if interpolated:
        doubts.append(
            f"{interpolated} slices have no contour and are interpolated between their neighbours"
        )
    if empty:
        doubts.append(f"{empty} slices between contours have none and stay empty")


def _fill_ends(planes: dict[float, np.ndarray], mask: np.ndarray, filled: set[float]) -> None:
    """Take the first and the last plane for the slice nearest to it, if it lies beyond them."""
    heights = list(planes)
    for height, is_beyond in ((heights[0], np.less), (heights[-1], np.greater)):
        number = int(np.ceil(height - 0.5))
        if height in filled or not 0 <= number < len(mask):
            continue
        if is_beyond(number, height) and not mask[number].any():
            mask[number] = planes[height]


def _between(lower: np.ndarray, upper: np.ndarray, position: float) -> np.ndarray:
    """Return the mask `(Y, X)` at a position from 0 (lower) to 1 (upper) between two planes."""
    if not lower.any() or not upper.any():
        return np.zeros_like(lower)
    blended = (1 - position) * _signed_distance(lower) + position * _signed_distance(upper)
    return blended > 0


def _signed_distance(mask: np.ndarray) -> np.ndarray:
    """Return the distance of each pixel from the outline, positive within the mask."""
    if mask.all():
        return np.full(mask.shape, float(max(mask.shape)))
    # The outline runs half a pixel from the centres of the outermost pixels.
    inside = distance_transform_edt(mask)
    outside = distance_transform_edt(~mask)
    return np.where(mask, inside - 0.5, 0.5 - outside)
