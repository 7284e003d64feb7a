"""Prediction with networks whose slices see their neighbours."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from builders.numerics import assert_close_to_norm
from builders.tiny import TWO_CLASSES, make_configuration, make_volume, tiny_backbone
from builders.volumes import ROUNDED, smooth_volume
from torch import Tensor

from samnet.inference.map_sums import MapCollector
from samnet.inference.slices import SlicePredictor
from samnet.inference.volume import predict_volume
from samnet.models.network import SegmentationNetwork, build_network
from samnet.plan.configuration import Configuration
from samnet.preprocessing.case import PreparedVolume

__all__ = ["tiny_backbone"]
SHAPE = (13, 22, 26)


def configure(**changes: Any) -> Configuration:
    return make_configuration(**({"depth": 3, "depth_blocks": "all"} | changes))


def make_network(configuration: Configuration, seed: int = 0) -> SegmentationNetwork:
    """Return a network of random weights, none of them 0, in evaluation mode."""
    torch.manual_seed(seed)
    network = build_network(configuration, 1, 3)
    for weight in network.parameters():
        if not weight.any():
            torch.nn.init.normal_(weight, std=0.3)
    return network.eval()


def predictor(
    configuration: Configuration,
    volume: PreparedVolume | None = None,
    *networks: SegmentationNetwork,
    mirror: bool = False,
) -> SlicePredictor:
    return SlicePredictor(
        networks or [make_network(configuration)],
        configuration,
        volume or smooth_volume(SHAPE),
        0,
        mirror=mirror,
        label_scheme=TWO_CLASSES,
    )


@torch.no_grad()
def of_one_stack(network: SegmentationNetwork, canvases: Tensor) -> Tensor:
    """Return the probabilities `(K, N, h, w)` of all slices as one stack, as in training."""
    return network(canvases[None])[0].softmax(1).transpose(0, 1)


def test_volume_is_predicted_as_one_long_stack() -> None:
    configuration = configure()
    found = predictor(configuration)
    expected = of_one_stack(make_network(configuration), found.canvases(0, SHAPE[0]))
    assert_close_to_norm(found.probabilities(0, SHAPE[0]), expected, ROUNDED)


def test_chunks_with_their_margins_are_predicted_as_the_whole_stack() -> None:
    found = predictor(configure())
    assert found.margin == 2
    whole = found.probabilities(0, SHAPE[0])
    for start, stop in ((0, 1), (1, 6), (6, 13), (12, 13)):
        assert_close_to_norm(found.probabilities(start, stop), whole[:, start:stop], ROUNDED)


def test_mirrors_and_networks_are_averaged() -> None:
    configuration = configure(mirror_axes=(1, 2))
    networks = [make_network(configuration, seed) for seed in (0, 1)]
    found = predictor(configuration, None, *networks, mirror=True)
    canvases = found.canvases(0, SHAPE[0])
    parts = []
    for network in networks:
        for flip in ((), (-2,), (-1,), (-2, -1)):
            parts.append(of_one_stack(network, canvases.flip(flip)).flip(flip))
    expected = torch.stack(parts).mean(0)
    assert_close_to_norm(found.probabilities(0, SHAPE[0]), expected, 3 * ROUNDED)


def test_tiles_are_stacks_of_their_own() -> None:
    """Slices of 40 columns take several inputs of 32."""
    configuration = configure()
    volume = smooth_volume((SHAPE[0], 22, 40))
    found = predictor(configuration, volume)
    whole = found.probabilities(0, SHAPE[0])
    first = of_one_stack(make_network(configuration), found.canvases(0, SHAPE[0])[..., :32])
    # The first tile alone shows the first columns.
    alone = int(0.5 * (found.frame.canvas[1] - 32) / found.stride)
    assert_close_to_norm(whole[..., :alone], first[..., :alone], ROUNDED)
    assert_close_to_norm(found.probabilities(4, 7), whole[:, 4:7], ROUNDED)


@pytest.mark.parametrize("views", [(0,), (0, 1, 2)], ids=["one view", "three views"])
def test_labels_and_sums_do_not_depend_on_the_chunks(views: tuple[int, ...]) -> None:
    configuration = configure(views=views, depth_blocks="0", mirror_axes=(2,))
    network, volume = make_network(configuration), smooth_volume(SHAPE)
    results = []
    for slab_bytes in (2**27, 1):
        collector = MapCollector()
        labels = predict_volume(
            [network],
            configuration,
            volume,
            mirror=True,
            label_scheme=TWO_CLASSES,
            slab_bytes=slab_bytes,
            collector=collector,
        )
        results.append((labels, collector.sums()))
    (labels, sums), (in_chunks, other_sums) = results
    assert (labels != in_chunks).mean() < 1e-3
    np.testing.assert_allclose(other_sums.total, sums.total, rtol=1e-5)


def test_slices_are_encoded_once_but_for_the_margins_of_chunks() -> None:
    configuration = configure(depth_blocks="1")
    network, counted = make_network(configuration), []
    network.encoder.blocks[0].register_forward_pre_hook(
        lambda block, inputs: counted.append(len(inputs[0]))
    )

    def num_encoded(slab_bytes: int) -> int:
        counted.clear()
        predict_volume(
            [network],
            configuration,
            smooth_volume(SHAPE),
            mirror=False,
            label_scheme=TWO_CLASSES,
            slab_bytes=slab_bytes,
        )
        return sum(counted)

    assert num_encoded(2**27) == SHAPE[0]
    assert max(counted) == 4  # inputs at once on a CPU
    assert num_encoded(1) <= 1.4 * SHAPE[0]


def test_empty_slices_differ_by_what_lies_next_to_them() -> None:
    image = np.zeros(SHAPE, np.float32)
    image[6] = smooth_volume(SHAPE).array[0, 6]
    volume = make_volume(image)
    configuration = configure()
    found = predictor(configuration, volume)
    count = len(found.slices)
    expected = of_one_stack(make_network(configuration), found.canvases(0, count))
    assert_close_to_norm(found.probabilities(0, count), expected, ROUNDED)


def test_volume_of_nothing_is_predicted_from_one_slice() -> None:
    configuration = configure()
    network, counted = make_network(configuration), []
    found = predictor(configuration, smooth_volume(SHAPE), network)
    found.slices = np.zeros_like(found.slices)
    expected = of_one_stack(network, found.canvases(0, SHAPE[0]))
    network.encoder.blocks[0].register_forward_pre_hook(
        lambda block, inputs: counted.append(len(inputs[0]))
    )
    assert_close_to_norm(found.probabilities(0, SHAPE[0]), expected, ROUNDED)
    assert counted == [1]
