"""What is predicted of a structure on slices on which the reference has none of it.

A Dice says little about it: a slice that is wrong altogether costs no more than a border that is
off by a voxel on many slices.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from samnet.core.slicing import find_slicing_axis
from samnet.evaluation.policies import EMPTY_SLICES
from samnet.evaluation.structures import Structure


@dataclass(frozen=True)
class CaseSlices:
    """The slices of a case.

    They lie across the axis with the coarsest spacing if it is over 1.5 times the finest, otherwise
    across the shortest axis. So no plan is needed to score files, and the score of a case does not
    depend on other cases.

    Attributes:
        axis: The axis across which they lie.
        is_known: For each slice, whether the reference ignores none of its voxels.
    """

    axis: int
    is_known: np.ndarray

    @classmethod
    def of(
        cls, reference: np.ndarray, spacing: Sequence[float], ignore_label: int | None
    ) -> CaseSlices:
        """Find the slices of a case.

        Args:
            reference: The true label map `(Z, Y, X)`.
            spacing: Distance of neighbouring voxel centres along `(Z, Y, X)`.
            ignore_label: The label of voxels that do not count; None for none.

        Returns:
            The slices; one for an image of one slice.
        """
        if 1 in reference.shape:
            axis = reference.shape.index(1)
        else:
            axis = find_slicing_axis(spacing, np.multiply(reference.shape, spacing))
        is_known = np.ones(reference.shape[axis], bool)
        if ignore_label is not None:
            is_known = ~_any_on_slices(reference == ignore_label, axis)
        return cls(axis, is_known)

    def false_voxels(self, structure: Structure) -> float:
        """Count the voxels of a structure that are predicted on slices without it.

        A slice with ignored voxels does not count: the structure may be among them.

        Args:
            structure: The structure. Its masks may lack the axis of an image of one slice.

        Returns:
            The number, 0 where the reference has the structure on every slice; NaN where the
            reference ignores voxels on all slices that seem to lack it.
        """
        masks, axis, part = (structure.prediction, structure.reference), self.axis, slice(0, 1)
        if structure.reference.ndim == 3:
            part = structure.box[axis]
        else:
            masks, axis = (masks[0][None], masks[1][None]), 0
        lacks_it = np.ones(len(self.is_known), bool)
        lacks_it[part] = ~_any_on_slices(masks[1], axis)
        counted = lacks_it & self.is_known
        if lacks_it.any() and not counted.any():
            return math.nan
        predicted = np.moveaxis(masks[0], axis, 0)
        return int(predicted[counted[part]].sum())


def in_voxels(scores: Mapping[str, float]) -> float:
    """Return the volume on slices without a structure as a number of voxels.

    Args:
        scores: The scores of the structure in a case.

    Returns:
        The number; NaN for scores of older versions, which lack it.
    """
    volume = scores.get(EMPTY_SLICES, math.nan)
    is_above_0 = volume > 0
    return volume / scores["volume_pred"] * scores["n_pred"] if is_above_0 else volume


def _any_on_slices(mask: np.ndarray, axis: int) -> np.ndarray:
    others = tuple(other for other in range(3) if other != axis)
    return np.asarray(mask.any(axis=others))
