"""Lesion-wise scores: which of the separate parts of a structure are found.

A lesion is a connected component of a class or region (26 neighbours in 3D, 8 in 2D). A lesion of
the reference and one of the prediction match where their IoU is at least `MATCH_IOU`. Each lesion
matches at most one other; pairs of higher IoU are matched first. This is the greedy matching of
panoptica (arXiv 2312.02608) and Metrics Reloaded (arXiv 2206.01653). The threshold is that of
nnDetection (arXiv 2106.00817) for boxes: a lesion of a few voxels whose border is off by one voxel
has an IoU far below panoptica's 0.5. A single voxel in common, another rule in use, would let one
large prediction find every lesion.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from samnet.core.components import component_sizes, label_components

MATCH_IOU = 0.1
_MOST_COUNTERS = 1 << 22


@dataclass(frozen=True)
class LesionCounts:
    """Numbers of lesions of a structure.

    Attributes:
        reference: Lesions of the reference.
        prediction: Lesions of the prediction.
        matches: Pairs of the two that match.
    """

    reference: int
    prediction: int
    matches: int

    def scores(self) -> dict[str, float]:
        """Return the lesion-wise scores.

        Counts are known for every case, 0 included. The sensitivity is NaN where the reference has
        no lesion, and F1 where neither label map has one.

        Returns:
            Value of each score of `policies.LESION_METRICS`.
        """
        total = self.reference + self.prediction
        return {
            "lesions_ref": self.reference,
            "lesions_pred": self.prediction,
            "lesions_found": self.matches,
            "lesions_false": self.prediction - self.matches,
            "lesion_sensitivity": self.matches / self.reference if self.reference else math.nan,
            "lesion_F1": 2 * self.matches / total if total else math.nan,
        }


def count_lesions(prediction: np.ndarray, reference: np.ndarray) -> LesionCounts:
    """Count the lesions of two masks, and the pairs that match.

    Args:
        prediction: Booleans `(Z, Y, X)` or `(Y, X)`.
        reference: Booleans of the same shape.

    Returns:
        The counts.
    """
    predicted, num_predicted = label_components(prediction)
    true, num_true = label_components(reference)
    if not num_predicted or not num_true:
        return LesionCounts(num_true, num_predicted, 0)
    in_both = prediction & reference
    # One number for each pair of lesions that have a voxel in common.
    codes = true[in_both].astype(np.int64) * (num_predicted + 1) + predicted[in_both]
    pairs, common = _count_codes(codes, (num_true + 1) * (num_predicted + 1))
    of_reference, of_prediction = np.divmod(pairs, num_predicted + 1)
    sizes = component_sizes(true, num_true)[of_reference - 1]
    sizes += component_sizes(predicted, num_predicted)[of_prediction - 1]
    iou = common / (sizes - common)
    return LesionCounts(num_true, num_predicted, _match(of_reference, of_prediction, iou))


def _count_codes(codes: np.ndarray, limit: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the distinct numbers, which are below a limit, and how often each occurs."""
    if limit > _MOST_COUNTERS:
        return np.unique(codes, return_counts=True)
    counts = np.bincount(codes, minlength=limit)  # needs no sorting
    pairs = np.flatnonzero(counts)
    return pairs, counts[pairs]


def _match(of_reference: np.ndarray, of_prediction: np.ndarray, iou: np.ndarray) -> int:
    """Return how many pairs match, each lesion once, pairs of higher IoU first."""
    found: set[int] = set()
    used: set[int] = set()
    for index in np.argsort(-iou, kind="stable"):
        if iou[index] < MATCH_IOU:
            break
        true, predicted = int(of_reference[index]), int(of_prediction[index])
        if true not in found and predicted not in used:
            found.add(true)
            used.add(predicted)
    return len(found)
