"""An image as it is registered: one grey value for each voxel, on a grid that is coarse enough."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import SimpleITK

_SMALLEST_SMOOTHED = 4  # voxels along an axis, which the recursive filter needs
MAX_VOXELS = 100_000  # of the grid: about a second for a registration on one core
MAX_PIXELS = 16_384  # of a 2D image; labels were no better with four times as many
_RANGE = (0.5, 99.5)  # percentiles of the grey values that become 0 and 1


@dataclass(frozen=True)
class Scan:
    """A volume, or a 2D image where it has one slice along Z.

    Positions are in mm, from the centre of its first voxel. Direction and origin do not count:
    volumes are canonical, and where they lie in the scanner says little about what they show.

    Attributes:
        grey: What is registered; its axes are `(x, y, z)`, or `(x, y)`.
        shape: Number of voxels of the volume along `(Z, Y, X)`.
        spacing: Distance of its voxel centres along `(Z, Y, X)` in mm.
    """

    grey: SimpleITK.Image
    shape: tuple[int, int, int]
    spacing: tuple[float, float, float]

    @classmethod
    def of(cls, array: np.ndarray, spacing: tuple[float, float, float]) -> Scan:
        """Prepare a volume for registrations.

        Args:
            array: Intensities `(C, Z, Y, X)` that are alike in all channels, such as 0 to 1; their
                mean is registered.
            spacing: Distance of the voxel centres along `(Z, Y, X)` in mm.

        Returns:
            The scan.
        """
        mean = array.mean(0, dtype=np.float32)
        low, high = np.percentile(mean, _RANGE)
        scaled = np.clip((mean - low) / max(high - low, 1e-6), 0, 1)
        fine = _image(scaled, spacing)
        most = MAX_PIXELS if len(mean) == 1 else MAX_VOXELS
        return cls(_coarsen(fine, most), mean.shape, spacing)

    def image_of(self, labels: np.ndarray) -> SimpleITK.Image:
        """Return a label map of the volume as an image.

        Args:
            labels: Labels `(Z, Y, X)`.
        """
        return _image(labels, self.spacing)

    def empty(self, box: tuple[slice, ...] | None = None) -> SimpleITK.Image:
        """Return an image of zeros on the grid of the volume.

        Args:
            box: The part of the volume along `(Z, Y, X)`; None for all of it.
        """
        import SimpleITK

        box = box or tuple(slice(0, length) for length in self.shape)
        axes = slice(None, 0 if self.is_flat else None, -1)  # (x, y, z), or (x, y)
        size = [part.stop - part.start for part in box][axes]
        start = [part.start * spacing for part, spacing in zip(box, self.spacing, strict=True)]
        image = SimpleITK.Image(size, SimpleITK.sitkUInt8)
        image.SetSpacing([float(distance) for distance in list(self.spacing)[axes]])
        image.SetOrigin([float(position) for position in start[axes]])
        return image

    @property
    def is_flat(self) -> bool:
        """Whether it is a 2D image."""
        return self.shape[0] == 1

    def box_around(self, places: np.ndarray) -> tuple[slice, ...]:
        """Return the part of the volume that holds voxels of what is registered.

        Args:
            places: Indices `(number, axis)` of voxels of `grey`, axes as `(Z, Y, X)` or `(Y, X)`.

        Returns:
            The part along `(Z, Y, X)`, with a voxel of `grey` more on each side.
        """
        dimension = self.grey.GetDimension()
        spacing = np.array(self.grey.GetSpacing())[::-1]
        origin = np.array(self.grey.GetOrigin())[::-1]
        fine = np.array(self.spacing[-dimension:])
        low = np.floor((origin + (places.min(0) - 1) * spacing) / fine).astype(int)
        high = np.ceil((origin + (places.max(0) + 1) * spacing) / fine).astype(int) + 1
        box = [
            slice(max(0, start), min(length, stop))
            for start, stop, length in zip(
                low.tolist(), high.tolist(), self.shape[-dimension:], strict=True
            )
        ]
        return (*([slice(0, 1)] if self.is_flat else []), *box)


def _image(array: np.ndarray, spacing: tuple[float, float, float]) -> SimpleITK.Image:
    import SimpleITK

    is_flat = len(array) == 1
    image = SimpleITK.GetImageFromArray(np.ascontiguousarray(array[0] if is_flat else array))
    distances = [float(distance) for distance in reversed(spacing)]
    image.SetSpacing(distances[:2] if is_flat else distances)
    return image


def _coarsen(image: SimpleITK.Image, most: int) -> SimpleITK.Image:
    """Return an image with about `most` voxels at most, as long along each axis where it can be."""
    import SimpleITK

    sizes, spacing = np.array(image.GetSize()), np.array(image.GetSpacing())
    extent = sizes * spacing
    edge = spacing.min()
    while np.prod(np.maximum(1, extent / np.maximum(edge, spacing))) > most:
        edge *= 1.05
    coarse = np.maximum(edge, spacing)
    if np.all(coarse == spacing):
        return image
    for axis, (distance, new) in enumerate(zip(spacing, coarse, strict=True)):
        if new > distance and sizes[axis] >= _SMALLEST_SMOOTHED:
            image = SimpleITK.RecursiveGaussian(image, float(new / 2), False, 0, axis)
    counts = np.maximum(1, np.round(extent / coarse)).astype(int)
    first = (extent / counts - spacing) / 2  # the grids end together
    return SimpleITK.Resample(
        image,
        counts.tolist(),
        SimpleITK.Transform(image.GetDimension(), SimpleITK.sitkIdentity),
        SimpleITK.sitkLinear,
        first.tolist(),
        (extent / counts).tolist(),
    )
