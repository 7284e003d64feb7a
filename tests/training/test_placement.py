"""Images and targets at their place on a slice."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from builders.numerics import SINGLE, assert_close_to_norm
from scipy import ndimage

from samnet.dataset.label_scheme import LabelScheme
from samnet.preprocessing.slice_frame import SliceFrame, frame_slice
from samnet.training.augmentation import draw_matrix, plain_matrix
from samnet.training.placement import (
    MAX_BEND,
    ONE_HOT_LIMIT,
    Placement,
    bend,
    place_image,
    place_labels,
    place_regions,
)

INPUT = 32
# Pixels of the input are those of the slice, and both have their centre in the same place.
UNCHANGED = Placement((INPUT / 2, INPUT / 2), plain_matrix((1, 1)))


def smooth_slice(size: tuple[int, int], channels: int = 2) -> torch.Tensor:
    """Return smooth noise `(channels, *size)`."""
    noise = np.random.default_rng(0).normal(size=(channels, *size))
    return torch.from_numpy(ndimage.gaussian_filter(noise, (0, 2, 2)).astype(np.float32) * 4 + 1)


def tile(frame: SliceFrame, corner: tuple[int, int]) -> Placement:
    """Return the placement of the input whose first pixel is at `corner` of the canvas."""
    row, column = (
        (corner[axis] + INPUT / 2 - frame.offset(axis)) / frame.scale[axis] for axis in (0, 1)
    )
    return Placement((row, column), plain_matrix(frame.scale))


@pytest.mark.parametrize(
    ("size", "spacing", "zoom", "corner", "tolerance"),
    [
        ((20, 24), (1.0, 1.0), 1.0, (0, 0), SINGLE),
        ((7, 8), (1.0, 1.0), 4.0, (0, 0), SINGLE),
        ((10, 20), (2.0, 1.0), 1.5, (0, 0), SINGLE),
        ((34, 20), (1.0, 1.0), 1.0, (0, 0), 0.02),  # shrunk a little without averaging
        ((64, 48), (1.0, 1.0), 0.5, (0, 0), SINGLE),
        ((50, 60), (1.0, 1.0), 1.0, (16, 32), SINGLE),
        ((25, 30), (1.0, 1.0), 2.0, (32, 16), SINGLE),
    ],
    ids=[
        "slice fits the input",
        "slice is enlarged",
        "pixels are anisotropic",
        "slice is shrunk to fit",
        "slice is shrunk by the plan",
        "slice is tiled",
        "slice is enlarged and tiled",
    ],
)
def test_place_image_shows_what_prediction_sees(
    size: tuple[int, int],
    spacing: tuple[float, float],
    zoom: float,
    corner: tuple[int, int],
    tolerance: float,
) -> None:
    """To the last pixel before the edge, and nothing beyond it."""
    image = smooth_slice(size)
    frame = frame_slice(size, spacing, 1.0, zoom, INPUT)
    window = (..., slice(corner[0], corner[0] + INPUT), slice(corner[1], corner[1] + INPUT))
    expected = frame.to_canvas(image)[window]
    placed = place_image(image, tile(frame, corner), INPUT)
    assert placed.shape == expected.shape == (2, INPUT, INPUT)
    assert torch.equal(placed == 0, expected == 0)
    assert_close_to_norm(placed, expected, tolerance)


@pytest.mark.parametrize("stride", [1, 2, 4])
@pytest.mark.parametrize("flip", [(), (0,), (1,), (0, 1)])
@pytest.mark.parametrize("bend_seed", [None, 7])
def test_placed_image_and_labels_lie_on_each_other(
    stride: int, flip: tuple[int, ...], bend_seed: int | None
) -> None:
    labels = np.zeros((40, 36), dtype=np.uint8)
    # An L, which no mirror or rotation maps onto itself.
    labels[8:30, 10:16] = 1
    labels[24:30, 10:28] = 1
    generator = np.random.default_rng(stride)
    for _ in range(20):
        matrix = draw_matrix(generator, (1.0, 1.2), (False, False))
        matrix[:, flip] *= -1
        centre = (18 + generator.uniform(-4, 4), 18 + generator.uniform(-4, 4))
        placement = Placement(centre, matrix, bend_seed)
        image = place_image(torch.from_numpy(labels.astype(np.float32))[None], placement, INPUT)
        shown = torch.nn.functional.avg_pool2d(image, stride)[0].numpy() > 0.5
        target = place_labels(labels, placement, INPUT, stride).numpy() == 1
        assert target.any()
        assert (ndimage.binary_dilation(shown) >= target).all()
        assert (ndimage.binary_dilation(target) >= shown).all()


def test_bend_is_smooth_and_does_not_fold_space() -> None:
    for seed in range(100):
        displacement = bend(seed, 200, 50)  # at every fourth pixel
        assert displacement.abs().max() < 5 * MAX_BEND * 200
        rows, columns = displacement.diff(dim=1) / 4, displacement.diff(dim=2) / 4
        area = (1 + rows[0, :, :-1]) * (1 + columns[1, :-1]) - rows[1, :, :-1] * columns[0, :-1]
        assert area.min() > 0
        coarse = bend(seed, 200, 25)  # the same field, for a head of half the resolution
        assert (torch.nn.functional.avg_pool2d(displacement, 2) - coarse).abs().max() < 0.3


@pytest.mark.parametrize(
    "count", [3, ONE_HOT_LIMIT + 20], ids=["few label values", "many label values"]
)
def test_place_labels_keeps_label_values(count: int) -> None:
    """The ignore label is one of them: any value is only moved."""
    values = np.linspace(1, 300, count).astype(np.uint16)
    labels = np.zeros((INPUT, INPUT), dtype=np.uint16)
    labels[4:-4, 4:-4] = values[np.arange(24 * 24) % count].reshape(24, 24)
    placed = place_labels(labels, UNCHANGED, INPUT, 1)
    assert placed.dtype == torch.int64
    assert np.array_equal(placed.numpy(), labels)


def test_place_labels_has_background_beyond_the_slice() -> None:
    labels = np.full((8, 8), 2, dtype=np.uint8)
    middle = Placement((4, 4), plain_matrix((1, 1)))
    target = place_labels(labels, middle, INPUT, 1).numpy()
    assert (target[12:20, 12:20] == 2).all()
    assert target.sum() == 2 * 64
    assert not place_labels(0 * labels, middle, INPUT, 2).any()


TURNED = np.array([[0.8, 0.3], [-0.25, 0.7]])


def nested_labels() -> np.ndarray:
    """Return a thin rim of 1 around 2, with 3 in its middle, `(H, W)`."""
    rows, columns = np.ogrid[:32, :32]
    distance = np.hypot(rows - 15.5, columns - 15.5)
    return np.select([distance < 3, distance < 7, distance < 8.5], [3, 2, 1], 0).astype(np.uint8)


@pytest.mark.parametrize("stride", [1, 2, 4])
def test_place_regions_places_each_region_as_if_it_were_a_class(stride: int) -> None:
    labels, placement = nested_labels(), Placement((15, 17), TURNED)
    names = {"background": 0, "whole": (1, 2, 3), "core": (2, 3), "inner": 3}
    scheme = LabelScheme(names, regions_class_order=(1, 2, 3))
    target = place_regions(labels, placement, INPUT, stride, scheme)
    assert (target.dtype, target.shape) == (torch.int32, (3, INPUT // stride, INPUT // stride))
    for number, values in enumerate(scheme.label_sets):
        alone = np.isin(labels, values).astype(np.uint8)
        assert torch.equal(target[number].long(), place_labels(alone, placement, INPUT, stride))
        assert target[number].any()
    assert (target[0] >= target[1]).all()
    assert (target[1] >= target[2]).all()


def test_place_regions_marks_unknown_pixels_in_every_region() -> None:
    labels = nested_labels()
    labels[:, 18:] = 4
    names = {"background": 0, "whole": (1, 2, 3), "core": (2, 3)}
    scheme = LabelScheme(names, ignore_label=4, regions_class_order=(1, 2))
    placement = Placement((15.3, 17.4), plain_matrix((1, 1)))  # no pixel lies half on one side
    target = place_regions(labels, placement, INPUT, 2, scheme)
    plain = place_labels(labels, placement, INPUT, 2)
    assert torch.equal(target == 4, (plain == 4).expand(2, -1, -1))
    assert set(target.unique().tolist()) == {0, 1, 4}


def test_place_regions_goes_by_the_known_part_of_a_pixel() -> None:
    """Half of a pixel is unknown, and half of it within the region."""
    scheme = LabelScheme({"background": 0, "whole": (1, 2)}, 4, regions_class_order=(1,))
    half = np.array([[4, 4, 1, 1]], dtype=np.uint8).repeat(4, axis=0)
    middle = place_regions(half, Placement((2, 2), np.eye(2)), 2, 2, scheme)
    assert middle.tolist() == [[[1]]]
