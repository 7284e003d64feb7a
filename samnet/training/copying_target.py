"""The slice into which a structure is copied: where it could lie, and how bright it would be."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from samnet.training.slice_reader import SliceReader

TISSUE = (0.05, 0.999)  # windowed intensities that are neither air nor beyond the window
TISSUE_SHARE = 0.8  # of the pixels of a structure that have to replace tissue of the right label
MIN_RING_PIXELS = 8  # in which the surroundings of source and target are compared
MAX_SHIFT = 0.2  # of the window, by which intensities are changed
Area = tuple[slice, slice]


class CopyingTarget:
    """A slice into which a structure is copied.

    Attributes:
        spacing: Distance of its rows and of its columns in mm.
        spacing_across: Distance of the slices in mm.
        labels: Its labels `(H, W)`.
        image: Its raw intensities `(C, H, W)`.
    """

    def __init__(
        self,
        reader: SliceReader,
        stack: tuple[int, int],
        index: int,
        shown: Sequence[int],
        forbidden: Sequence[int],
    ) -> None:
        """Read the slice.

        Args:
            reader: The slices.
            stack: Case number and axis of the slice.
            index: The slice.
            shown: All slices into which the structure is copied.
            forbidden: Labels that are not replaced in any of them.
        """
        case_index, axis = stack
        case = reader.cases[case_index]
        self.spacing = case.in_plane_spacing(axis)
        self.spacing_across = case.record.spacing[axis]
        self.labels = reader.labels(case_index, axis, index)
        [raw] = reader.raw_slices(case_index, axis, [index])
        self.image = raw.astype(np.float32)
        self._bounds = _known_bounds(reader.bounds[case_index], self.image)
        self._tissue = self.is_tissue(self.image)
        self._forbidden = np.isin(self.labels, forbidden)
        for other in set(shown) - {index}:
            self._forbidden |= np.isin(reader.labels(case_index, axis, other), forbidden)

    def to_scale_of_target(self, raw: np.ndarray, bounds: np.ndarray) -> np.ndarray:
        """Bring intensities to the scale of this slice, by the windows of both cases.

        Args:
            raw: Raw intensities `(N, C, H, W)` of another case.
            bounds: Its `window_bounds` `(C, 2)`.

        Returns:
            The intensities in float32.
        """
        lower, upper = _limits(_known_bounds(bounds, raw[0]))
        own_lower, own_upper = _limits(self._bounds)
        share = (raw.astype(np.float32) - lower) / (upper - lower)
        return share * (own_upper - own_lower) + own_lower

    def is_tissue(self, image: np.ndarray) -> np.ndarray:
        """Tell where an image is neither dark nor beyond the window.

        Args:
            image: Intensities `(C, h, w)` on the scale of this slice.

        Returns:
            Booleans `(h, w)`, by the mean of the channels.
        """
        lower, upper = _limits(self._bounds)
        shown = ((image - lower) / (upper - lower)).clip(0, 1).mean(axis=0)
        return (shown > TISSUE[0]) & (shown < TISSUE[1])

    def draw_places(self, host: int, numbers: np.ndarray) -> Iterator[tuple[int, int]]:
        """Yield places with tissue of a label.

        Args:
            host: The label.
            numbers: Which of them, each from 0 to 1.

        Yields:
            Row and column of a pixel.
        """
        places = np.flatnonzero(self._fits(host))
        if not len(places):
            return
        for chosen in places[(numbers * len(places)).astype(int)].tolist():
            yield divmod(chosen, self.labels.shape[1])

    def _fits(self, host: int) -> np.ndarray:
        return self._tissue & (self.labels == host)

    def overlap(self, place: tuple[int, int], shape: tuple[int, int]) -> tuple[Area, Area]:
        """Return the part of a grid around a place that lies on the slice.

        Args:
            place: Row and column of the slice in the middle of the grid.
            shape: Rows and columns of the grid, both odd.

        Returns:
            This part on the slice, and on the grid.
        """
        on_slice, on_grid = [], []
        for position, length, size in zip(place, shape, self.labels.shape, strict=True):
            first = position - length // 2
            start, stop = max(0, first), min(size, first + length)
            on_slice.append(slice(start, stop))
            on_grid.append(slice(start - first, stop - first))
        return (on_slice[0], on_slice[1]), (on_grid[0], on_grid[1])

    def is_plausible(
        self, area: Area, structure: np.ndarray, changed: np.ndarray, on_grid: Area, host: int
    ) -> bool:
        """Tell whether a structure could lie in a place.

        Args:
            area: The part of the slice.
            structure: Labels `(h, w)` of the structure on its grid.
            changed: Where on the grid any slice is changed, `(h, w)`.
            on_grid: The part of the grid that lies on the slice.
            host: The label of what lies around the structure where it comes from.

        Returns:
            Whether it lies within the slice, nearly everywhere on tissue of this label, and touches
            nothing that may not be replaced.
        """
        inside = structure[on_grid] != 0
        if np.count_nonzero(inside) < np.count_nonzero(structure):
            return False
        if (self._forbidden[area] & changed[on_grid]).any():
            return False
        return bool(self._fits(host)[area][inside].mean() >= TISSUE_SHARE)

    def shift(
        self, area: Area, image: np.ndarray, around: np.ndarray, on_grid: Area, host: int
    ) -> np.ndarray | None:
        """Return by how much the surroundings of a structure differ here from where it comes from.

        Args:
            area: The part of the slice.
            image: Intensities `(C, h, w)` of the structure with its surroundings.
            around: Which of them are tissue around it, `(h, w)`.
            on_grid: The part of the grid that lies on the slice.
            host: The label of what lies around it.

        Returns:
            Differences `(C, 1, 1)` of the medians; None where too little is around it, or where
            they are so large that it lies in another tissue here.
        """
        both = around[on_grid] & self._fits(host)[area]
        if np.count_nonzero(both) < MIN_RING_PIXELS:
            return None
        here = np.median(self.image[:, area[0], area[1]][:, both], axis=1)
        there = np.median(image[:, on_grid[0], on_grid[1]][:, both], axis=1)
        difference = here - there
        if (np.abs(difference) > MAX_SHIFT * (self._bounds[:, 1] - self._bounds[:, 0])).any():
            return None
        return difference[:, None, None]


def _limits(bounds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the lower and the upper bounds of windows `(C, 2)`, each `(C, 1, 1)`."""
    return bounds[:, 0, None, None], bounds[:, 1, None, None]


def _known_bounds(bounds: np.ndarray, image: np.ndarray) -> np.ndarray:
    """Return windows `(C, 2)`, by the range of an image `(C, H, W)` where they are not known."""
    ranges = np.stack([image.min(axis=(1, 2)), image.max(axis=(1, 2))], axis=1)
    known = np.where(np.isnan(bounds), ranges, bounds).astype(np.float32)
    known[:, 1] = np.where(known[:, 1] > known[:, 0], known[:, 1], known[:, 0] + 1)
    return known
