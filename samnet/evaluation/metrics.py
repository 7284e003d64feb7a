"""Scores of one label map against another."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import numpy as np

from samnet.dataset.label_scheme import Label, LabelScheme
from samnet.evaluation.centrelines import CLDICE, centreline_dice
from samnet.evaluation.empty_slices import CaseSlices
from samnet.evaluation.lesions import count_lesions
from samnet.evaluation.overlaps import Overlaps
from samnet.evaluation.policies import (
    DEFAULT_NSD_TOLERANCE_MM,
    EMPTY_SLICES,
    STANDARD,
    SYNAPSE_LEGACY,
    find_policy,
)
from samnet.evaluation.structures import Structure, find_structures
from samnet.evaluation.surface import hausdorff_95_in_voxels, surface_scores
from samnet.evaluation.volumes import volume_scores


def dice_per_class(
    prediction: np.ndarray, reference: np.ndarray, label_scheme: LabelScheme
) -> np.ndarray:
    """Compute the Dice of every class or region.

    Args:
        prediction: Whole numbers of any shape.
        reference: Whole numbers of the same shape. Its voxels of the ignore label do not count.
        label_scheme: The classes or regions.

    Returns:
        Dice `(K,)` of the K foreground classes or regions; NaN for one that is in neither label
        map.

    Raises:
        ValueError: The shapes differ, or values are not whole numbers.
    """
    label_sets = label_scheme.label_sets
    overlaps = Overlaps.count(prediction, reference, label_sets, label_scheme.ignore_label)
    sizes = overlaps.n_pred + overlaps.n_ref
    undefined = np.full(len(label_sets), np.nan)
    return np.divide(2.0 * overlaps.true_positives, sizes, out=undefined, where=sizes > 0)


def case_metrics(
    prediction: np.ndarray,
    reference: np.ndarray,
    label_scheme: LabelScheme,
    spacing: Sequence[float],
    policy: str = STANDARD,
    nsd_tolerance_mm: float = DEFAULT_NSD_TOLERANCE_MM,
    *,
    volume_of_voxel: float = 1.0,
    tubes: Collection[Label] = (),
) -> dict[Label, dict[str, float]]:
    """Score every foreground class or region of a case.

    The names of the scores are nnU-Net's: Dice, IoU, and TP, FP, FN, TN, n_pred and n_ref in
    voxels. In addition there are HD95 and ASSD in units of the spacing, NSD (normalised surface
    Dice), precision and recall of the voxels, volumes (`samnet.evaluation.volumes`), that on slices
    without the structure (`samnet.evaluation.empty_slices`), lesion-wise scores
    (`samnet.evaluation.lesions`), and for tubes clDice (`samnet.evaluation.centrelines`).
    Voxels that the reference ignores count in none of them: for surfaces, lesions and centrelines,
    they are set to background in both label maps. In a volume of one slice, contours in its plane
    are compared, except by `synapse_legacy`.

    The policy decides about a structure that a label map lacks:

    - `standard`: In neither label map, all scores are NaN, which means that means leave it out. In
      only one of them, Dice, IoU, precision, NSD, F1 of lesions and clDice are 0, and HD95 and ASSD
      the diagonal of the image. So missing a structure, or inventing one, never improves a mean.
      Recall and the sensitivity for lesions are 0 for a structure that is missed, and NaN where
      the reference lacks it, since there is nothing to be found. Volumes and numbers of lesions are
      counts: they are 0 where there is nothing.
    - `synapse_legacy`, for comparison with published numbers only: Dice and HD95 alone, HD95 in
      voxels. A structure that is predicted but not in the reference has Dice 1 and HD95 0. One that
      is missed, or in neither label map, has Dice 0 and HD95 0. In a volume of one slice all voxels
      of a structure belong to its surface, as there is nothing above and below it.

    Args:
        prediction: Whole numbers `(Z, Y, X)`.
        reference: Whole numbers of the same shape, on the same grid.
        label_scheme: The classes or regions. The background is not scored.
        spacing: Distance of neighbouring voxel centres along `(Z, Y, X)` in mm.
        policy: Name of the rule by which scores are defined.
        nsd_tolerance_mm: Distance up to which surfaces count as equal for the NSD, in mm.
        volume_of_voxel: Volume of a voxel, in the unit of the volumes; 1 to count voxels.
        tubes: The classes or regions with a clDice. If there are any, it is NaN for the others.

    Returns:
        Value of a class, or values of a region -> name of the score -> its value.

    Raises:
        ValueError: The shapes differ, or are not 3D.
        UserError: There is no such policy.
    """
    if prediction.ndim != 3 or len(spacing) != 3:
        raise ValueError(
            f"expected (Z, Y, X), got shape {prediction.shape} and spacing {tuple(spacing)}"
        )
    find_policy(policy)
    score = _SCORES[policy]
    label_sets, ignore_label = label_scheme.label_sets, label_scheme.ignore_label
    overlaps = Overlaps.count(prediction, reference, label_sets, ignore_label)
    slices = CaseSlices.of(reference, spacing, ignore_label)
    prediction, reference = _without_ignored(prediction, reference, ignore_label)
    if policy != SYNAPSE_LEGACY:  # MedPy takes every voxel of a single slice for a border
        prediction, reference, spacing = _drop_flat_axis(prediction, reference, spacing)
    scale = _Scale(
        spacing=tuple(spacing),
        diagonal=float(np.linalg.norm(np.multiply(reference.shape, spacing))),
        tolerance=nsd_tolerance_mm,
        volume_of_voxel=volume_of_voxel,
        slices=slices,
    )
    structures = find_structures(prediction, reference, label_sets, overlaps)
    metrics: dict[Label, dict[str, float]] = {}
    for label, structure in zip(label_scheme.foreground.values(), structures, strict=True):
        scores = score(structure, scale)
        if tubes:
            is_tube = label in tubes
            scores[CLDICE] = _centreline_dice(structure) if is_tube else float("nan")
        metrics[label] = scores | _counts(structure, overlaps.num_voxels)
    return metrics


@dataclass(frozen=True)
class _Scale:
    """The lengths, the volume and the slices of a case that scores depend on.

    Attributes:
        spacing: Distance of neighbouring voxel centres in the order of the axes.
        diagonal: The diagonal of the whole image, in units of the spacing.
        tolerance: Distance up to which surfaces count as equal for the NSD, in these units.
        volume_of_voxel: Volume of a voxel, in the unit of the volumes.
        slices: The slices.
    """

    spacing: tuple[float, ...]
    diagonal: float
    tolerance: float
    volume_of_voxel: float
    slices: CaseSlices


def _without_ignored(
    prediction: np.ndarray, reference: np.ndarray, ignore_label: int | None
) -> tuple[np.ndarray, np.ndarray]:
    if ignore_label is None:
        return prediction, reference
    ignored = reference == ignore_label
    return np.where(ignored, 0, prediction), np.where(ignored, 0, reference)


def _drop_flat_axis(
    prediction: np.ndarray, reference: np.ndarray, spacing: Sequence[float]
) -> tuple[np.ndarray, np.ndarray, tuple[float, ...]]:
    """Drop the first axis of one voxel. What remains is a 2D image, whose surfaces are contours."""
    if 1 not in reference.shape:
        return prediction, reference, tuple(spacing)
    flat = reference.shape.index(1)
    kept = tuple(length for axis, length in enumerate(spacing) if axis != flat)
    return np.squeeze(prediction, flat), np.squeeze(reference, flat), kept


def _counts(structure: Structure, num_voxels: int) -> dict[str, float]:
    true_positives, n_pred, n_ref = structure.true_positives, structure.n_pred, structure.n_ref
    return {
        "TP": true_positives,
        "FP": n_pred - true_positives,
        "FN": n_ref - true_positives,
        "TN": num_voxels - n_pred - n_ref + true_positives,
        "n_pred": n_pred,
        "n_ref": n_ref,
    }


def _standard(structure: Structure, scale: _Scale) -> dict[str, float]:
    lesions = count_lesions(structure.prediction, structure.reference)
    return {
        **_overlap_scores(structure),
        **_surface_scores(structure, scale),
        **volume_scores(structure.n_pred, structure.n_ref, scale.volume_of_voxel),
        EMPTY_SLICES: scale.slices.false_voxels(structure) * scale.volume_of_voxel,
        **lesions.scores(),
    }


def _overlap_scores(structure: Structure) -> dict[str, float]:
    if structure.is_absent:
        return dict.fromkeys(("Dice", "IoU", "precision", "recall"), float("nan"))
    n_pred, n_ref = structure.n_pred, structure.n_ref
    return {
        "Dice": structure.dice,
        "IoU": structure.iou,
        # 0 for a missed structure: a model that marks little must not be more precise for it.
        "precision": structure.true_positives / n_pred if n_pred else 0.0,
        "recall": structure.true_positives / n_ref if n_ref else float("nan"),
    }


def _surface_scores(structure: Structure, scale: _Scale) -> dict[str, float]:
    if structure.is_absent:
        return dict.fromkeys(("HD95", "ASSD", "NSD"), float("nan"))
    if not structure.is_in_both:
        return {"HD95": scale.diagonal, "ASSD": scale.diagonal, "NSD": 0.0}
    surfaces = surface_scores(
        structure.prediction, structure.reference, scale.spacing, scale.tolerance
    )
    return {"HD95": surfaces.hd95, "ASSD": surfaces.assd, "NSD": surfaces.nsd}


def _centreline_dice(structure: Structure) -> float:
    return centreline_dice(structure.prediction, structure.reference)


def _synapse_legacy(structure: Structure, scale: _Scale) -> dict[str, float]:
    if structure.is_in_both:
        return {
            "Dice": structure.dice,
            "HD95": hausdorff_95_in_voxels(structure.prediction, structure.reference),
        }
    return {"Dice": 1.0 if structure.n_pred else 0.0, "HD95": 0.0}


_SCORES: dict[str, Callable[[Structure, _Scale], dict[str, float]]] = {
    STANDARD: _standard,
    SYNAPSE_LEGACY: _synapse_legacy,
}
