"""Samples without labels: one slice shown twice, and boxes of other slices."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from builders.tiny import TWO_CLASSES, make_configuration

from samnet.preprocessing.storage import StoredCase
from samnet.training.slice_reader import SampleSpecification
from samnet.training.unlabelled.samples import (
    BOX_AREAS,
    MIXED_SHARE,
    UnlabelledSamples,
    draw_box,
    mix_pairs,
)


def make_samples(case: StoredCase, seed: int = 3) -> UnlabelledSamples:
    specification = SampleSpecification(make_configuration(), TWO_CLASSES, stride=2, seed=seed)
    return UnlabelledSamples([case], specification)


def test_sample_depends_on_seed_and_number_alone(without_labels: StoredCase) -> None:
    one, other = make_samples(without_labels), make_samples(without_labels)
    other[4]
    for found, expected in zip(one[7], other[7], strict=True):
        assert torch.equal(found, expected)
    sums = {float(one[number][0].double().sum()) for number in range(6)}
    assert len(sums) == 6
    assert not torch.equal(one[7][0], make_samples(without_labels, seed=4)[7][0])


def test_both_views_show_the_same_pixels(without_labels: StoredCase) -> None:
    """Grey values change, and their order mostly stays: bright places are bright in both."""
    samples = make_samples(without_labels)
    agreements, changes = [], []
    for number in range(12):
        weak, strong, _ = samples[number]
        assert weak.shape == strong.shape == (3, 32, 32)
        agreements.append(np.corrcoef(weak.flatten(), strong.flatten())[0, 1])
        changes.append(float((weak - strong).abs().mean()))
    assert np.mean(agreements) > 0.7
    assert np.median(changes) > 0.03


def test_boxes_lie_within_the_target_and_half_of_the_slices_have_none() -> None:
    generator = np.random.default_rng(0)
    boxes = np.stack([draw_box(generator, 40).numpy() for _ in range(400)])
    top, bottom, left, right = boxes.T
    assert boxes.min() == 0
    assert boxes.max() <= 40
    areas = (bottom - top) * (right - left) / 40**2
    assert np.mean(areas == 0) == pytest.approx(MIXED_SHARE, abs=0.08)
    some = areas[areas > 0]
    assert some.min() < 2 * BOX_AREAS[0]
    assert 0.3 < some.max() <= BOX_AREAS[1] * 1.1


def test_boxes_of_a_pair_change_places() -> None:
    values = torch.arange(4.0)[:, None, None].expand(4, 4, 4)
    boxes = torch.tensor([[0, 2, 1, 3], [0, 0, 0, 0], [0, 4, 0, 4], [1, 2, 0, 4]])
    mixed = mix_pairs(values, boxes)
    assert mixed[0, :2, 1:3].eq(1).all()
    assert mixed[0].sum() == 4
    assert mixed[1].eq(1).all()
    assert mixed[2].eq(3).all()
    assert mixed[3].sum() == 3 * 16 - 4


def test_scaled_boxes_lie_at_the_same_place_of_larger_images() -> None:
    values = torch.rand(2, 3, 8, 8)
    boxes = torch.tensor([[0, 2, 1, 3], [3, 4, 0, 4]])
    mixed = mix_pairs(values, boxes, scale=2)
    assert torch.equal(mixed[0, :, :4, 2:6], values[1, :, :4, 2:6])
    assert torch.equal(mixed[0, :, 4:], values[0, :, 4:])
    assert torch.equal(mixed[1, :, 6:], values[0, :, 6:])


def test_two_halves_are_mixed_as_the_whole_batch_and_an_odd_row_stays() -> None:
    values = torch.rand(8, 6, 6)
    boxes = torch.stack([draw_box(np.random.default_rng(row), 6) for row in range(8)])
    halves = [mix_pairs(values[part], boxes[part]) for part in (slice(4), slice(4, 8))]
    assert torch.equal(torch.cat(halves), mix_pairs(values, boxes))
    whole_box = torch.tensor([[0, 6, 0, 6]]).expand(3, 4)
    assert torch.equal(mix_pairs(values[:3], whole_box)[2], values[2])
