from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from samnet.dataset.label_scheme import Regions
from samnet.inference.outputs import outputs_for
from samnet.inference.reconstruction import ViewMaps, cut, label_slices, label_window
from samnet.preprocessing.slice_frame import frame_slice

CPU = torch.device("cpu")
STRIDE = 4
SHAPE = (6, 50, 70)
ENLARGING, SHRINKING = 0.7, 9.0  # zooms: a voxel is a fraction of a map's pixel, or two of them


def spots(count: int, shape: tuple[int, ...], seed: int = 0) -> Tensor:
    """Probabilities `(K, *shape)`: background nearly everywhere, and each class around one place."""
    generator = torch.Generator().manual_seed(seed)
    axes = torch.meshgrid(*(torch.linspace(0, 1, length) for length in shape), indexing="ij")
    logits = [torch.zeros(shape)]
    for centre in torch.rand(count - 1, len(shape), generator=generator):
        distance = sum((axis - place) ** 2 for axis, place in zip(axes, centre, strict=True))
        logits.append(6 - 300 * torch.as_tensor(distance))
    noise = torch.randn(count, *shape, generator=generator)
    return (torch.stack(logits) + 0.2 * noise).softmax(0)


def make_view(axis: int, count: int, zoom: float, shape: tuple[int, int, int] = SHAPE) -> ViewMaps:
    rows, columns = (length for index, length in enumerate(shape) if index != axis)
    frame = frame_slice((rows, columns), (1.0, 1.0), 1.0, zoom, 32)
    size = [length // STRIDE for length in frame.canvas]
    return ViewMaps(spots(count, (shape[axis], *size), seed=axis), axis, frame, STRIDE, CPU)


def everywhere(shape: tuple[int, int, int]) -> tuple[slice, slice, slice]:
    z, y, x = (slice(0, length) for length in shape)
    return z, y, x


def all_values(view: ViewMaps, shape: tuple[int, int, int] = SHAPE) -> Tensor:
    """`(K, Z, Y, X)`: what reconstruction spares itself."""
    return torch.stack([view.values(output, everywhere(shape)) for output in range(len(view.maps))])


@pytest.mark.parametrize("zoom", [ENLARGING, SHRINKING])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_every_voxel_of_a_block_lies_between_its_bounds(axis: int, zoom: float) -> None:
    view = make_view(axis, 5, zoom)
    values = all_values(view)
    blocks = [cut(slice(0, length), edge) for length, edge in zip(SHAPE, (2, 16, 7), strict=True)]
    lowest, highest = view.bounds(blocks)
    assert lowest.shape == highest.shape == (5, *(len(along) for along in blocks))
    for place in itertools.product(*(range(len(along)) for along in blocks)):
        inside = values[
            (slice(None), *(along[index] for along, index in zip(blocks, place, strict=True)))
        ]
        assert (inside.amin((1, 2, 3)) >= lowest[(slice(None), *place)] - 1e-6).all()
        assert (inside.amax((1, 2, 3)) <= highest[(slice(None), *place)] + 1e-6).all()


@pytest.mark.parametrize("zoom", [ENLARGING, SHRINKING])
@pytest.mark.parametrize("count", [2, 40, 300])
def test_labels_are_those_of_all_classes_resampled_everywhere(count: int, zoom: float) -> None:
    view = make_view(0, count, zoom)
    labels: np.ndarray = np.full(SHAPE, 9999, np.uint16)
    label_slices(outputs_for(None), view, labels)
    assert len(np.unique(labels)) > min(count, 20) / 2
    assert np.array_equal(labels, all_values(view).argmax(0))


def test_labels_of_three_views_are_those_of_their_sum() -> None:
    shape = (40, 50, 44)
    views = [make_view(axis, 30, ENLARGING, shape) for axis in (0, 1, 2)]
    labels = label_window(outputs_for(None), views, everywhere(shape), (16, 16, 16))
    total = torch.stack([all_values(view, shape) for view in views]).sum(0)
    assert labels.max() > 9
    assert np.array_equal(labels, total.argmax(0))


def test_regions_are_drawn_as_if_all_were_resampled_everywhere() -> None:
    regions = Regions(((1, 2, 3), (2, 3), (3,)), (1, 2, 3))
    view = make_view(0, 4, ENLARGING)
    view = replace(view, maps=view.maps[1:])
    labels: np.ndarray = np.empty(SHAPE, np.uint8)
    label_slices(outputs_for(regions), view, labels)
    expected: np.ndarray = np.zeros(SHAPE, np.uint8)
    for label, values in zip(regions.class_order, all_values(view).numpy(), strict=True):
        expected[values > 0.5] = label
    assert len(np.unique(expected)) > 2
    assert np.array_equal(labels, expected)


def test_a_class_is_resampled_only_around_where_it_may_win(monkeypatch: pytest.MonkeyPatch) -> None:
    shape = (1, 200, 200)
    frame = frame_slice((200, 200), (1.0, 1.0), 1.0, 1.0, 32)
    maps = torch.zeros(4, 1, 52, 52)
    maps[0] = 0.9
    maps[1] = 0.1  # never wins
    maps[2, 0, 5:8, 40:44] = 1.0
    resampled: list[tuple[int, Any]] = []
    values = ViewMaps.values

    def spy(self: ViewMaps, output: int, window: Any) -> Tensor:
        resampled.append((output, window))
        return values(self, output, window)

    monkeypatch.setattr(ViewMaps, "values", spy)
    labels: np.ndarray = np.empty(shape, np.uint8)
    label_slices(outputs_for(None), ViewMaps(maps, 0, frame, STRIDE, CPU), labels)
    assert set(np.unique(labels)) == {0, 2}
    assert [output for output, _ in resampled] == [0, 2]
    (_, rows, columns) = resampled[1][1]
    assert rows.stop - rows.start <= 64
    assert columns.stop - columns.start <= 64


def test_ties_go_to_the_first_class() -> None:
    """Constant maps: sums of weights differ in their last digits from place to place."""
    frame = frame_slice((50, 70), (1.0, 1.0), 1.0, ENLARGING, 32)
    maps = (
        torch.tensor([0.2, 0.4, 0.4])
        .view(3, 1, 1, 1)
        .expand(3, 6, *(length // STRIDE for length in frame.canvas))
    )
    labels: np.ndarray = np.empty(SHAPE, np.uint8)
    label_slices(outputs_for(None), ViewMaps(maps, 0, frame, STRIDE, CPU), labels)
    assert (labels == 1).all()


def test_ranges_are_cut_to_pieces_that_cover_them() -> None:
    assert cut(slice(3, 10), 3) == [slice(3, 6), slice(6, 9), slice(9, 10)]
    assert cut(slice(0, 2), 0) == [slice(0, 1), slice(1, 2)]
