"""Prompts on synthetic regions."""

from __future__ import annotations

import torch
from torch import Tensor

from samnet.pretraining.draws import Draws
from samnet.pretraining.prompts import MIN_PIXELS, NONE, OFF, ON, Prompts, draw_prompts

SIZE = 64
STRIDE = 4
CPU = torch.device("cpu")
COUNT = 20


def regions() -> Tensor:
    """Return a square of 12 x 12 pixels, a bar, one pixel (too small), and columns outside."""
    plane = torch.zeros(SIZE, SIZE, dtype=torch.int16)
    plane[8:20, 8:20] = 5
    plane[40:44, 10:60] = 6
    plane[60, 60] = 7
    plane[:, 62:] = -1
    return plane


def drawn(plane: Tensor, count: int, seed: int = 0) -> Prompts:
    """Draw prompts on many images of the same regions."""
    return draw_prompts(plane.expand(COUNT, -1, -1), count, STRIDE, Draws([seed], CPU))


def region_of(mask: Tensor, plane: Tensor) -> int:
    """Return the number of the region that a prompt's mask shows."""
    for number in (0, 5, 6):
        if ((plane == number)[STRIDE // 2 :: STRIDE, STRIDE // 2 :: STRIDE] == mask).all():
            return number
    raise AssertionError("no region has this mask")


def test_prompts_boxes_hold_their_regions_and_points_have_the_right_labels() -> None:
    plane, prompts = regions(), drawn(regions(), 3)
    assert prompts.masks.shape == (COUNT, 3, SIZE // STRIDE, SIZE // STRIDE)
    flat = [getattr(prompts, name).flatten(0, 1) for name in vars(prompts)]
    for mask, box, points, labels in zip(*flat, strict=True):
        number = region_of(mask, plane)
        rows, columns = (plane == number).nonzero().unbind(1)
        assert box[0] <= columns.min()
        assert box[1] <= rows.min()
        assert box[2] >= columns.max() + 1
        assert box[3] >= rows.max() + 1
        for (x, y), label in zip(points, labels, strict=True):
            if label != NONE:
                assert (plane[int(y), int(x)] == number) == (label == ON)
        assert labels[0] == ON


def test_prompts_boxes_are_close_to_their_regions() -> None:
    prompts = drawn(regions(), 3)
    square = prompts.masks.sum(dim=(2, 3)) == (12 // STRIDE) ** 2
    boxes = prompts.boxes[square]
    assert len(boxes) == COUNT
    assert (boxes[:, :2] > 3).all()
    assert (boxes[:, 2:] < 25).all()


def test_prompts_second_point_is_on_or_off_the_object_or_missing() -> None:
    labels = drawn(regions(), 3).point_labels[..., 1]
    assert set(labels.unique().tolist()) == {ON, OFF, NONE}


def test_prompts_choose_each_region_once_where_there_are_enough() -> None:
    plane = regions()
    for masks in drawn(plane, 3).masks:
        assert {region_of(mask, plane) for mask in masks} == {0, 5, 6}


def test_prompts_leave_out_regions_that_are_too_small() -> None:
    assert (regions() == 7).sum() < MIN_PIXELS
    prompts = draw_prompts(regions().expand(COUNT, -1, -1), 4, STRIDE, Draws([0], CPU))
    for mask in prompts.masks.flatten(0, 1):
        assert region_of(mask, regions()) != 7
    only_small = torch.full((SIZE, SIZE), -1, dtype=torch.int16)
    only_small[60, 60] = 7
    points = drawn(only_small, 2).points[:, :, 0]
    assert (points == 60.5).all()


def test_prompts_repeat_regions_where_there_are_too_few() -> None:
    prompts = drawn(torch.zeros(SIZE, SIZE, dtype=torch.int16), 4)
    assert prompts.masks.all()
    assert prompts.boxes.shape == (COUNT, 4, 4)
