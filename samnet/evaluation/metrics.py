"""Scores of one label map against another."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from samnet.dataset.label_scheme import Label, LabelScheme, find_boxes, join_boxes, mask_of
from samnet.evaluation.overlaps import Overlaps
from samnet.evaluation.policies import (
    DEFAULT_NSD_TOLERANCE_MM,
    STANDARD,
    SYNAPSE_LEGACY,
    find_policy,
)
from samnet.evaluation.surface import hausdorff_95_in_voxels, surface_scores


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
) -> dict[Label, dict[str, float]]:
    """Score every foreground class or region of a case.

    The names of the scores are nnU-Net's: Dice, IoU, and TP, FP, FN, TN, n_pred and n_ref in
    voxels. In addition there are HD95 and ASSD in units of the spacing, and NSD (normalised surface
    Dice). Voxels that the reference ignores count in none of them: for surfaces, they are set to
    background in both label maps. In a volume of one slice, contours in its plane are compared,
    except by `synapse_legacy`.

    The policy decides about a structure that a label map lacks:

    - `standard`: In neither label map, all scores are NaN, which means that means leave it out. In
      only one of them, Dice, IoU and NSD are 0, and HD95 and ASSD the diagonal of the image. So
      missing a structure, or inventing one, never improves a mean.
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
    prediction, reference = _without_ignored(prediction, reference, ignore_label)
    if policy != SYNAPSE_LEGACY:  # MedPy takes every voxel of a single slice for a border
        prediction, reference, spacing = _drop_flat_axis(prediction, reference, spacing)
    lengths = _Lengths(
        spacing=tuple(spacing),
        diagonal=float(np.linalg.norm(np.multiply(reference.shape, spacing))),
        tolerance=nsd_tolerance_mm,
    )
    structures = _find_structures(prediction, reference, label_sets, overlaps)
    metrics: dict[Label, dict[str, float]] = {}
    for label, structure in zip(label_scheme.foreground.values(), structures, strict=True):
        metrics[label] = score(structure, lengths) | _counts(structure, overlaps.num_voxels)
    return metrics


@dataclass(frozen=True)
class _Lengths:
    """The lengths of a case that scores of surfaces depend on.

    Attributes:
        spacing: Distance of neighbouring voxel centres in the order of the axes.
        diagonal: The diagonal of the whole image, in units of the spacing.
        tolerance: Distance up to which surfaces count as equal for the NSD, in these units.
    """

    spacing: tuple[float, ...]
    diagonal: float
    tolerance: float


@dataclass(frozen=True)
class _Structure:
    """One class or region of one case.

    Attributes:
        true_positives: Voxels in both label maps.
        n_pred: Voxels in the prediction.
        n_ref: Voxels in the reference.
        prediction: Its mask, cropped to the box around both; None where one of them is empty.
        reference: Likewise.
    """

    true_positives: int
    n_pred: int
    n_ref: int
    prediction: np.ndarray | None
    reference: np.ndarray | None

    @property
    def dice(self) -> float:
        return 2 * self.true_positives / (self.n_pred + self.n_ref)

    @property
    def iou(self) -> float:
        return self.true_positives / (self.n_pred + self.n_ref - self.true_positives)


def _find_structures(
    prediction: np.ndarray,
    reference: np.ndarray,
    label_sets: Sequence[Sequence[int]],
    overlaps: Overlaps,
) -> Iterator[_Structure]:
    """Yield one structure after the other, so that only its masks are in memory."""
    boxes = _union_boxes(prediction, reference, label_sets)
    for index, (values, box) in enumerate(zip(label_sets, boxes, strict=True)):
        yield _Structure(
            true_positives=int(overlaps.true_positives[index]),
            n_pred=int(overlaps.n_pred[index]),
            n_ref=int(overlaps.n_ref[index]),
            prediction=None if box is None else mask_of(prediction[box], values),
            reference=None if box is None else mask_of(reference[box], values),
        )


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


def _union_boxes(
    prediction: np.ndarray, reference: np.ndarray, label_sets: Sequence[Sequence[int]]
) -> list[tuple[slice, ...] | None]:
    """Return the box around each class or region in both label maps together.

    It is None where one of the label maps lacks the class or region.
    """
    pairs = zip(find_boxes(prediction, label_sets), find_boxes(reference, label_sets), strict=True)
    return [None if None in pair else join_boxes(pair) for pair in pairs]


def _counts(structure: _Structure, num_voxels: int) -> dict[str, float]:
    true_positives, n_pred, n_ref = structure.true_positives, structure.n_pred, structure.n_ref
    return {
        "TP": true_positives,
        "FP": n_pred - true_positives,
        "FN": n_ref - true_positives,
        "TN": num_voxels - n_pred - n_ref + true_positives,
        "n_pred": n_pred,
        "n_ref": n_ref,
    }


def _standard(structure: _Structure, lengths: _Lengths) -> dict[str, float]:
    if structure.n_pred == 0 and structure.n_ref == 0:
        return dict.fromkeys(find_policy(STANDARD).metrics, float("nan"))
    if structure.prediction is None or structure.reference is None:
        diagonal = lengths.diagonal
        return {"Dice": 0.0, "IoU": 0.0, "HD95": diagonal, "ASSD": diagonal, "NSD": 0.0}
    surfaces = surface_scores(
        structure.prediction, structure.reference, lengths.spacing, lengths.tolerance
    )
    return {
        "Dice": structure.dice,
        "IoU": structure.iou,
        "HD95": surfaces.hd95,
        "ASSD": surfaces.assd,
        "NSD": surfaces.nsd,
    }


def _synapse_legacy(structure: _Structure, lengths: _Lengths) -> dict[str, float]:
    if structure.prediction is not None and structure.reference is not None:
        return {
            "Dice": structure.dice,
            "HD95": hausdorff_95_in_voxels(structure.prediction, structure.reference),
        }
    return {"Dice": 1.0 if structure.n_pred else 0.0, "HD95": 0.0}


_SCORES: dict[str, Callable[[_Structure, _Lengths], dict[str, float]]] = {
    STANDARD: _standard,
    SYNAPSE_LEGACY: _synapse_legacy,
}
