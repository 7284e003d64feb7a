"""The slice of a volume that a figure shows, its orientation on the screen and its grey levels."""

from __future__ import annotations

import numpy as np

from samnet.core.geometry import Grid, Reorientation

ANISOTROPIC = 1.5
_MOST_PIXELS = 1024


class SliceView:
    """The slice of a volume with most foreground, turned for the reader.

    Attributes:
        foreground: Booleans `(Z, Y, X)` on the native grid.
        aspect: Height of a pixel of the slice, divided by its width.
    """

    def __init__(
        self, grid: Grid, label_map: np.ndarray, *, is_2d: bool, highest_label: int
    ) -> None:
        """Choose the slice.

        It lies across the axis of a 2D image, or across the coarsest axis of an anisotropic volume,
        or is axial.

        Args:
            grid: The native grid of the volume.
            label_map: Whole numbers `(Z, Y, X)` on this grid.
            is_2d: Whether the volume is a 2D image, which is shown as its file stores it.
            highest_label: Labels above this one, such as the ignore label, are no foreground.
        """
        self.foreground = (label_map > 0) & (label_map <= highest_label)
        self._reorientation = Reorientation(grid)
        self._is_2d = is_2d
        canonical = self._reorientation.canonical_grid
        self._axis = _slicing_axis(canonical)
        in_plane = tuple(axis for axis in range(3) if axis != self._axis)
        counts = self._reorientation.to_canonical(self.foreground).sum(axis=in_plane)
        self._index = int(counts.argmax()) if counts.any() else len(counts) // 2
        # Rounded up: no more than `_MOST_PIXELS` remain along either axis.
        self._steps = tuple(-(-canonical.shape[axis] // _MOST_PIXELS) for axis in in_plane)
        height, width = (
            canonical.spacing[axis] * step for axis, step in zip(in_plane, self._steps, strict=True)
        )
        self.aspect = height / width

    def cut(self, volume: np.ndarray) -> np.ndarray:
        """Return the slice of a volume.

        Args:
            volume: Values `(Z, Y, X)` on the native grid.

        Returns:
            Values `(rows, columns)`. Of a slice with more pixels than a screen shows, some rows and
            columns are left out.
        """
        plane = self._reorientation.to_canonical(volume).take(self._index, axis=self._axis)
        plane = plane[:: self._steps[0], :: self._steps[1]]
        # Canonical axes run to the patient's right, front and head. On a screen, these are shown on
        # the left and at the top.
        return plane if self._is_2d else plane[::-1, ::-1]


def _slicing_axis(grid: Grid) -> int:
    if 1 in grid.shape:
        return grid.shape.index(1)
    spacing = np.array(grid.spacing)
    is_anisotropic = spacing.max() / spacing.min() > ANISOTROPIC
    return int(spacing.argmax()) if is_anisotropic else 0


def intensity_window(channel: np.ndarray, foreground: np.ndarray) -> tuple[float, float]:
    """Choose the range of intensities to show.

    It is the range of the foreground, with a margin of the same width on either side, within the
    range of the whole image. In the range of the whole image alone, the air around a CT would leave
    only a few grey levels to all organs.

    Args:
        channel: Intensities `(Z, Y, X)`.
        foreground: Booleans of the same shape.

    Returns:
        The intensities that are shown black and white.
    """
    lowest, highest = np.nanpercentile(channel, (0.5, 99.5))
    if foreground.any():
        inner, outer = np.nanpercentile(channel[foreground], (1, 99))
        margin = outer - inner
        if margin > 0:
            lowest, highest = max(lowest, inner - margin), min(highest, outer + margin)
    return float(lowest), float(highest)


def scale_intensities(image: np.ndarray, window: tuple[float, float] | None) -> np.ndarray:
    """Scale intensities to 0 to 1.

    Args:
        image: Intensities `(rows, columns, channels)`.
        window: The intensities that become 0 and 1; None for the range of 8-bit numbers, or for
            that of the image where it has other numbers.

    Returns:
        Numbers from 0 to 1, `(rows, columns, channels)`; `(rows, columns)` for a single channel.
    """
    lowest, highest = _full_range(image) if window is None else window
    scaled = np.clip((image.astype(np.float32) - lowest) / max(highest - lowest, 1e-6), 0, 1)
    return scaled[..., 0] if scaled.shape[-1] == 1 else scaled


def _full_range(image: np.ndarray) -> tuple[float, float]:
    if image.dtype == np.uint8:
        return 0.0, 255.0
    return float(image.min()), float(image.max())
