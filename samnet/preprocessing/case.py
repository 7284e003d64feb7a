"""One prepared case: canonical axes, cropped, with what brings a result back to the native grid."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from samnet.core.field_of_view import blank_limits, find_outside
from samnet.core.geometry import PATIENT, Box, Grid, Margins, Reorientation, nonzero_box
from samnet.preprocessing.intensity import QUANTILE_POINTS, channel_quantiles, without_nan

_HIGH = int(np.flatnonzero(QUANTILE_POINTS == 99.5)[0])  # as the fingerprint takes it


@dataclass(frozen=True)
class PreparedVolume:
    """A case in the form from which the network's slices are cut.

    Attributes:
        array: Raw intensities `(C, Z, Y, X)`, canonical and cropped.
        spacing: Distance of voxel centres along the canonical `(Z, Y, X)` in mm; in pixels for 2D
            images.
        quantiles: `channel_quantiles` of each channel, `(C, 201)`.
        native: The grid of the file.
        box: The crop on the canonical grid.
        orientation: What the axes are instead of canonical, see `Reorientation`.
    """

    array: np.ndarray
    spacing: tuple[float, float, float]
    quantiles: np.ndarray
    native: Grid
    box: Box
    orientation: str = PATIENT

    @property
    def reorientation(self) -> Reorientation:
        """The way from the grid of the file to the axes of the array, and back."""
        return Reorientation(self.native, self.orientation)

    def margins(self, axis: int) -> Margins:
        """Return what was cropped of slices.

        Args:
            axis: The axis across which they lie.

        Returns:
            Pixels before and behind, of rows and of columns.
        """
        return self.box.margins(self.reorientation.canonical_grid.shape, axis)

    def outside(self, axis: int) -> np.ndarray:
        """Find the voxels outside the field of view, see `samnet.core.field_of_view`.

        Args:
            axis: The axis across which the slices lie.

        Returns:
            Booleans `(Z, Y, X)`.
        """
        lowest = self.array.min(axis=(1, 2, 3)).astype(np.float64)
        if self.box.shape != self.reorientation.canonical_grid.shape:
            lowest = np.minimum(lowest, 0.0)  # of what was cropped
        limits = blank_limits(lowest.tolist(), self.quantiles[:, _HIGH].tolist())
        return find_outside(self.array, limits, axis)

    def restore(self, labels: np.ndarray) -> np.ndarray:
        """Bring a label map of this volume to the native grid.

        Args:
            labels: Label map `(Z, Y, X)`, canonical and cropped.

        Returns:
            The label map `(Z, Y, X)` on the native grid; background outside the crop.
        """
        reorientation = self.reorientation
        whole = np.zeros(reorientation.canonical_grid.shape, labels.dtype)
        whole[self.box.slices] = labels
        return np.ascontiguousarray(reorientation.to_native(whole))


def prepare_volume(
    array: np.ndarray,
    native: Grid,
    labels: np.ndarray | None = None,
    orientation: str = PATIENT,
) -> PreparedVolume:
    """Bring an image to canonical form.

    Args:
        array: Intensities `(C, Z, Y, X)` on the native grid.
        native: The grid of the file.
        labels: Label map `(Z, Y, X)` on the native grid, where there is one (training). Nothing
            labelled is cropped away. The labels are not part of the result.
        orientation: What the axes are to be instead of canonical, see `Reorientation`.

    Returns:
        The canonical, cropped image.
    """
    reorientation = Reorientation(native, orientation)
    canonical = reorientation.to_canonical(without_nan(array))
    canonical_labels = None if labels is None else reorientation.to_canonical(labels)
    box = nonzero_box(canonical, canonical_labels)
    z, y, x = box.slices
    cropped = np.ascontiguousarray(canonical[:, z, y, x])
    return PreparedVolume(
        array=cropped,
        spacing=reorientation.canonical_grid.sampling_spacing,
        quantiles=np.stack([channel_quantiles(channel) for channel in cropped]),
        native=native,
        box=box,
        orientation=orientation,
    )


def prepare_labels(labels: np.ndarray, volume: PreparedVolume) -> np.ndarray:
    """Bring a label map to the canonical, cropped form of its image.

    Args:
        labels: Label map `(Z, Y, X)` on the native grid.
        volume: Its image.

    Returns:
        The label map `(Z, Y, X)`, canonical and cropped.
    """
    canonical = volume.reorientation.to_canonical(labels)
    return np.ascontiguousarray(canonical[volume.box.slices])
