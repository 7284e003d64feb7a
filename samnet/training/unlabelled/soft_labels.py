"""What a teacher's output stands for as a label: its probabilities, of every pixel.

Labels of sure pixels alone (FixMatch, arXiv 2001.07685) were worse with few cases: the borders of a
structure are where a teacher is not sure, and structures grow when these pixels do not count
(docs/measurements.md).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

SURE = 0.95  # as FixMatch; such pixels are counted, not chosen


def soft_labels(logits: Tensor, has_regions: bool) -> Tensor:
    """Return the probabilities that logits stand for.

    Args:
        logits: `(B, K, H, W)`, of classes with the background first, or of regions.
        has_regions: Whether the outputs are regions.

    Returns:
        Probabilities `(B, K, H, W)`: of classes with a sum of 1, or of each region.
    """
    return logits.sigmoid() if has_regions else logits.softmax(1)


def soft_loss(logits: Tensor, labels: Tensor, has_regions: bool) -> Tensor:
    """Return the cross-entropy of logits with soft labels, averaged over pixels and regions.

    It is least where the probabilities are those of the labels. The Dice loss is not: it is least
    for a structure that is too large where the labels are not sure (arXiv 1911.02278).

    Args:
        logits: `(B, K, H, W)`, of the student.
        labels: Probabilities `(B, K, H, W)`, of the teacher.
        has_regions: Whether the outputs are regions.

    Returns:
        A scalar.
    """
    if has_regions:
        return functional.binary_cross_entropy_with_logits(logits, labels)
    return functional.cross_entropy(logits, labels)


def likely_labels(logits: Tensor, has_regions: bool) -> tuple[Tensor, Tensor]:
    """Return the likeliest labels, and where they are sure.

    Args:
        logits: `(B, K, H, W)`.
        has_regions: Whether the outputs are regions.

    Returns:
        Classes `(B, H, W)`, or regions `(B, K, H, W)` of 0 and 1; and whether they are sure, of the
        same shape.
    """
    probabilities = soft_labels(logits, has_regions)
    if has_regions:
        confidence = torch.maximum(probabilities, 1 - probabilities)
        return (probabilities > 0.5).long(), confidence >= SURE
    confidence, labels = probabilities.max(1)
    return labels, confidence >= SURE
