"""The outlines of a 2D mask as polygons, from which the same pixels follow."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import find_objects, label
from scipy.spatial import cKDTree

_FEWEST_CORNERS = 3
_JOINED = -1  # stands for a hole that is joined already
_LEVEL = 0.52  # outlines run at 0.48 pixels from the centres of the outermost pixels


def find_outlines(mask: np.ndarray) -> list[np.ndarray]:
    """Find one polygon for each connected part of a mask.

    An outline runs almost half-way between the centres of neighbouring pixels, a little nearer to
    those of the mask. So the pixels whose centres lie within it are those of the mask, and so are
    those within and on an outline whose corners are rounded to pixels, as some programs do. A hole
    is joined to the outer outline by a channel without width (the keyhole technique).

    Args:
        mask: Booleans `(Y, X)`.

    Returns:
        The corners `(N, 2)` of each polygon as x and y in pixels; the centre of the first pixel is
        at (0, 0). The last corner is joined to the first.
    """
    parts, _ = label(mask)  # neighbours along rows and columns
    outlines = []
    for number, (rows, columns) in enumerate(find_objects(parts), 1):
        loops = _loops(parts[rows, columns] == number)
        outer, *holes = sorted(loops, key=_area, reverse=True)
        outer = _with_holes(outer, holes)
        outlines.append(outer + np.array([columns.start, rows.start]))
    return outlines


def _loops(part: np.ndarray) -> list[np.ndarray]:
    """Return the outer outline of a part and those of its holes, which run the other way round."""
    from skimage.measure import find_contours  # slow to load

    padded = np.pad(part, 1).astype(np.uint8)
    # Pixels that touch at a corner are not connected, as for `label`.
    found = find_contours(padded, _LEVEL, fully_connected="low")
    return [_without_straight_corners(loop[:-1, ::-1] - 1) for loop in found]


def _without_straight_corners(loop: np.ndarray) -> np.ndarray:
    before, after = loop - np.roll(loop, 1, axis=0), np.roll(loop, -1, axis=0) - loop
    turns = before[:, 0] * after[:, 1] - before[:, 1] * after[:, 0]
    kept = loop[np.abs(turns) > 1e-9]
    return kept if len(kept) >= _FEWEST_CORNERS else loop


def _area(loop: np.ndarray) -> float:
    x, y = loop.T
    return abs(float(x @ np.roll(y, -1) - y @ np.roll(x, -1))) / 2


def _with_holes(outer: np.ndarray, holes: list[np.ndarray]) -> np.ndarray:
    """Join holes to an outline, the nearest first, so that no channel crosses another hole."""
    if not holes:
        return outer
    corners = np.concatenate(holes)
    hole_of_corner = np.repeat(np.arange(len(holes)), [len(hole) for hole in holes])
    distances, nearest = _distances(corners, outer)
    for _ in holes:
        corner = int(distances.argmin())
        number = hole_of_corner[corner]
        hole = holes[number]
        outer = _join(outer, hole, nearest[corner], corners[corner])
        # The channels to come may begin at this hole.
        own, own_nearest = _distances(corners, hole)
        is_nearer = own < distances
        nearest = np.where(is_nearer[:, None], own_nearest, nearest)
        hole_of_corner = np.where(hole_of_corner == number, _JOINED, hole_of_corner)
        distances = np.where(hole_of_corner == _JOINED, np.inf, np.minimum(distances, own))
    return outer


def _distances(corners: np.ndarray, loop: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the distance of each corner from a loop, and the loop's nearest corner."""
    found, numbers = cKDTree(loop).query(corners)
    return found, loop[numbers]


def _join(outer: np.ndarray, hole: np.ndarray, start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Insert a hole by a channel from a corner of the outline to one of the hole, and back."""
    corner = int((outer == start).all(axis=1).argmax())
    turned = np.roll(hole, -int((hole == end).all(axis=1).argmax()), axis=0)
    return np.concatenate([outer[: corner + 1], turned, turned[:1], outer[corner:]])
