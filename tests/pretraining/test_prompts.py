"""Prompts on synthetic regions, and scenes."""

from __future__ import annotations

import numpy as np
import pytest

from samnet.pretraining.prompts import MIN_PIXELS, NONE, OFF, ON, draw_prompts
from samnet.pretraining.scenes import INDIVIDUALS, STRIDE, Scenes

SIZE = 64


def regions() -> np.ndarray:
    """Return a square of 12 x 12 pixels, a bar, one pixel (too small), and columns outside."""
    plane = np.zeros((SIZE, SIZE), np.int16)
    plane[8:20, 8:20] = 5
    plane[40:44, 10:60] = 6
    plane[60, 60] = 7
    plane[:, 62:] = -1
    return plane


def region_of(mask: np.ndarray, plane: np.ndarray) -> int:
    """Return the number of the region that a prompt's mask shows."""
    for number in (0, 5, 6):
        if ((plane == number)[STRIDE // 2 :: STRIDE, STRIDE // 2 :: STRIDE] == mask).all():
            return number
    raise AssertionError("no region has this mask")


@pytest.mark.parametrize("seed", range(20))
def test_prompts_boxes_hold_their_regions_and_points_have_the_right_labels(seed: int) -> None:
    plane = regions()
    prompts = draw_prompts(plane, 3, STRIDE, np.random.default_rng(seed))
    assert prompts.masks.shape == (3, SIZE // STRIDE, SIZE // STRIDE)
    for mask, box, points, labels in zip(
        prompts.masks, prompts.boxes, prompts.points, prompts.point_labels, strict=True
    ):
        number = region_of(mask, plane)
        rows, columns = np.nonzero(plane == number)
        assert box[0] <= columns.min()
        assert box[1] <= rows.min()
        assert box[2] >= columns.max() + 1
        assert box[3] >= rows.max() + 1
        for (x, y), label in zip(points, labels, strict=True):
            if label != NONE:
                assert (plane[int(y), int(x)] == number) == (label == ON)
        assert labels[0] == ON
        assert labels[1] in (ON, OFF, NONE)


def test_prompts_leave_out_regions_that_are_too_small() -> None:
    assert (regions() == 7).sum() < MIN_PIXELS
    for seed in range(20):
        prompts = draw_prompts(regions(), 3, 1, np.random.default_rng(seed))
        assert not any(mask[60, 60] and mask.sum() == 1 for mask in prompts.masks)


def test_prompts_repeat_regions_where_there_are_too_few() -> None:
    prompts = draw_prompts(np.zeros((SIZE, SIZE), np.int16), 4, STRIDE, np.random.default_rng(0))
    assert prompts.masks.all()
    assert len(prompts.boxes) == 4


def test_scene_depends_only_on_seed_and_index() -> None:
    scenes = Scenes(3, SIZE, 2)
    later = scenes[5]
    scenes[4]
    again = Scenes(3, SIZE, 2)[5]
    assert all((later[key] == again[key]).all() for key in later)
    assert (Scenes(4, SIZE, 2)[5]["image"] != later["image"]).any()
    assert later["image"].shape == (INDIVIDUALS, 3, SIZE, SIZE)
    assert later["masks"].shape == (INDIVIDUALS, 2, SIZE // STRIDE, SIZE // STRIDE)
