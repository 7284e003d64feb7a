"""One case made ready: canonical axes, cropped, with what is needed to put a result back on the native grid."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from samnet.core.geometry import Box, Grid, Reorientation, nonzero_box
from samnet.preprocessing.intensity import channel_quantiles, without_nan


@dataclass(frozen=True)
class PreparedVolume:
    """A case as the network's slices are cut from it.

    array: `(C, Z, Y, X)`, canonical and cropped, raw intensities. spacing: `(Z, Y, X)` in mm.
    quantiles: `(C, 201)`, see `channel_quantiles`. native: the grid of the file. box: the crop on the canonical grid.
    """

    array: np.ndarray
    spacing: tuple[float, float, float]
    quantiles: np.ndarray
    native: Grid
    box: Box

    def restore(self, labels: np.ndarray) -> np.ndarray:
        """A label map `(Z, Y, X)` of this volume on the native grid; outside the crop it is background."""
        reorientation = Reorientation(self.native)
        whole = np.zeros(reorientation.canonical_grid.shape, labels.dtype)
        whole[self.box.slices] = labels
        return np.ascontiguousarray(reorientation.to_native(whole))


def prepare_volume(
    array: np.ndarray, native: Grid, labels: np.ndarray | None = None
) -> PreparedVolume:
    """Bring an image `(C, Z, Y, X)` on its native grid into canonical form.

    labels: where given (training), nothing labelled is cropped away; they are not part of the result.
    """
    reorientation = Reorientation(native)
    canonical = reorientation.to_canonical(without_nan(array))
    box = nonzero_box(canonical, None if labels is None else reorientation.to_canonical(labels))
    z, y, x = box.slices
    cropped = np.ascontiguousarray(canonical[:, z, y, x])
    return PreparedVolume(
        array=cropped,
        spacing=reorientation.canonical_grid.spacing,
        quantiles=np.stack([channel_quantiles(channel) for channel in cropped]),
        native=native,
        box=box,
    )


def prepare_labels(labels: np.ndarray, volume: PreparedVolume) -> np.ndarray:
    """A label map `(Z, Y, X)` on the native grid, brought to the canonical, cropped form of its image."""
    return np.ascontiguousarray(
        Reorientation(volume.native).to_canonical(labels)[volume.box.slices]
    )
