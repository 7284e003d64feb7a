"""The outlines of a 2D mask as polygons, from which the same pixels follow."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import find_objects, label
from scipy.spatial import cKDTree

_FEWEST_CORNERS = 3


def find_outlines(mask: np.ndarray) -> list[np.ndarray]:
    """Find one polygon for each connected part of a mask.

    An outline runs half-way between the centres of neighbouring pixels, so those within it are the
    pixels of the mask. A hole is joined to the outer outline by a channel without width (the
    keyhole technique).

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
        # Those that are far from the outer outline are joined to holes that are joined already.
        for hole in sorted(holes, key=_area, reverse=True):
            outer = _join(outer, hole)
        outlines.append(outer + np.array([columns.start, rows.start]))
    return outlines


def _loops(part: np.ndarray) -> list[np.ndarray]:
    """Return the outer outline of a part and those of its holes, which run the other way round."""
    from skimage.measure import find_contours  # slow to load

    padded = np.pad(part, 1).astype(np.uint8)
    # Pixels that touch at a corner are not connected, as for `label`.
    found = find_contours(padded, 0.5, fully_connected="low")
    return [_without_straight_corners(loop[:-1, ::-1] - 1) for loop in found]


def _without_straight_corners(loop: np.ndarray) -> np.ndarray:
    before, after = loop - np.roll(loop, 1, axis=0), np.roll(loop, -1, axis=0) - loop
    turns = before[:, 0] * after[:, 1] - before[:, 1] * after[:, 0]
    kept = loop[np.abs(turns) > 1e-9]
    return kept if len(kept) >= _FEWEST_CORNERS else loop


def _area(loop: np.ndarray) -> float:
    x, y = loop.T
    return abs(float(x @ np.roll(y, -1) - y @ np.roll(x, -1))) / 2


def _join(outer: np.ndarray, hole: np.ndarray) -> np.ndarray:
    """Insert a hole where it is nearest to the outer outline; the channel is passed twice."""
    distances, nearest = cKDTree(hole).query(outer)
    corner = int(distances.argmin())
    first = int(nearest[corner])
    turned = np.roll(hole, -first, axis=0)
    return np.concatenate([outer[: corner + 1], turned, turned[:1], outer[corner:]])
