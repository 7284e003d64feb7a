"""How many inputs the networks are given at once on a GPU, and where inputs are made there."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from builders.numerics import assert_close_to_norm
from builders.tiny import TWO_CLASSES, FakeNetwork, thresholds
from builders.volumes import LEVELS, ROUNDED, configure, slice_predictor, smooth_volume
from torch import Tensor

from samnet.inference.batches import (
    INPUTS_PER_BATCH,
    INPUTS_PER_BATCH_ON_CPU,
    BatchSize,
    inputs_that_fit,
)
from samnet.inference.volume import predict_volume
from samnet.preprocessing.channels import compose_channels, compose_images, slice_indices

CPU, MIB = torch.device("cpu"), 2**20


class Card:
    """The memory of a card, as the test says.

    Attributes:
        free: Free bytes.
        per_slice: Bytes that a slice takes.
        num_measured: How often something was measured.
    """

    def __init__(self, free: int = 64 * MIB, per_slice: int = 4 * MIB) -> None:
        self.free, self.per_slice, self.num_measured = free, per_slice, 0

    def num_multiprocessors(self) -> int:
        return 100

    def free_bytes(self) -> int:
        return self.free

    def peak_of(self, compute: Callable[[], Tensor]) -> tuple[Tensor, int]:
        self.num_measured += 1
        return compute(), self.per_slice


def recording(most: int = 1000) -> tuple[FakeNetwork, list[int]]:
    """Return a network with memory for batches of at most some inputs, and the sizes of batches."""
    network, sizes = thresholds(LEVELS, 2), []

    def note(module: torch.nn.Module, inputs: tuple[Tensor]) -> None:
        if len(inputs[0]) > most:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        sizes.append(len(inputs[0]))

    network.register_forward_pre_hook(note)
    return network, sizes


def predict(network: FakeNetwork, batch: BatchSize | None, views: tuple[int, ...]) -> np.ndarray:
    configuration = configure(views=views, mirror_axes=(1, 2))
    return predict_volume(
        [network],
        configuration,
        smooth_volume((19, 22, 26)),
        mirror=True,
        label_scheme=TWO_CLASSES,
        batch=batch,
    )


@pytest.mark.parametrize(
    ("free_gib", "bytes_per_input", "edge", "multiprocessors", "expected"),
    [
        (60, 10 * MIB, 224, 132, 344),  # an H100 is occupied by them
        (60, 200 * MIB, 1024, 132, 16),
        (60, 200 * MIB, 1024, 40, INPUTS_PER_BATCH),  # never fewer for a small card
        (1, 200 * MIB, 1024, 132, 2),  # half of what is free
        (0.01, 200 * MIB, 1024, 132, 1),
        (60, 0, 224, 132, 344),
    ],
)
def test_inputs_that_fit_occupy_the_card_within_half_of_its_free_memory(
    free_gib: float, bytes_per_input: int, edge: int, multiprocessors: int, expected: int
) -> None:
    tokens = (edge // 16) ** 2
    free = int(free_gib * 2**30)
    assert inputs_that_fit(free, bytes_per_input, tokens, multiprocessors) == expected


@pytest.mark.parametrize(
    ("device", "expected"), [("cpu", INPUTS_PER_BATCH_ON_CPU), ("mps", INPUTS_PER_BATCH)]
)
def test_devices_without_a_measurement_have_a_constant_batch(device: str, expected: int) -> None:
    batch = BatchSize(torch.device(device))
    maps = torch.zeros(3, 1, 2, 2)
    assert batch.measure(lambda: maps, 1, 224) is maps
    assert (batch.inputs, batch.num_outputs) == (expected, None)
    assert not batch.has_room(1)


@pytest.mark.parametrize("views", [(0,), (0, 1, 2)], ids=["one view", "three views"])
def test_batch_is_measured_with_the_first_slice_of_the_first_volume(views: tuple[int, ...]) -> None:
    plain, usual = recording()
    expected = predict(plain, None, views)
    network, sizes = recording()
    card = Card()  # an input of the four mirrors takes 1 MiB, so 32 of them fit
    batch = BatchSize(CPU, card)
    assert np.array_equal(predict(network, batch, views), expected)
    assert sizes[0] == 4
    assert max(sizes) == batch.inputs == 32
    assert sum(sizes) == sum(usual)
    sizes.clear()
    assert np.array_equal(predict(network, batch, views), expected)
    assert sizes[0] == 32
    assert card.num_measured == 1


def test_batch_is_measured_again_after_memory_has_run_out() -> None:
    expected = predict(recording()[0], None, (0,))
    network, sizes = recording(most=16)
    card = Card()
    batch = BatchSize(CPU, card)
    assert np.array_equal(predict(network, batch, (0,)), expected)
    assert max(sizes) == 16  # the half of 32
    assert batch.num_outputs is None
    card.free //= 4
    predict(network, batch, (0,))
    assert (card.num_measured, batch.inputs) == (2, 8)


def test_maps_of_a_view_have_room_where_they_take_little_of_the_free_memory() -> None:
    batch = BatchSize(CPU, Card(free=100))
    assert batch.has_room(25)
    assert not batch.has_room(26)


@pytest.mark.parametrize(
    ("layout", "channels"), [("neighbours", 1), ("repeat", 1), ("pair_mean", 2), ("as_is", 3)]
)
def test_images_composed_together_are_those_composed_one_by_one(layout: str, channels: int) -> None:
    slices = np.random.default_rng(0).uniform(0, 1, (6, channels, 5, 4)).astype(np.float32)
    indices = [slice_indices(layout, index, 6) for index in range(6)]
    found = compose_images(torch.from_numpy(slices), indices, layout)
    expected = [compose_channels(slices[chosen], layout) for chosen in indices]
    assert_close_to_norm(found, np.stack(expected), ROUNDED)


@pytest.mark.parametrize("frame", ["scale", "stretch", "splines"])
@pytest.mark.parametrize("layout", ["neighbours", "repeat"])
def test_canvases_made_on_a_device_are_those_made_in_main_memory(layout: str, frame: str) -> None:
    volume = smooth_volume((7, 22, 26), (1.0, 1.2, 0.9))
    configuration = configure(1, channel_layout=layout, frame=frame)
    predictor = slice_predictor(thresholds(LEVELS, 2), volume, configuration, 1)
    for start, stop in ((0, 22), (0, 1), (3, 9), (21, 22)):
        found = predictor.canvases_on(CPU, start, stop)
        assert_close_to_norm(found, predictor.canvases(start, stop), ROUNDED)
