"""The conversion between slices and the network's input, in both directions."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from builders.tiny import make_configuration
from scipy.ndimage import zoom as scipy_zoom
from torch import Tensor
from torch.nn.functional import one_hot

from samnet.preprocessing.slice_frame import (
    SQUEEZE,
    SliceFrame,
    SplineFrame,
    StretchedFrame,
    frame_slice,
    planned_frame,
    tile_starts,
    tile_weights,
)

SIZE = 224


def frame(
    rows: int, columns: int, zoom: float, spacing: tuple[float, float] = (1.0, 1.0)
) -> SliceFrame:
    return frame_slice((rows, columns), spacing, 1.0, zoom, SIZE)


def label_of_small_structures(rows: int, columns: int) -> Tensor:
    """Structures of 3 to 9 pixels: blocks, a line, an L; one of them at the edge."""
    labels = torch.zeros(rows, columns, dtype=torch.long)
    labels[4:6, 5:7] = 1
    labels[10:13, 10:13] = 2
    labels[20, 3:9] = 3
    labels[15:18, 20] = 4
    labels[17, 20:23] = 4
    labels[0:2, -3:] = 5
    return labels


@pytest.mark.parametrize(
    ("zoom", "stride"), [(2.0, 1), (2.7, 1), (4.0, 1), (6.4, 1), (4.0, 2), (5.5, 2)]
)
def test_structures_of_few_pixels_survive_the_canvas(zoom: float, stride: int) -> None:
    labels = label_of_small_structures(33, 29)
    framed = frame(33, 29, zoom)
    maps = framed.to_canvas(one_hot(labels).permute(2, 0, 1).float())
    maps = torch.nn.functional.avg_pool2d(maps, stride)
    back = framed.from_canvas(maps, stride).argmax(0)
    for value in range(6):
        one, other = labels == value, back == value
        assert 2 * (one & other).sum() / (one.sum() + other.sum()) > 0.98


@pytest.mark.parametrize("spacing", [(1.0, 1.0), (0.7, 1.3), (2.0, 0.8)])
def test_a_gradient_is_not_shifted_by_the_canvas(spacing: tuple[float, float]) -> None:
    """The values of the ramps are positions: an offset of half a pixel would show."""
    ramps = torch.stack(torch.meshgrid(torch.arange(40.0), torch.arange(30.0), indexing="ij"))
    framed = frame(40, 30, 3.0, spacing)
    back = framed.from_canvas(framed.to_canvas(ramps), 1)
    assert (back - ramps)[:, 2:-2, 2:-2].abs().max() < 0.05


def test_to_canvas_puts_the_slice_in_the_middle_of_zeros() -> None:
    framed = frame(20, 30, 4.0)
    canvas = framed.to_canvas(torch.ones(1, 20, 30))[0]
    assert framed.canvas == canvas.shape == (SIZE, SIZE)
    assert (framed.offset(0), framed.offset(1)) == (72, 52)
    inside = torch.zeros(SIZE, SIZE, dtype=torch.bool)
    inside[72:-72, 52:-52] = True
    assert torch.allclose(canvas[inside], torch.ones(()))
    assert canvas[~inside].abs().max() == 0


def test_maps_of_double_precision_keep_it_on_the_canvas_and_back() -> None:
    framed = frame(20, 30, 4.0)
    slices = torch.rand(2, 20, 30, dtype=torch.float64)
    canvas = framed.to_canvas(slices)
    back = framed.from_canvas(canvas, 1)
    assert canvas.dtype == back.dtype == torch.float64
    assert torch.allclose(back.float(), framed.from_canvas(framed.to_canvas(slices.float()), 1))


def test_to_canvas_averages_where_it_shrinks() -> None:
    """A checkerboard of single pixels becomes grey: a third of the resolution cannot show it."""
    board = (torch.arange(240)[:, None] + torch.arange(240)) % 2 * 1.0
    canvas = frame_slice((240, 240), (1.0, 1.0), 1.0, 1 / 3, 80).to_canvas(board[None])[0]
    assert canvas.shape == (80, 80)
    assert (canvas[2:-2, 2:-2] - 0.5).abs().max() < 0.06


@pytest.mark.parametrize("zoom", [3.0, 9.0])
@pytest.mark.parametrize("rows", [slice(0, 5), slice(13, 14), slice(30, 40)])
def test_from_canvas_of_a_part_is_the_part_of_the_whole(rows: slice, zoom: float) -> None:
    framed = frame(40, 30, zoom)
    maps = torch.rand(2, *(length // 4 for length in framed.canvas))
    some = framed.from_canvas(maps, 4, rows=rows, columns=slice(7, 20))
    assert torch.allclose(some, framed.from_canvas(maps, 4)[..., rows, 7:20])


@pytest.mark.parametrize("zoom", [0.5, 3.0, 9.0])
def test_pixels_of_the_slice_depend_on_their_support_alone(zoom: float) -> None:
    framed, rows = frame(400, 30, zoom), slice(13, 17)
    length = framed.canvas[0] // 4
    support = framed.support(0, 4, rows)
    assert 1 <= support.stop - support.start <= 2 + 5 * zoom / 4
    maps = torch.zeros(length, framed.canvas[1] // 4)
    maps[: support.start] = maps[support.stop :] = 1.0
    assert framed.from_canvas(maps, 4)[rows].abs().max() == 0
    maps[support] = 1.0
    assert torch.allclose(framed.from_canvas(maps, 4)[rows], torch.ones(()))


def test_frame_slice_has_the_planned_scale_along_each_axis() -> None:
    framed = frame_slice((20, 30), (2.0, 0.5), 0.8, 1.2, SIZE)
    assert framed.scale == pytest.approx((3.0, 0.75))
    assert framed.size == (20, 30)
    assert framed.canvas == (SIZE, SIZE)


@pytest.mark.parametrize("longest", [225, 230, 246])
def test_frame_slice_shrinks_a_slice_that_is_slightly_too_large(longest: int) -> None:
    framed = frame(100, longest, 1.0)
    assert framed.canvas == (SIZE, SIZE)
    assert framed.scale[0] == framed.scale[1] == pytest.approx(SIZE / longest)
    assert tile_starts(framed.canvas[1], SIZE, 0.5) == [0]


def test_frame_slice_gives_a_larger_slice_a_canvas_of_whole_patches() -> None:
    framed = frame(100, int(SQUEEZE * SIZE) + 2, 1.0)
    assert framed.scale == (1.0, 1.0)
    assert framed.canvas == (SIZE, 256)


def test_frame_slice_shrinks_a_slice_by_a_tenth_at_most() -> None:
    largest = round(SQUEEZE * 80)
    assert frame_slice((40, largest), (1.0, 1.0), 1.0, 1.0, 80).canvas == (80, 80)
    assert frame_slice((40, largest + 1), (1.0, 1.0), 1.0, 1.0, 80).canvas == (80, 96)


@pytest.mark.parametrize(
    ("length", "expected"), [(239.8, 240), (240.0004, 240), (240.0006, 256), (240.3, 256)]
)
def test_frame_slice_adds_a_patch_for_what_is_more_than_a_rounding_error(
    length: float, expected: int
) -> None:
    framed = frame_slice((300, 400), (length / 300, 1.0), 1.0, 1.0, SIZE)
    assert framed.canvas == (expected, 400)


def test_frame_slice_adds_no_patch_for_rounding_errors() -> None:
    framed = frame_slice((51, 51), (0.7, 0.7), 0.7, 224 / 51, SIZE)
    assert framed.canvas == (SIZE, SIZE)


@pytest.mark.parametrize("size", [32, 224])
@pytest.mark.parametrize("overlap", [0.0, 0.3, 0.5, 0.9])
def test_tile_starts_cover_the_canvas(size: int, overlap: float) -> None:
    for length in range(16, 6 * size, 16):
        starts = tile_starts(length, size, overlap)
        assert starts[0] == 0
        assert starts[-1] == max(0, length - size)
        assert all(start % 16 == 0 for start in starts)
        steps = [second - first for first, second in itertools.pairwise(starts)]
        largest_step = min(size, max(16, size * (1 - overlap) + 16))
        assert all(0 < step <= largest_step for step in steps)


@pytest.mark.parametrize(
    ("length", "overlap", "expected"),
    [
        (448, 0.5, [0, 112, 224]),
        (464, 0.5, [0, 80, 160, 240]),
        (448, 0.0, [0, 224]),
        (640, 0.3, [0, 144, 272, 416]),
    ],
)
def test_tile_starts_are_no_more_than_the_overlap_needs(
    length: int, overlap: float, expected: list[int]
) -> None:
    assert tile_starts(length, SIZE, overlap) == expected


def test_tile_weights_are_largest_in_the_middle_and_never_zero() -> None:
    weights = tile_weights(56)
    assert weights.shape == (56, 56)
    assert weights.min() > 0
    assert weights.argmax() in (27 * 56 + 27, 27 * 56 + 28, 28 * 56 + 27, 28 * 56 + 28)
    assert torch.equal(weights, weights.T)
    assert torch.allclose(weights, weights.flip(0))


def test_a_slice_of_a_single_row_survives_the_canvas() -> None:
    framed = frame(1, 30, 2.0)
    row = one_hot(torch.arange(30) // 4).T[:, None].float()
    assert framed.to_canvas(row).shape == (8, SIZE, SIZE)
    assert torch.equal(framed.from_canvas(framed.to_canvas(row), 1).argmax(0), row.argmax(0))


@pytest.mark.parametrize(
    ("value", "kind", "through"),
    [
        ("scale", SliceFrame, None),
        ("stretch", StretchedFrame, None),
        ("splines", SplineFrame, None),
        ("splines_224", SplineFrame, 224),
    ],
)
def test_planned_frame_is_the_one_of_the_plan(
    value: str, kind: type[SliceFrame], through: int | None
) -> None:
    configuration = make_configuration(frame=value, input_size=32, zoom=2.0)
    framed = planned_frame(configuration, (10, 40), (1.0, 1.0), ((4, 2), (0, 0)))
    assert type(framed) is kind
    assert getattr(framed, "through", None) == through
    assert framed.size == (10, 40)
    if value == "scale":
        assert framed.scale == (2.0, 2.0)
        assert framed.canvas == (32, 80)
    else:
        assert framed.scale == (2.0, 0.8)
        assert framed.canvas == (32, 32)


def test_stretched_slice_comes_back_without_its_margins() -> None:
    """The ramps are positions in the whole slice: an offset would show."""
    ramps = torch.stack(torch.meshgrid(torch.arange(40.0), torch.arange(30.0), indexing="ij"))
    framed = StretchedFrame((29, 20), (120 / 40, 120 / 30), (120, 120), margins=((8, 3), (4, 6)))
    cropped = ramps[:, 8:37, 4:24].numpy()
    whole = framed.whole_slices(cropped)
    assert whole.shape == (2, 40, 30)
    assert np.array_equal(whole[:, 8:37, 4:24], cropped)
    assert whole.sum() == cropped.sum()
    back = framed.from_canvas(framed.to_canvas(ramps), 1)
    torch.testing.assert_close(back[:, 1:-1, 1:-1], ramps[:, 9:36, 5:23], rtol=0, atol=0.2)


def test_spline_frame_takes_the_nearest_pixel_of_the_map_for_a_crop_too() -> None:
    maps = torch.arange(32.0 * 32).view(1, 32, 32)
    framed = SplineFrame((29, 20), (0.8, 32 / 30), (32, 32), margins=((8, 3), (4, 6)))
    expected = scipy_zoom(maps[0].numpy(), (40 / 32, 30 / 32), order=0)[8:37, 4:24]
    assert np.array_equal(framed.from_canvas(maps, 1)[0], expected)
    part = framed.from_canvas(maps, 1, slice(3, 9), slice(5, 6))[0]
    assert np.array_equal(part, expected[3:9, 5:6])


def test_tile_weights_fall_with_an_eighth_of_the_edge_to_a_thousandth() -> None:
    weights = tile_weights(33)
    middle = weights[16]
    assert middle[16] == 1
    assert middle[20].item() == pytest.approx(torch.tensor(-0.5 * (4 / (33 / 8)) ** 2).exp().item())
    assert weights[0, 0].item() == pytest.approx(1e-3)
