"""Distances between the surfaces of two masks, or between their contours where they are 2D.

Neither mask may be empty.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class SurfaceScores:
    """Scores of a pair of surfaces, with every surface element weighted by its area (2D: length).

    Attributes:
        hd95: The larger one of the two directed 95th percentiles of the distance, in units of the
            spacing.
        assd: Mean distance over the elements of both surfaces, in units of the spacing.
        nsd: Share of both surfaces that lies within the tolerance of the other one, 0 to 1.
    """

    hd95: float
    assd: float
    nsd: float


def surface_scores(
    prediction: np.ndarray, reference: np.ndarray, spacing: Sequence[float], tolerance: float
) -> SurfaceScores:
    """Compute the surface scores of a mask.

    Args:
        prediction: Booleans `(Z, Y, X)` or `(Y, X)`.
        reference: Booleans of the same shape.
        spacing: Distance of neighbouring voxel centres, in the order of the axes.
        tolerance: Tolerance of `nsd`, in units of the spacing.

    Returns:
        The scores.

    Raises:
        ValueError: A mask is empty.
    """
    _require_content(prediction, reference)
    with warnings.catch_warnings():
        # surface-distance 0.1 imports scipy.ndimage through deprecated submodules.
        warnings.filterwarnings(
            "ignore", r"Please (import|use) .*scipy\.ndimage", DeprecationWarning
        )
        import surface_distance

        distances = surface_distance.compute_surface_distances(
            reference, prediction, tuple(spacing)
        )
    every_distance = np.concatenate(
        [distances["distances_gt_to_pred"], distances["distances_pred_to_gt"]]
    )
    areas = np.concatenate([distances["surfel_areas_gt"], distances["surfel_areas_pred"]])
    return SurfaceScores(
        hd95=float(surface_distance.compute_robust_hausdorff(distances, 95.0)),
        assd=float(np.average(every_distance, weights=areas)),
        nsd=float(surface_distance.compute_surface_dice_at_tolerance(distances, tolerance)),
    )


def hausdorff_95_in_voxels(prediction: np.ndarray, reference: np.ndarray) -> float:
    """Compute the 95th percentile of the distances between border voxels of both masks.

    This is `hd95` of MedPy, by which the Synapse numbers were published. It differs from
    `SurfaceScores.hd95` by more than the unit: it counts border voxels instead of areas, and takes
    one percentile over both directions instead of one for each.

    Args:
        prediction: Booleans `(Z, Y, X)` or `(Y, X)`.
        reference: Booleans of the same shape.

    Returns:
        The distance in voxels.

    Raises:
        ValueError: A mask is empty.
    """
    from scipy.ndimage import distance_transform_edt

    _require_content(prediction, reference)
    prediction_border = _border_voxels(prediction)
    reference_border = _border_voxels(reference)
    to_prediction = distance_transform_edt(~prediction_border)
    to_reference = distance_transform_edt(~reference_border)
    distances = np.concatenate([to_reference[prediction_border], to_prediction[reference_border]])
    return float(np.percentile(distances, 95))


def _border_voxels(mask: np.ndarray) -> np.ndarray:
    from scipy.ndimage import binary_erosion

    return mask & ~binary_erosion(mask)


def _require_content(prediction: np.ndarray, reference: np.ndarray) -> None:
    # surface-distance would fail: it returns np.Inf, which NumPy 2 does not have.
    if not prediction.any() or not reference.any():
        raise ValueError("an empty mask has no surface; score empty masks separately")
