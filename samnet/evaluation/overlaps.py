"""Counts of the voxels that a predicted and a true label map have in common."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

_CHUNK_VOXELS = 1 << 18


@dataclass(frozen=True)
class Overlaps:
    """Numbers of voxels, in each class or region and altogether, without ignored voxels.

    Attributes:
        true_positives: Voxels `(K,)` of each class or region in both label maps.
        n_pred: Voxels `(K,)` of each class or region in the prediction.
        n_ref: Voxels `(K,)` of each class or region in the reference.
        num_voxels: All voxels.
    """

    true_positives: np.ndarray
    n_pred: np.ndarray
    n_ref: np.ndarray
    num_voxels: int

    @classmethod
    def count(
        cls,
        prediction: np.ndarray,
        reference: np.ndarray,
        label_sets: Sequence[Sequence[int]],
        ignore_label: int | None,
    ) -> Overlaps:
        """Count the voxels of two label maps.

        Args:
            prediction: Whole numbers of any shape.
            reference: Whole numbers of the same shape.
            label_sets: The values of each class or region.
            ignore_label: Voxels of this value in the reference do not count; None for none.

        Returns:
            The counts.

        Raises:
            ValueError: The shapes differ, or values are not whole numbers.
        """
        highest = max(max(values) for values in label_sets)
        pairs = count_pairs(prediction, reference, highest, ignore_label)
        members = [np.array(values) for values in label_sets]
        return cls(
            true_positives=np.array([pairs[np.ix_(values, values)].sum() for values in members]),
            n_pred=np.array([pairs[:, values].sum() for values in members]),
            n_ref=np.array([pairs[values].sum() for values in members]),
            num_voxels=int(pairs.sum()),
        )


def count_pairs(
    prediction: np.ndarray, reference: np.ndarray, num_classes: int, ignore_label: int | None = None
) -> np.ndarray:
    """Count how many voxels have each pair of labels.

    Args:
        prediction: Whole numbers of any shape.
        reference: Whole numbers of the same shape.
        num_classes: The highest label that is counted by itself.
        ignore_label: Voxels of this value in the reference do not count; None for none.

    Returns:
        Counts `(num_classes + 2, num_classes + 2)`, indexed by reference and prediction. The last
        row and the last column hold the values above `num_classes` and the negative ones.

    Raises:
        ValueError: The shapes differ, or values are not whole numbers.
    """
    if prediction.shape != reference.shape:
        raise ValueError(
            f"the prediction has shape {prediction.shape}, the reference {reference.shape}"
        )
    size = num_classes + 2
    pairs = np.zeros(size * size, dtype=np.int64)
    flat_prediction, flat_reference = prediction.reshape(-1), reference.reshape(-1)
    # In chunks that stay in the processor's cache. This is as fast as one call, and needs no copy
    # of the volume with eight bytes for each voxel.
    for start in range(0, flat_reference.size, _CHUNK_VOXELS):
        part = slice(start, start + _CHUNK_VOXELS)
        codes = _bins(flat_reference[part], num_classes)
        codes *= size
        codes += _bins(flat_prediction[part], num_classes)
        if ignore_label is not None:
            codes = codes[flat_reference[part] != ignore_label]
        pairs += np.bincount(codes, minlength=size * size)
    return pairs.reshape(size, size)


def _bins(labels: np.ndarray, num_classes: int) -> np.ndarray:
    """Replace every value above `num_classes`, and every negative one, by `num_classes + 1`."""
    if labels.dtype.kind not in "uib":
        raise ValueError(f"a label map holds whole numbers, not {labels.dtype}")
    # Read as unsigned numbers of the same width, negative numbers are the largest ones.
    unsigned = labels.view(f"{labels.dtype.byteorder}u{labels.dtype.itemsize}")
    last_bin = min(num_classes + 1, np.iinfo(unsigned.dtype).max)
    return np.minimum(unsigned, last_bin).astype(np.int64)
