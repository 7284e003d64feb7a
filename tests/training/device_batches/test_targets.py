"""Targets of many slices at once equal those of one, also where many labels meet."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from samnet.dataset.label_scheme import LabelScheme
from samnet.training.device_batches.parcel import Parcel
from samnet.training.device_batches.placing import SamplingGrids, pack_placements
from samnet.training.device_batches.slices import pack_slices
from samnet.training.device_batches.targets import TargetMaker
from samnet.training.placement import Placement, place_labels, place_regions, sampling_grid

CPU = torch.device("cpu")
SIZE, STRIDE = 64, 2
TURNED = np.array([[0.31, 0.1], [-0.12, 0.27]])
SHAPES = [(18, 15), (12, 22), (30, 11)]
PLACEMENTS = [
    Placement((9.2, 7.7), TURNED, 3),
    Placement((5.1, 11.3), 1.4 * TURNED),
    Placement((15.0, 5.5), TURNED @ np.diag([-1, 1]), 8),
]
CLASSES = LabelScheme({"background": 0, "one": 1, "two": 2, "three": 3}, ignore_label=4)
REGIONS = LabelScheme(
    {"background": 0, "whole": (1, 2, 3), "core": (2, 3)}, 4, regions_class_order=(1, 2)
)


@pytest.fixture
def label_maps() -> list[np.ndarray]:
    """Return labels without any order, so that up to four meet at every point."""
    generator = np.random.default_rng(0)
    return [generator.integers(0, 5, shape).astype(np.uint8) for shape in SHAPES]


def make_targets(
    label_maps: list[np.ndarray], placements: list[Placement], scheme: LabelScheme, size: int
) -> Tensor:
    images = [np.zeros((1, 1, *labels.shape), np.uint8) for labels in label_maps]
    drawn = Parcel.pack(pack_placements(placements, size) | pack_slices(images, label_maps))
    sizes = torch.tensor([labels.shape for labels in label_maps])
    grids = SamplingGrids(size, STRIDE, CPU).compute(drawn, sizes)
    return TargetMaker(scheme, CPU).make(drawn["labels"], grids, sizes, None)


def test_classes_of_many_slices_equal_those_of_one(label_maps: list[np.ndarray]) -> None:
    targets = make_targets(label_maps, PLACEMENTS, CLASSES, SIZE)
    assert set(targets.unique().tolist()) == {0, 1, 2, 3, 4}
    for found, labels, placement in zip(targets, label_maps, PLACEMENTS, strict=True):
        expected = place_labels(labels, placement, SIZE, STRIDE)
        assert (found == expected).float().mean() >= 0.999


def test_regions_of_many_slices_equal_those_of_one(label_maps: list[np.ndarray]) -> None:
    targets = make_targets(label_maps, PLACEMENTS, REGIONS, SIZE)
    for found, labels, placement in zip(targets, label_maps, PLACEMENTS, strict=True):
        expected = place_regions(labels, placement, SIZE, STRIDE, REGIONS)
        assert (found == expected).float().mean() >= 0.999


@pytest.mark.parametrize("stride", [1, 2, 4])
def test_grids_of_many_slices_equal_those_of_one(stride: int) -> None:
    drawn = Parcel.pack(pack_placements(PLACEMENTS, SIZE))
    grids = SamplingGrids(SIZE, stride, CPU).compute(drawn, torch.tensor(SHAPES))
    for found, placement, shape in zip(grids, PLACEMENTS, SHAPES, strict=True):
        [expected] = sampling_grid(placement, SIZE, stride, shape)
        assert (found - expected).abs().max() < 1e-5


def test_of_classes_with_equal_shares_the_lowest_wins() -> None:
    """As among the masks of classes, of which the first of the largest is taken."""
    labels = np.array([[3, 1], [3, 1]], np.uint8)
    placement = Placement((1.0, 1.0), np.eye(2))
    target = make_targets([labels], [placement], CLASSES, 2)
    assert target.tolist() == [[[1]]]
    assert torch.equal(target[0], place_labels(labels, placement, 2, STRIDE))


def test_slices_of_other_sizes_do_not_reach_into_each_other(label_maps: list[np.ndarray]) -> None:
    alone = make_targets(label_maps[:1], PLACEMENTS[:1], CLASSES, SIZE)
    assert torch.equal(make_targets(label_maps, PLACEMENTS, CLASSES, SIZE)[:1], alone)
