"""The classes or regions of a case, one after the other, as masks in the box around them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from samnet.dataset.label_scheme import find_boxes, join_boxes, mask_of
from samnet.evaluation.overlaps import Overlaps


@dataclass(frozen=True)
class Structure:
    """One class or region of one case.

    Attributes:
        true_positives: Voxels in both label maps.
        n_pred: Voxels in the prediction.
        n_ref: Voxels in the reference.
        box: The box around both; of size 0 where it is in neither.
        prediction: Its mask, cropped to the box.
        reference: Likewise.
    """

    true_positives: int
    n_pred: int
    n_ref: int
    box: tuple[slice, ...]
    prediction: np.ndarray
    reference: np.ndarray

    @property
    def is_absent(self) -> bool:
        """Whether it is in neither label map."""
        return self.n_pred == 0 and self.n_ref == 0

    @property
    def is_in_both(self) -> bool:
        """Whether it is in both label maps."""
        return self.n_pred > 0 and self.n_ref > 0

    @property
    def dice(self) -> float:
        """Its Dice; it must not be absent."""
        return 2 * self.true_positives / (self.n_pred + self.n_ref)

    @property
    def iou(self) -> float:
        """Its IoU; it must not be absent."""
        return self.true_positives / (self.n_pred + self.n_ref - self.true_positives)


def find_structures(
    prediction: np.ndarray,
    reference: np.ndarray,
    label_sets: Sequence[Sequence[int]],
    overlaps: Overlaps,
) -> Iterator[Structure]:
    """Yield one structure after the other, so that only its masks are in memory.

    Args:
        prediction: Whole numbers `(Z, Y, X)` or `(Y, X)`.
        reference: Whole numbers of the same shape.
        label_sets: The values of each class or region.
        overlaps: The counts of their voxels.

    Yields:
        The structure of each set.
    """
    nothing = (slice(0, 0),) * reference.ndim
    boxes = zip(find_boxes(prediction, label_sets), find_boxes(reference, label_sets), strict=True)
    for index, (values, pair) in enumerate(zip(label_sets, boxes, strict=True)):
        box = join_boxes(pair) or nothing
        yield Structure(
            true_positives=int(overlaps.true_positives[index]),
            n_pred=int(overlaps.n_pred[index]),
            n_ref=int(overlaps.n_ref[index]),
            box=box,
            prediction=mask_of(prediction[box], values),
            reference=mask_of(reference[box], values),
        )
