"""Distances between the surfaces of two masks (the contours, where the masks are 2D). Neither mask may be empty."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class SurfaceScores:
    """What a pair of surfaces comes to. Every surface element counts by its area (length, in 2D).

    hd95: the larger of the two directed 95th percentiles of the distance, in units of the spacing.
    assd: the mean distance over the elements of both surfaces, in units of the spacing.
    nsd: the share of both surfaces that lies within the tolerance of the other one, 0 to 1.
    """

    hd95: float
    assd: float
    nsd: float


def surface_scores(
    prediction: np.ndarray, reference: np.ndarray, spacing: Sequence[float], tolerance: float
) -> SurfaceScores:
    """Compare two masks `(Z, Y, X)` or `(Y, X)`.

    spacing: between voxel centres, in the order of the axes.
    tolerance: of `nsd`, in units of the spacing.

    Raises:
        ValueError: a mask is empty.
    """
    _require_content(prediction, reference)
    with warnings.catch_warnings():
        # surface-distance 0.1 reaches scipy.ndimage through its old sub-modules.
        warnings.filterwarnings(
            "ignore", r"Please (import|use) .*scipy\.ndimage", DeprecationWarning
        )
        import surface_distance

        distances = surface_distance.compute_surface_distances(
            reference, prediction, tuple(spacing)
        )
    lengths = np.concatenate([distances["distances_gt_to_pred"], distances["distances_pred_to_gt"]])
    areas = np.concatenate([distances["surfel_areas_gt"], distances["surfel_areas_pred"]])
    return SurfaceScores(
        hd95=float(surface_distance.compute_robust_hausdorff(distances, 95.0)),
        assd=float(np.average(lengths, weights=areas)),
        nsd=float(surface_distance.compute_surface_dice_at_tolerance(distances, tolerance)),
    )


def hausdorff_95_in_voxels(prediction: np.ndarray, reference: np.ndarray) -> float:
    """The 95th percentile of the distances between border voxels, both directions pooled, in voxels.

    This is what MedPy calls `hd95`, by which the Synapse numbers were published. It differs from
    `SurfaceScores.hd95` by more than the unit: border voxels instead of areas, one percentile instead of two.

    Raises:
        ValueError: a mask is empty.
    """
    from scipy.ndimage import distance_transform_edt

    _require_content(prediction, reference)
    borders = [_border_voxels(mask) for mask in (prediction, reference)]
    to_prediction, to_reference = (distance_transform_edt(~border) for border in borders)
    distances = np.concatenate([to_reference[borders[0]], to_prediction[borders[1]]])
    return float(np.percentile(distances, 95))


def _border_voxels(mask: np.ndarray) -> np.ndarray:
    from scipy.ndimage import binary_erosion

    return mask & ~binary_erosion(mask)


def _require_content(prediction: np.ndarray, reference: np.ndarray) -> None:
    # surface-distance would answer with np.Inf, which NumPy 2 does not have.
    if not prediction.any() or not reference.any():
        raise ValueError("an empty mask has no surface; decide before what it counts")
