"""Sums over maps that are added up while slices are predicted."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from builders.numerics import assert_close_to_norm
from builders.tiny import TWO_CLASSES, FakeNetwork, thresholds
from builders.volumes import LEVELS, configure, smooth_volume
from torch import Tensor

from samnet.confidence.signals import MapSums
from samnet.dataset.label_scheme import LabelScheme
from samnet.inference.map_sums import MapCollector
from samnet.inference.slices import SlicePredictor
from samnet.inference.volume import predict_volume
from samnet.plan.configuration import Configuration

REGIONS = LabelScheme({"background": 0, "whole": (1, 2), "core": 2}, regions_class_order=(1, 2))


def asymmetric(sharpness: float, num_outputs: int = 3) -> FakeNetwork:
    """Return a network that sees something else in a mirrored image."""
    network = thresholds(LEVELS, 2, sharpness)

    def logits(images: Tensor) -> Tensor:
        ramp = torch.linspace(-1, 1, images.shape[-1] // 2)
        return (network(images) + ramp)[:, -num_outputs:]

    return FakeNetwork(2, logits)


def collect(
    networks: list[FakeNetwork],
    configuration: Configuration,
    scheme: LabelScheme = TWO_CLASSES,
    *,
    mirror: bool = True,
) -> MapSums:
    collector = MapCollector()
    arguments = {"mirror": mirror, "label_scheme": scheme}
    volume = smooth_volume()
    with_sums = predict_volume(networks, configuration, volume, collector=collector, **arguments)
    without = predict_volume(networks, configuration, volume, **arguments)
    assert np.array_equal(with_sums, without)
    return collector.sums()


def maps(
    network: FakeNetwork, configuration: Configuration, axis: int, flip: tuple[int, ...]
) -> Tensor:
    """Return the probabilities `(N, K, h, w)` of one mirror, mirrored back."""
    predictor = SlicePredictor(
        [network], configuration, smooth_volume(), axis, mirror=False, label_scheme=TWO_CLASSES
    )
    canvases = predictor.canvases(0, len(predictor.slices))
    with torch.no_grad():
        logits = network(canvases.flip(flip) if flip else canvases)
    probabilities = logits.softmax(1)
    return (probabilities.flip(flip) if flip else probabilities).double()


@pytest.mark.parametrize("views", [(0,), (0, 1, 2)])
def test_sums_are_those_of_the_maps_of_every_view(views: tuple[int, ...]) -> None:
    configuration = configure(views=views, mirror_axes=(1, 2), tile_overlap=0.0)
    networks = [asymmetric(2.0), asymmetric(5.0)]
    sums = collect(networks, configuration)
    names = ("total", "squares", "member_squares", "inside", "inside_total")
    expected = {name: np.zeros((2, 3)) for name in names}
    overall_squares = np.zeros(3)
    for axis in views:
        in_plane = [index for index in (0, 1, 2) if index != axis]
        dimensions = [-2 + place for place, index in enumerate(in_plane) if index in (1, 2)]
        flips = [(), *[(dimension,) for dimension in dimensions]]
        if len(dimensions) == 2:
            flips.append((-2, -1))
        means = []
        for row, network in enumerate(networks):
            members = [maps(network, configuration, axis, flip) for flip in flips]
            mean = torch.stack(members).mean(0)
            best, winner = mean.max(1)
            means.append(mean)
            for output in range(3):
                is_inside = winner == output
                expected["inside"][row, output] += float(is_inside.sum())
                expected["inside_total"][row, output] += float(best[is_inside].sum())
            expected["total"][row] += mean.sum((0, 2, 3)).numpy()
            expected["squares"][row] += (mean**2).sum((0, 2, 3)).numpy()
            for member in members:
                expected["member_squares"][row] += (member**2).sum((0, 2, 3)).numpy()
        overall_squares += (torch.stack(means).mean(0) ** 2).sum((0, 2, 3)).numpy()
    for name in names:
        found = torch.from_numpy(getattr(sums, name))
        assert_close_to_norm(found, torch.from_numpy(expected[name][:, 1:]), 1e-5)
    found = torch.from_numpy(sums.overall_squares)
    assert_close_to_norm(found, torch.from_numpy(overall_squares[1:]), 1e-5)


def test_sums_of_regions_have_no_background() -> None:
    sums = collect([asymmetric(3.0, 2)], configure(), REGIONS, mirror=False)
    assert sums.total.shape == (1, 2)
    assert sums.num_mirrors == 1
    assert np.all(sums.inside > 0)
    assert np.all(sums.inside_total > 0.5 * sums.inside)
    assert sums.squares == pytest.approx(sums.member_squares)


def test_slices_that_are_predicted_again_count_once() -> None:
    """Memory runs out in the middle of some slices."""
    expected = collect([thresholds(LEVELS, 2)], configure(), mirror=False)
    network, calls = thresholds(LEVELS, 2), [0]

    def logits(images: Tensor) -> Tensor:
        calls[0] += 1
        if calls[0] == 3:
            raise MemoryError
        return network(images)

    collector = MapCollector()
    predict_volume(
        [FakeNetwork(2, logits)],
        configure(),
        smooth_volume(),
        mirror=False,
        label_scheme=TWO_CLASSES,
        collector=collector,
    )
    assert calls[0] > 3
    assert collector.sums().total == pytest.approx(expected.total)
    assert collector.sums().inside == pytest.approx(expected.inside)
