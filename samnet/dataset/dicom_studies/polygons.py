"""Which pixels lie within a polygon, exactly: by the even-odd rule, at the centres of pixels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# A pixel whose centre is this close to an edge, in pixels, lies on it. Programs write coordinates
# rounded to 0.01 mm, and often let contours run through the centres of the outermost pixels.
_ON_EDGE = 0.01


@dataclass(frozen=True)
class FilledPolygon:
    """The pixels of a polygon.

    Attributes:
        inside: Booleans `(Y, X)`: the pixel's centre lies within the polygon, not on an edge.
        on_edge: Booleans `(Y, X)`: the pixel's centre lies on an edge.
    """

    inside: np.ndarray
    on_edge: np.ndarray

    @property
    def closed(self) -> np.ndarray:
        """Booleans `(Y, X)`: the pixel lies within the polygon or on an edge."""
        return self.inside | self.on_edge


def fill_polygon(points: np.ndarray, shape: tuple[int, int]) -> FilledPolygon:
    """Find the pixels of a polygon.

    An edge that is passed twice, once in each direction, encloses nothing and is no edge: so the
    narrow channel of the keyhole technique, which joins a hole or an island to the outer outline,
    leaves no trace.

    Args:
        points: Corners `(N, 2)` as x and y in pixels; the centre of the first pixel is at (0, 0).
            The last corner is joined to the first.
        shape: Number of rows and columns of the slice; what lies beyond is cut off.

    Returns:
        The pixels.
    """
    inside, on_edge = np.zeros(shape, bool), np.zeros(shape, bool)
    last = np.array(shape[::-1]) - 1
    low = np.floor(points.min(axis=0) - 1).clip(0, last + 1).astype(int)
    high = np.ceil(points.max(axis=0) + 1).clip(-1, last).astype(int)
    if (low > high).any():
        return FilledPolygon(inside, on_edge)
    box = (slice(low[1], high[1] + 1), slice(low[0], high[0] + 1))
    starts = points - low
    ends = np.roll(starts, -1, axis=0)
    kept = ~_passed_twice(starts, ends)
    rows, columns = high[::-1] - low[::-1] + 1
    on_edge[box] = _near_edges(starts[kept], ends[kept], (rows, columns))
    inside[box] = _even_odd(starts, ends, (rows, columns)) & ~on_edge[box]
    return FilledPolygon(inside, on_edge)


def _even_odd(starts: np.ndarray, ends: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Return which pixels have an odd number of edges to their left."""
    num_rows, num_columns = shape
    # An edge crosses the rows from its upper end on, without its lower end.
    low = np.ceil(np.minimum(starts[:, 1], ends[:, 1])).clip(0, num_rows).astype(int)
    high = np.ceil(np.maximum(starts[:, 1], ends[:, 1])).clip(0, num_rows).astype(int)
    edges, rows = _steps(low, high)
    slopes = (ends[edges, 0] - starts[edges, 0]) / (ends[edges, 1] - starts[edges, 1])
    crossings = starts[edges, 0] + (rows - starts[edges, 1]) * slopes
    columns = np.ceil(crossings).clip(0, num_columns).astype(int)
    counts = np.bincount(rows * (num_columns + 1) + columns, minlength=num_rows * (num_columns + 1))
    toggles = counts.reshape(num_rows, num_columns + 1)[:, :num_columns]
    return np.cumsum(toggles, axis=1) % 2 == 1


def _steps(low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return each whole number of each half-open range: the number of the range, and the value."""
    counts = np.maximum(high - low, 0)
    ranges = np.repeat(np.arange(len(low)), counts)
    firsts = np.cumsum(counts) - counts
    return ranges, np.arange(counts.sum()) - firsts[ranges] + low[ranges]


def _passed_twice(starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Return which edges are passed in both directions."""
    one = np.round(starts / _ON_EDGE).astype(np.int64)
    other = np.round(ends / _ON_EDGE).astype(np.int64)
    forward = [(*a, *b) for a, b in zip(one.tolist(), other.tolist(), strict=True)]
    backward = {(c, d, a, b) for a, b, c, d in forward}
    return np.array([edge in backward for edge in forward], bool)


def _near_edges(starts: np.ndarray, ends: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Return the pixels whose centres lie on an edge."""
    marked = np.zeros(shape, bool)
    lengths = np.abs(ends - starts)
    # Rows are stepped through along steep edges, columns along flat ones.
    is_steep = lengths[:, 1] >= lengths[:, 0]
    _mark_along(marked, starts[is_steep][:, ::-1], ends[is_steep][:, ::-1])
    _mark_along(marked.T, starts[~is_steep], ends[~is_steep])
    return marked


def _mark_along(marked: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> None:
    """Mark the pixels on edges: `marked[main, cross]`, with corners as main and cross axis."""
    num_main, num_cross = marked.shape
    low = np.ceil(np.minimum(starts[:, 0], ends[:, 0]) - _ON_EDGE).clip(0, num_main).astype(int)
    high = np.floor(np.maximum(starts[:, 0], ends[:, 0]) + _ON_EDGE).clip(-1, num_main - 1) + 1
    edges, main = _steps(low, high.astype(int))
    lengths = ends[edges, 0] - starts[edges, 0]
    is_point = lengths == 0  # an edge between two equal corners
    slopes = (ends[edges, 1] - starts[edges, 1]) / np.where(is_point, 1, lengths)
    cross = starts[edges, 1] + np.where(is_point, 0, main - starts[edges, 0]) * slopes
    nearest = np.rint(cross).astype(int)
    distances = np.abs(cross - nearest) / np.hypot(1, slopes)
    is_on = (distances <= _ON_EDGE) & (nearest >= 0) & (nearest < num_cross)
    marked[main[is_on], nearest[is_on]] = True
