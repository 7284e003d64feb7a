"""Probabilities of slices: tiles, channels, empty inputs and mirrors."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from builders.numerics import assert_close_to_norm
from builders.tiny import FakeNetwork, thresholds
from builders.volumes import LEVELS, ROUNDED, configure, slice_predictor, smooth_volume
from torch import Tensor
from torch.nn.functional import conv2d, interpolate

from samnet.plan.configuration import IntensityWindow
from samnet.preprocessing.channels import compose_channels, slice_indices
from samnet.preprocessing.intensity import apply_window
from samnet.preprocessing.slice_frame import tile_starts, tile_weights


def position_network(stride: int) -> FakeNetwork:
    """Return a network whose logits depend on the position in the input alone.

    No mirror leaves them unchanged.
    """

    def logits(images: Tensor) -> Tensor:
        size = images.shape[-1] // stride
        rows = torch.linspace(-2, 2, size)[:, None].expand(size, size)
        classes = torch.stack([rows, 0.5 * rows.T**2, torch.zeros(size, size)])
        return classes.expand(len(images), -1, -1, -1)

    return FakeNetwork(stride, logits)


@pytest.mark.parametrize("stride", [1, 2, 4])
@pytest.mark.parametrize("size", [(20, 26), (50, 26), (70, 100)])
def test_slice_predictor_covers_the_canvas_by_tiles_whose_weights_add_up_to_one(
    size: tuple[int, int], stride: int
) -> None:
    volume, network = smooth_volume((2, *size)), position_network(stride)
    predictor = slice_predictor(network, volume)
    found = predictor.probabilities(0, 2)
    assert_close_to_norm(found.sum(0), torch.ones(found.shape[1:]), ROUNDED)

    one_tile = network(torch.zeros(1, 3, 32, 32)).softmax(1)[0]
    total = torch.zeros(3, *(length // stride for length in predictor.frame.canvas))
    norm = torch.zeros(total.shape[1:])
    rows, columns = (tile_starts(length, 32, 0.5) for length in predictor.frame.canvas)
    for row, column in itertools.product(rows, columns):
        down = slice(row // stride, (row + 32) // stride)
        along = slice(column // stride, (column + 32) // stride)
        total[:, down, along] += one_tile * tile_weights(32 // stride)
        norm[down, along] += tile_weights(32 // stride)
    assert norm.min() > 0
    for index in (0, 1):
        assert_close_to_norm(found[:, index], total / norm, ROUNDED)


def test_slice_predictor_gives_in_tiles_what_the_network_gives_for_the_whole_canvas() -> None:
    volume, network = smooth_volume((2, 70, 100)), thresholds(LEVELS, 2)
    predictor = slice_predictor(network, volume)
    whole = network(predictor.canvases(0, 2)).softmax(1)
    assert_close_to_norm(predictor.probabilities(0, 2), whole.transpose(0, 1), ROUNDED)


@pytest.mark.parametrize(
    ("layout", "channels"), [("neighbours", 1), ("repeat", 1), ("pair_mean", 2), ("as_is", 3)]
)
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_slice_predictor_resamples_slices_together_as_one_by_one(
    axis: int, layout: str, channels: int
) -> None:
    array = np.random.default_rng(0).uniform(0, 255, (channels, 7, 9, 8)).astype(np.float32)
    one_channel = smooth_volume((7, 9, 8), (1.0, 1.2, 0.9))
    volume = replace(one_channel, array=array, quantiles=np.zeros((channels, 201)))
    intensity = (IntensityWindow("fixed", 0, 200),) * channels
    configuration = configure(axis, channel_layout=layout, intensity=intensity)
    predictor = slice_predictor(thresholds(LEVELS, 2), volume, configuration, axis)
    slices, count = np.moveaxis(array, axis + 1, 0), array.shape[axis + 1]
    for start, stop in ((0, count), (0, 1), (2, 4), (count - 1, count)):
        found = predictor.canvases(start, stop)
        for index, canvas in zip(range(start, stop), found, strict=True):
            windowed = apply_window(slices[slice_indices(layout, index, count)], predictor.bounds)
            image = torch.from_numpy(np.ascontiguousarray(compose_channels(windowed, layout)))
            assert_close_to_norm(canvas, predictor.frame.to_canvas(image), ROUNDED)


def counting_network() -> tuple[FakeNetwork, list[int]]:
    """Return a network whose logits are not 0 for an empty input, and the sizes of its batches."""
    batches: list[int] = []

    def logits(images: Tensor) -> Tensor:
        batches.append(len(images))
        mean = images.mean(1, keepdim=True)
        ramp = torch.linspace(0, 1, images.shape[-1]).expand(*images.shape[-2:])
        return torch.cat([0.3 + 0 * mean, mean + 0.5 * ramp], dim=1)

    return FakeNetwork(1, logits), batches


@pytest.mark.parametrize("empty", [[], [1], [0, 3], [0, 1, 5], [2, 3, 4, 5], list(range(6))])
def test_slice_predictor_predicts_empty_inputs_once(empty: list[int]) -> None:
    network, batches = counting_network()
    predictor = slice_predictor(network, smooth_volume(), configure(mirror_axes=(2,)), mirror=True)
    done: list[float] = []
    predictor.on_slices = done.append
    canvases = torch.rand(6, 3, 32, 32)
    canvases[empty] = 0
    found = predictor.predict(canvases)
    assert sum(done) == 6
    assert sum(batches) == 2 * (6 - len(empty) + bool(empty))
    both = [network(canvases).softmax(1), network(canvases.flip(-1)).softmax(1).flip(-1)]
    assert_close_to_norm(found.transpose(0, 1), torch.stack(both).mean(0), ROUNDED)


def test_slice_predictor_puts_all_mirrors_of_an_input_into_one_batch() -> None:
    network, batches = counting_network()
    predictor = slice_predictor(
        network, smooth_volume(), configure(mirror_axes=(1, 2)), mirror=True
    )
    predictor.predict(torch.rand(5, 3, 32, 32))
    assert batches == [4] * 5


@pytest.mark.parametrize(
    ("axes", "flips"), [((), []), ((1,), [-2]), ((2,), [-1]), ((0, 1, 2), [-2, -1]), ((0,), [])]
)
def test_slice_predictor_averages_mirrors_over_the_allowed_axes(
    axes: tuple[int, ...], flips: list[int]
) -> None:
    network, configuration = position_network(2), configure(mirror_axes=axes)
    predictor = slice_predictor(network, smooth_volume(), configuration, mirror=True)
    one = network(torch.zeros(1, 3, 32, 32)).softmax(1)[0]
    combinations: list[tuple[int, ...]] = []
    for count in range(3):
        combinations += itertools.combinations(flips, count)
    expected = torch.stack([one.flip(combination) for combination in combinations]).mean(0)
    assert_close_to_norm(predictor.probabilities(0, 1)[:, 0], expected, ROUNDED)
    unmirrored = slice_predictor(network, smooth_volume(), configuration)
    assert_close_to_norm(unmirrored.probabilities(0, 1)[:, 0], one, ROUNDED)


def oblique_network() -> FakeNetwork:
    """Return a network whose logits depend on the image, and differently in every direction."""
    generator = torch.Generator().manual_seed(0)
    kernels = torch.randn(3, 3, 5, 5, generator=generator)
    return FakeNetwork(2, lambda images: conv2d(images, kernels, stride=2, padding=2))


@pytest.mark.parametrize("axes", [(), (0,), (1,), (2,), (0, 1), (0, 2), (1, 2), (0, 1, 2)])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_slice_predictor_averages_over_mirrored_volumes(axis: int, axes: tuple[int, ...]) -> None:
    """Mirroring the input is mirroring the volume along its in-plane axes among the allowed."""
    volume, network = smooth_volume((20, 22, 26)), oblique_network()
    configuration = configure(axis, mirror_axes=axes)
    found = slice_predictor(network, volume, configuration, axis, mirror=True).probabilities(0, 3)
    in_plane = [other for other in range(3) if other != axis]
    allowed = [position for position, other in enumerate(in_plane) if other in axes]
    expected = []
    for count in range(len(allowed) + 1):
        for positions in itertools.combinations(allowed, count):
            array = np.flip(volume.array, [in_plane[position] + 1 for position in positions])
            mirrored = slice_predictor(network, replace(volume, array=array), configuration, axis)
            back = [position - 2 for position in positions]
            expected.append(mirrored.probabilities(0, 3).flip(back))
    assert len(expected) == 2 ** len(allowed)
    assert_close_to_norm(found, torch.stack(expected).mean(0), ROUNDED)


def test_slice_predictor_enlarges_logits_linearly_as_samed() -> None:
    """Not probabilities, and before the softmax."""
    network = thresholds(LEVELS, 4)
    predictor = slice_predictor(network, smooth_volume(), configure(frame="splines"))
    canvases = predictor.canvases(0, 3)
    logits = interpolate(network(canvases), canvases.shape[-2:], mode="bilinear")
    found = predictor.probabilities(0, 3)
    assert found.shape[-2:] == canvases.shape[-2:]
    assert_close_to_norm(found, logits.softmax(1).transpose(0, 1), ROUNDED)
