"""How one scan lies in another: affinely, then elastically.

The affine transform maximises Mattes' mutual information. The elastic one follows the demons
(Thirion, Med Image Anal 2(3), 1998) with symmetric forces (Wang et al., Phys Med Biol 50(12),
2005), as SimpleITK implements both. One thread each: the result is the same on every run.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from types import EllipsisType
from typing import TYPE_CHECKING

import numpy as np

from samnet.registration.scan import Scan

if TYPE_CHECKING:
    import SimpleITK

_FEWEST_VOXELS = 4  # along an axis, on a coarse level
_BINS = 32  # of the histogram of the mutual information
_AFFINE_STEPS = 100  # on each level
_SHRINK = (4, 2, 1)  # levels of the affine registration, with what each is smoothed by in voxels
_SMOOTH = (2, 1, 0)
_FIRST_STEP, _LAST_STEP, _RELAXATION = 0.5, 0.01, 0.6  # in voxels of the fixed scan
# Shrink factor and steps of each level. A coarse level first gained 1.7 points of Dice in the same
# time; less smoothing follows small structures more closely (docs/measurements.md).
_ELASTIC_LEVELS = ((2, 100), (1, 60))
_ELASTIC_SMOOTHING = 0.8  # standard deviation in voxels of the level
_MARGIN = 3  # voxels around structures that are compared with them
_HISTOGRAM_LEVELS, _HISTOGRAM_POINTS = 64, 7  # for bringing the intensities of one to the other


class NotAligned(Exception):
    """Two scans that could not be registered; the message says why."""


@dataclass(frozen=True)
class Alignment:
    """How a scan lies in another one.

    Attributes:
        fixed: The scan whose grid is kept.
        moving: The scan that is brought to it.
        transform: From positions in the fixed scan to those in the moving one, in mm.
        similarity: Correlation of both after the affine registration, -1 to 1.
    """

    fixed: Scan
    moving: Scan
    transform: SimpleITK.Transform
    similarity: float

    def warp(self, labels: np.ndarray) -> np.ndarray:
        """Bring a label map of the moving scan to the fixed one.

        Args:
            labels: Labels `(Z, Y, X)` of the moving scan.

        Returns:
            Labels `(Z, Y, X)` of the fixed scan.
        """
        import SimpleITK

        warped = np.zeros(self.fixed.shape, labels.dtype)
        box = self._box_of(labels)
        if box is not None:
            part = SimpleITK.Resample(
                self.moving.image_of(labels),
                self.fixed.empty(box),
                self.transform,
                SimpleITK.sitkLabelGaussian,
            )
            found = SimpleITK.GetArrayFromImage(part)
            warped[box] = found.reshape(warped[box].shape)
        return warped

    def _box_of(self, labels: np.ndarray) -> tuple[slice, ...] | None:
        """Return the part of the fixed scan that holds all structures; None where it has none.

        The labels of a volume of a hundred million voxels take a minute to resample, and structures
        take up little of it.
        """
        import SimpleITK
        from scipy import ndimage

        grid = self.fixed.grey
        (found,) = ndimage.find_objects((labels > 0).astype(np.uint8)) or (None,)
        if found is None:
            return None
        # A voxel of the grid further on each side, so that small structures are not stepped over.
        edge = max(grid.GetSpacing())
        margin = [math.ceil(edge / spacing) + 1 for spacing in self.moving.spacing]
        near = tuple(
            slice(max(0, part.start - more), part.stop + more)
            for part, more in zip(found, margin, strict=True)
        )
        mask = np.zeros(labels.shape, np.uint8)
        mask[near] = 1
        reached = SimpleITK.Resample(
            self.moving.image_of(mask), grid, self.transform, SimpleITK.sitkNearestNeighbor
        )
        place = np.argwhere(SimpleITK.GetArrayViewFromImage(reached))
        return self.fixed.box_around(place) if len(place) else None

    def similarity_near(self, labels: np.ndarray) -> float:
        """Return how alike both scans are near structures.

        Labels were measured to be the better, the more alike scans are there; what lies further
        away says little of them (docs/measurements.md).

        Args:
            labels: Labels `(Z, Y, X)` of the moving scan.

        Returns:
            Correlation of the intensities within three voxels of the structures, -1 to 1; that of
            the whole scans where there is no structure.
        """
        import SimpleITK

        grid = self.fixed.grey
        brought = SimpleITK.Resample(self.moving.grey, grid, self.transform, SimpleITK.sitkLinear)
        structures = SimpleITK.Resample(
            self.moving.image_of((labels > 0).astype(np.uint8)),
            grid,
            self.transform,
            SimpleITK.sitkNearestNeighbor,
        )
        near = SimpleITK.BinaryDilate(structures, [_MARGIN] * grid.GetDimension())
        region = SimpleITK.GetArrayFromImage(near) > 0
        return _correlation(grid, brought, region if region.any() else ...)


def align_affinely(fixed: Scan, moving: Scan) -> Alignment:
    """Register two scans affinely, beginning with their centres on each other.

    Args:
        fixed: The scan whose grid is kept.
        moving: The scan that is brought to it.

    Returns:
        How the moving scan lies in the fixed one.

    Raises:
        NotAligned: They have nothing in common, or are empty.
    """
    import SimpleITK

    dimension = fixed.grey.GetDimension()
    if dimension != moving.grey.GetDimension():
        raise NotAligned("one is a 2D image and the other a volume")
    method = SimpleITK.ImageRegistrationMethod()
    method.SetNumberOfThreads(1)
    method.SetMetricAsMattesMutualInformation(_BINS)
    method.SetMetricSamplingStrategy(method.NONE)
    method.SetInterpolator(SimpleITK.sitkLinear)
    voxel = min(fixed.grey.GetSpacing())
    method.SetOptimizerAsRegularStepGradientDescent(
        _FIRST_STEP * voxel, _LAST_STEP * voxel, _AFFINE_STEPS, _RELAXATION
    )
    method.SetOptimizerScalesFromPhysicalShift()
    shrink, smooth = _levels(fixed.grey, moving.grey)
    method.SetShrinkFactorsPerLevel(shrink)
    method.SetSmoothingSigmasPerLevel(smooth)
    method.SmoothingSigmasAreSpecifiedInPhysicalUnitsOff()
    first = SimpleITK.CenteredTransformInitializer(
        fixed.grey,
        moving.grey,
        SimpleITK.AffineTransform(dimension),
        SimpleITK.CenteredTransformInitializerFilter.GEOMETRY,
    )
    method.SetInitialTransform(first, False)
    try:
        transform = method.Execute(fixed.grey, moving.grey)
    except RuntimeError as error:
        raise NotAligned(str(error).strip().splitlines()[-1]) from error
    resampled = SimpleITK.Resample(moving.grey, fixed.grey, transform, SimpleITK.sitkLinear)
    return Alignment(fixed, moving, transform, _correlation(fixed.grey, resampled))


def align_elastically(affine: Alignment) -> Alignment:
    """Refine an affine alignment.

    Args:
        affine: What `align_affinely` has found.

    Returns:
        How the moving scan lies in the fixed one, with the same similarity.

    Raises:
        NotAligned: The registration failed.
    """
    import SimpleITK

    fixed, moving = affine.fixed.grey, affine.moving.grey
    try:
        resampled = SimpleITK.Resample(moving, fixed, affine.transform, SimpleITK.sitkLinear)
        alike = SimpleITK.HistogramMatching(resampled, fixed, _HISTOGRAM_LEVELS, _HISTOGRAM_POINTS)
        field = _displacements(fixed, alike)
    except RuntimeError as error:
        raise NotAligned(str(error).strip().splitlines()[-1]) from error
    both = SimpleITK.CompositeTransform(fixed.GetDimension())
    both.AddTransform(affine.transform)
    both.AddTransform(SimpleITK.DisplacementFieldTransform(field))  # the last is applied first
    return Alignment(affine.fixed, affine.moving, both, affine.similarity)


def _displacements(fixed: SimpleITK.Image, moving: SimpleITK.Image) -> SimpleITK.Image:
    """Return the displacement in mm of each voxel, found on a coarse grid first."""
    import SimpleITK

    found = None
    for factor, steps in _ELASTIC_LEVELS:
        if factor > 1 and min(fixed.GetSize()) < _FEWEST_VOXELS * factor:
            continue
        images = [_shrink(image, factor) for image in (fixed, moving)]
        demons = SimpleITK.FastSymmetricForcesDemonsRegistrationFilter()
        demons.SetNumberOfThreads(1)
        demons.SetNumberOfIterations(steps)
        demons.SmoothDisplacementFieldOn()
        demons.SetStandardDeviations(_ELASTIC_SMOOTHING)
        if found is None:
            found = demons.Execute(*images)
        else:
            found = demons.Execute(*images, SimpleITK.Resample(found, images[0]))
    return SimpleITK.Cast(found, SimpleITK.sitkVectorFloat64)


def _shrink(image: SimpleITK.Image, factor: int) -> SimpleITK.Image:
    import SimpleITK

    if factor == 1:
        return image
    smooth = SimpleITK.DiscreteGaussian(
        image, [(factor / 2) ** 2] * image.GetDimension(), useImageSpacing=False
    )
    return SimpleITK.Shrink(smooth, [factor] * image.GetDimension())


def _levels(*images: SimpleITK.Image) -> tuple[list[int], list[float]]:
    """Return the levels on which every axis keeps a few voxels: shrink factors and smoothing.

    The finest is left to the elastic registration where there is a coarser one: it takes two thirds
    of the time, and labels were measured to be no better with it (docs/measurements.md).
    """
    shortest = min(min(image.GetSize()) for image in images)
    kept = [
        level
        for level, factor in enumerate(_SHRINK)
        if factor == 1 or shortest >= _FEWEST_VOXELS * factor
    ]
    kept = kept[:-1] or kept
    return [_SHRINK[level] for level in kept], [float(_SMOOTH[level]) for level in kept]


def _correlation(
    one: SimpleITK.Image, other: SimpleITK.Image, region: np.ndarray | EllipsisType = ...
) -> float:
    import SimpleITK

    values = [SimpleITK.GetArrayViewFromImage(image)[region].ravel() for image in (one, other)]
    if min(float(value.std()) for value in values) == 0:
        return -1.0
    # The last digits depend on where in memory the values lie; which cases are chosen must not.
    return round(float(np.corrcoef(values[0], values[1])[0, 1]), 6)
