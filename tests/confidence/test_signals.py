"""Signals of maps, label maps and images with known answers."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from builders.tiny import TWO_CLASSES

from samnet.confidence.signals import MapSums, measure_signals, soft_agreement
from samnet.confidence.structures import MAX_VOXELS, StructureMeasure


def test_soft_agreement_is_the_soft_dice_of_all_pairs() -> None:
    maps = np.random.default_rng(0).uniform(size=(4, 50))
    shared, squares = 0.0, 0.0
    for one, other in itertools.combinations(maps, 2):
        shared += 2 * float(one @ other)
        squares += float(one @ one + other @ other)
    mean = maps.mean(0)
    found = soft_agreement(np.array(mean @ mean), np.array((maps**2).sum()), 4)
    assert found == pytest.approx(shared / squares)


def test_soft_agreement_of_the_same_maps_is_1_and_of_disjoint_ones_0() -> None:
    same, disjoint = np.array([[0.8, 0.0]] * 2), np.array([[0.8, 0.0], [0.0, 0.6]])
    for maps, expected in ((same, 1), (disjoint, 0)):
        mean = maps.mean(0)
        found = soft_agreement(np.array(mean @ mean), np.array((maps**2).sum()), 2)
        assert found == pytest.approx(expected)
    assert np.isnan(soft_agreement(np.array(1.0), np.array(1.0), 1))


def case() -> tuple[np.ndarray, np.ndarray]:
    """Return labels `(Z, Y, X)` with a cube of 27 voxels as 1, and an image that is 3 there."""
    labels = np.zeros((5, 9, 9), np.uint8)
    labels[1:4, 2:5, 2:5] = 1
    return labels, np.where(labels == 1, 3.0, 1.0)[None]


def test_measure_signals_averages_what_each_network_tells() -> None:
    labels, image = case()
    sums = MapSums(
        total=np.array([[30.0, 0.5], [20.0, 0.0]]),
        squares=np.array([[25.0, 0.1], [15.0, 0.0]]),
        member_squares=np.array([[60.0, 0.3], [30.0, 0.0]]),
        inside=np.array([[30.0, 0.0], [20.0, 0.0]]),
        inside_total=np.array([[27.0, 0.0], [16.0, 0.0]]),
        overall_squares=np.array([18.0, 0.02]),
        num_mirrors=2,
    )
    signals = measure_signals(sums, labels, image, (2.0, 1.0, 0.5), 0, TWO_CLASSES)
    one, two = signals["one"], signals["two"]
    assert one.overlap == pytest.approx(((2 * 27 / 60) + (2 * 16 / 40)) / 2)
    assert one.probability == pytest.approx((27 / 30 + 16 / 20) / 2)
    assert one.mirrors == pytest.approx(((4 * 25 - 60) / 60 + (4 * 15 - 30) / 30) / 2)
    assert one.networks == pytest.approx((4 * 18 - 40) / 40)
    assert one.size == 27
    assert (two.probability, two.size, two.largest) == (None, 0, None)
    assert two.overlap == 0


def structure(labels: np.ndarray, image: np.ndarray, axis: int = 0) -> dict[str, float]:
    [found] = StructureMeasure(labels, image, axis, 1.0).signals([(1,)])
    return found


def test_structure_of_one_part_that_the_image_shows() -> None:
    labels, image = case()
    found = structure(labels, image)
    assert found["size"] == 27
    assert found["largest"] == 1
    assert found["slices"] == 1
    assert found["contrast"] == pytest.approx(2 / image.std())
    assert found["spread"] == 0


def test_structure_in_two_parts() -> None:
    labels, image = case()
    labels[0, 8, 8] = 1
    found = structure(labels, image)
    assert found["largest"] == pytest.approx(27 / 28)
    assert found["spread"] > 0


def test_structure_that_the_image_does_not_show_has_no_contrast() -> None:
    labels, _ = case()
    gradient = np.broadcast_to(np.arange(9.0), labels.shape)[None]
    assert structure(labels, gradient)["contrast"] == pytest.approx(0)
    constant = structure(labels, np.ones_like(gradient))
    assert (constant["contrast"], constant["spread"]) == (None, None)


def test_structure_takes_the_channel_of_most_contrast() -> None:
    labels, image = case()
    noise = np.random.default_rng(0).normal(size=image.shape)
    for channels in ([noise, image], [image, noise]):
        assert structure(labels, np.concatenate(channels)) == structure(labels, image)


def test_slices_agree_along_the_slicing_axis_alone() -> None:
    labels = np.zeros((4, 6, 6), np.uint8)
    labels[::2, :3], labels[1::2, 3:] = 1, 1  # jumps from slice to slice
    image = np.random.default_rng(0).normal(size=(1, *labels.shape))
    assert structure(labels, image)["slices"] == 0
    assert structure(labels, image, axis=2)["slices"] == 1
    assert structure(labels[:1], image[:, :1])["slices"] is None


def test_large_structures_are_looked_at_on_fewer_voxels(monkeypatch: pytest.MonkeyPatch) -> None:
    labels = np.zeros((40, 40, 40), np.uint8)
    labels[4:35, 4:35, 4:35] = 1
    image = np.where(labels == 1, 3.0, 1.0)[None]
    assert labels.size < MAX_VOXELS
    exact = structure(labels, image)
    monkeypatch.setattr("samnet.confidence.structures.MAX_VOXELS", 6000)
    coarse = structure(labels, image)
    assert coarse["size"] != exact["size"]
    assert coarse["size"] == pytest.approx(exact["size"], rel=0.2)
    assert coarse["largest"] == 1
    assert coarse["contrast"] == pytest.approx(exact["contrast"], rel=0.1)
