"""Samples of neighbouring slices: which slices they show, and that all are shown in one way."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from builders.tiny import TWO_CLASSES, make_case, make_configuration

from samnet.dataset.label_scheme import LabelScheme
from samnet.training.device_batches.place import find_slice_place
from samnet.training.sampling import SliceSamples
from samnet.training.slice_reader import SampleSpecification
from samnet.training.stack_samples import StackSamples

NUM_SLICES = 5
REGIONS = LabelScheme({"background": 0, "whole": (1, 2), "core": 2}, regions_class_order=(1, 2))


@pytest.fixture
def samples_of(tmp_path: Path) -> Any:
    """Return a function that makes samples of a case with a class in every slice.

    Slice z has the intensity 50 z, and z + 1 rows of the class.
    """
    labels = np.zeros((NUM_SLICES, 24, 20), np.uint8)
    image = np.zeros((1, NUM_SLICES, 24, 20), np.uint8)
    for index in range(NUM_SLICES):
        labels[index, 8 : 9 + index, 4:16] = 1 + index % 2
        image[0, index] = 50 * index
    case = make_case(tmp_path, image, labels)

    def make(kind: type = StackSamples, scheme: LabelScheme = TWO_CLASSES, **changes: Any) -> Any:
        configuration = make_configuration(**({"depth": 3, "input_size": 16} | changes))
        return kind([case], SampleSpecification(configuration, scheme, 2, 7))

    return make


def shown(images: torch.Tensor) -> list[int]:
    """Return the numbers of the slices of a stack `(D, C, S, S)` by their intensities."""
    middle = images.shape[-1] // 2
    return (images[:, 0, middle, middle] * 255 / 50).round().int().tolist()


@pytest.mark.parametrize("depth", [3, 5])
def test_stack_shows_neighbouring_slices_and_repeats_those_at_the_edges(
    samples_of: Any, depth: int
) -> None:
    samples = samples_of(depth=depth, augmentation="none")
    middles = set()
    for number in range(40):
        images, targets = samples[number]
        assert images.shape == (depth, 3, 16, 16)
        assert targets.shape == (depth, 8, 8)
        indices = shown(images)
        middle = indices[depth // 2]
        middles.add(middle)
        around = range(middle - depth // 2, middle + depth // 2 + 1)
        assert indices == [min(max(index, 0), NUM_SLICES - 1) for index in around]
    assert middles == set(range(NUM_SLICES))


@pytest.mark.parametrize("scheme", [TWO_CLASSES, REGIONS], ids=["classes", "regions"])
def test_slice_in_the_middle_is_the_sample_of_a_single_slice(
    samples_of: Any, scheme: LabelScheme
) -> None:
    """It is drawn and placed in the same way; `samed` changes no intensities."""
    changes = {"augmentation": "samed", "mirror_axes": (0, 1, 2), "channel_layout": "neighbours"}
    stacks = samples_of(scheme=scheme, **changes)
    slices = samples_of(SliceSamples, scheme, depth=1, **changes)
    for number in range(10):
        images, targets = stacks[number]
        image, target = slices[number]
        assert torch.equal(images[1], image)
        assert torch.equal(targets[1], target)


def test_slices_of_a_stack_are_placed_and_bent_alike(samples_of: Any) -> None:
    """Where a slice ends is where the others end, and the target lies where the class is seen."""
    samples = samples_of(augmentation="planned", mirror_axes=(1, 2), zoom=0.5)
    for number in range(10):
        placed = samples[number][1].bool()
        # Every slice has the rows of the slices before it, so what they show lies within.
        smaller, larger = sorted((placed[0], placed[-1]), key=lambda target: int(target.sum()))
        assert not (smaller & ~larger).any()


def test_about_half_of_the_stacks_are_reversed_where_the_plan_mirrors_across_slices(
    samples_of: Any,
) -> None:
    def num_reversed(mirror_axes: tuple[int, ...]) -> int:
        samples = samples_of(augmentation="planned", mirror_axes=mirror_axes, zoom=0.5)
        sizes = [samples[number][1].bool().sum((1, 2)) for number in range(40)]
        return sum(bool(size[0] > size[-1]) for size in sizes)

    assert num_reversed((1, 2)) == 0
    assert 10 <= num_reversed((0, 1, 2)) <= 30


def test_sample_depends_on_its_number_alone(samples_of: Any) -> None:
    first, again = samples_of(augmentation="planned"), samples_of(augmentation="planned")
    for number in (11, 3):
        assert all(map(torch.equal, first[number], again[number]))


def test_repeated_slices_have_the_same_intensities_except_for_noise(samples_of: Any) -> None:
    samples = samples_of(augmentation="planned")
    differences = []
    for number in range(60):
        images, targets = samples[number]
        if torch.equal(targets[0], targets[1]) and targets[0].any():
            differences.append(float((images[0] - images[1]).abs().mean()))
    with_noise = [difference for difference in differences if difference]
    assert 0 < len(with_noise) < len(differences) / 2
    assert max(with_noise) < 0.05


def test_stacks_are_made_one_by_one_on_a_gpu(
    samples_of: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        assert find_slice_place(samples_of(), 4, torch.device("cuda")) is None
    assert "stacks of slices" in caplog.text
