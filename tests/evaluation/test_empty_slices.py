"""What is predicted on slices without a structure. Every expected number is counted by hand."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import pytest

from samnet.dataset.label_scheme import LabelScheme
from samnet.evaluation.empty_slices import in_voxels
from samnet.evaluation.metrics import case_metrics
from samnet.evaluation.policies import EMPTY_SLICES

ORGAN = LabelScheme({"background": 0, "organ": 1}, ignore_label=9)
NESTED = LabelScheme({"background": 0, "whole": (1, 2), "core": 2}, regions_class_order=(1, 2))
THICK = (5.0, 1.0, 1.0)  # slices across Z


def on_empty_slices(
    prediction: np.ndarray,
    reference: np.ndarray,
    spacing: tuple[float, ...] = THICK,
    scheme: LabelScheme = ORGAN,
    volume_of_voxel: float = 1.0,
) -> list[float]:
    """Return the score of each class."""
    scores = case_metrics(
        prediction, reference, scheme, spacing, volume_of_voxel=volume_of_voxel
    ).values()
    return [of_class[EMPTY_SLICES] for of_class in scores]


def labels(shape: tuple[int, ...], **voxels: Iterable[tuple[int, ...]]) -> np.ndarray:
    """Return a label map with the voxels of each label, as `_1=[(z, y, x)]`."""
    array = np.zeros(shape, np.uint8)
    for name, places in voxels.items():
        for place in places:
            array[place] = int(name.removeprefix("_"))
    return array


def test_only_slices_without_the_structure_count() -> None:
    reference = labels((4, 6, 8), _1=[(1, 2, 2)])
    prediction = labels((4, 6, 8), _1=[(1, 4, 4), (1, 4, 5), (2, 0, 0), (3, 0, 0), (3, 5, 7)])
    assert on_empty_slices(prediction, reference, volume_of_voxel=0.5) == [1.5]
    assert on_empty_slices(prediction[:3], reference[:3]) == [1]


def test_a_case_without_false_slices_has_zero() -> None:
    everywhere = np.ones((3, 5, 5), np.uint8)
    nowhere = np.zeros_like(everywhere)
    assert on_empty_slices(everywhere, everywhere) == [0]
    assert on_empty_slices(nowhere, everywhere) == [0]
    assert on_empty_slices(nowhere, nowhere) == [0]
    assert on_empty_slices(everywhere, nowhere) == [75]


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_slices_lie_across_the_coarsest_or_the_shortest_axis(axis: int) -> None:
    reference = np.moveaxis(labels((4, 6, 8), _1=[(1, 2, 2)]), 0, axis)
    prediction = np.moveaxis(labels((4, 6, 8), _1=[(1, 0, 0), (2, 2, 2), (3, 2, 2)]), 0, axis)
    coarse = tuple(np.roll((5.0, 1.0, 1.0), axis))
    assert on_empty_slices(prediction, reference, coarse) == [2]
    assert on_empty_slices(prediction, reference, (1.0, 1.0, 1.0)) == [2]
    # Across another axis, one of three voxels lies on the slice of the reference.
    other = tuple(np.roll((1.0, 5.0, 1.0), axis))
    assert on_empty_slices(prediction, reference, other) == [1]


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_an_image_of_one_slice_counts_as_a_whole(axis: int) -> None:
    shape = tuple(np.insert((5, 7), axis, 1))
    prediction, reference = np.zeros((2, *shape), np.uint8)
    prediction.flat[:3] = 1
    # The in-plane axes may be the coarser ones.
    assert on_empty_slices(prediction, reference, (1.0, 9.0, 3.0)) == [3]
    reference.flat[20] = 1
    assert on_empty_slices(prediction, reference, (1.0, 9.0, 3.0)) == [0]
    reference.flat[20] = 9
    assert math.isnan(on_empty_slices(prediction, reference, (1.0, 9.0, 3.0))[0])


def test_each_region_has_slices_of_its_own() -> None:
    reference = labels((3, 4, 4), _1=[(0, 0, 0), (1, 0, 0)], _2=[(0, 1, 1)])
    prediction = labels((3, 4, 4), _1=[(2, 0, 0)], _2=[(1, 1, 1), (2, 1, 1)])
    assert on_empty_slices(prediction, reference, scheme=NESTED) == [2, 2]


def test_slices_with_ignored_voxels_do_not_count() -> None:
    reference = labels((4, 4, 4), _1=[(0, 0, 0)], _9=[(1, 3, 3), (0, 3, 3)])
    prediction = labels((4, 4, 4), _1=[(1, 0, 0), (2, 0, 0), (2, 1, 0), (0, 3, 3)])
    assert on_empty_slices(prediction, reference) == [2]
    # Whether the structure is on them is not known on any slice that seems to lack it.
    reference[2:, 3, 3] = 9
    assert math.isnan(on_empty_slices(prediction, reference)[0])


def test_the_number_of_voxels_follows_from_the_volumes() -> None:
    scores = {EMPTY_SLICES: 0.5, "volume_pred": 2.0, "n_pred": 8}
    assert in_voxels(scores) == pytest.approx(2)
    assert in_voxels(scores | {EMPTY_SLICES: 0.0, "volume_pred": 0.0, "n_pred": 0}) == 0
    assert math.isnan(in_voxels({"volume_pred": 2.0, "n_pred": 8}))
