"""Labels on a volume's voxels are those of maps that are resampled everywhere."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from builders.numerics import MARGIN, assert_same_winners
from builders.tiny import TWO_CLASSES
from builders.volumes import configure
from torch import Tensor

from samnet.dataset.label_scheme import LabelScheme
from samnet.inference.outputs import Subvolume, outputs_for
from samnet.inference.reconstruction import ViewMaps, cut, label_slices, label_subvolume
from samnet.preprocessing.slice_frame import frame_slice, planned_frame

CPU = torch.device("cpu")
STRIDE = 4
SHAPE = (6, 50, 70)
ENLARGING, SHRINKING = 0.7, 9.0  # zooms: a voxel is a fraction of a map's pixel, or two of them
CLASSES = outputs_for(TWO_CLASSES)  # of any number


def spots(count: int, shape: tuple[int, ...], seed: int = 0) -> Tensor:
    """Return probabilities `(K, *shape)`: background, and each class around one place."""
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
    """Return `(K, Z, Y, X)`: all outputs everywhere, which reconstruction does not compute."""
    return torch.stack([view.values(output, everywhere(shape)) for output in range(len(view.maps))])


@pytest.mark.parametrize("zoom", [ENLARGING, SHRINKING])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_bounds_of_a_block_enclose_all_its_voxels(axis: int, zoom: float) -> None:
    view = make_view(axis, 5, zoom)
    values = all_values(view)
    edges = (2, 16, 7)
    blocks = [cut(slice(0, length), edge) for length, edge in zip(SHAPE, edges, strict=True)]
    lowest, highest = view.bounds(blocks)
    assert lowest.shape == highest.shape == (5, *(len(along) for along in blocks))
    for place in itertools.product(*(range(len(along)) for along in blocks)):
        block = tuple(along[index] for along, index in zip(blocks, place, strict=True))
        inside = values[(slice(None), *block)]
        assert (inside.amin((1, 2, 3)) >= lowest[(slice(None), *place)] - 1e-6).all()
        assert (inside.amax((1, 2, 3)) <= highest[(slice(None), *place)] + 1e-6).all()


def test_bounds_of_single_voxels_are_their_values_where_the_nearest_pixel_counts() -> None:
    """Many voxels then take the same pixel of the map."""
    frame = planned_frame(configure(frame="splines"), SHAPE[1:], (1.0, 1.0))
    view = ViewMaps(spots(3, (SHAPE[0], *frame.canvas)), 0, frame, 1, CPU)
    blocks = [cut(slice(0, length), 1) for length in SHAPE]
    lowest, highest = view.bounds(blocks)
    assert torch.equal(lowest, highest)
    assert torch.equal(lowest, all_values(view))


@pytest.mark.parametrize("zoom", [ENLARGING, SHRINKING])
@pytest.mark.parametrize("count", [2, 40, 300])
def test_label_slices_gives_the_labels_of_all_classes_resampled_everywhere(
    count: int, zoom: float
) -> None:
    view = make_view(0, count, zoom)
    labels: np.ndarray = np.full(SHAPE, 9999, np.uint16)
    label_slices(CLASSES, view, labels)
    assert len(np.unique(labels)) > min(count, 20) / 2
    assert_same_winners(labels, all_values(view))


@pytest.mark.parametrize(
    ("part_bytes", "part"),
    [(1, (1, 1)), (2**26, SHAPE[:2])],
    ids=["single rows", "one part, as on a GPU"],
)
def test_label_slices_gives_the_same_labels_in_parts_of_any_size(
    part_bytes: int, part: tuple[int, int]
) -> None:
    """The largest class, the background, lies in all of a part."""
    view = make_view(0, 40, ENLARGING)
    parts = set()

    class RecordingParts(ViewMaps):
        def values(self, output: int, subvolume: Subvolume) -> Tensor:
            if output == 0:
                slices, rows, _ = subvolume
                parts.add((slices.stop - slices.start, rows.stop - rows.start))
            return super().values(output, subvolume)

    labels: np.ndarray = np.full(SHAPE, 9999, np.uint16)
    recording = RecordingParts(view.maps, 0, view.frame, STRIDE, CPU)
    label_slices(CLASSES, recording, labels, part_bytes)
    assert_same_winners(labels, all_values(view))
    assert parts == {part}


def test_label_subvolume_gives_the_labels_of_the_sum_of_three_views() -> None:
    shape = (40, 50, 44)
    views = [make_view(axis, 30, ENLARGING, shape) for axis in (0, 1, 2)]
    labels = label_subvolume(CLASSES, views, everywhere(shape), (16, 16, 16))
    total = torch.stack([all_values(view, shape) for view in views]).sum(0)
    assert labels.max() > 9
    assert_same_winners(labels, total)


@pytest.mark.parametrize("weights", [(0.5, 0.25, 0.25), (6.0, 1.0, 0.1)])
def test_label_subvolume_gives_the_labels_of_a_weighted_sum(weights: tuple[float, ...]) -> None:
    shape = (40, 50, 44)
    views = [make_view(axis, 30, ENLARGING, shape) for axis in (0, 1, 2)]
    labels = label_subvolume(CLASSES, views, everywhere(shape), (16, 16, 16), weights)
    values = [weight * all_values(view, shape) for weight, view in zip(weights, views, strict=True)]
    assert_same_winners(labels, torch.stack(values).sum(0))
    equal = label_subvolume(CLASSES, views, everywhere(shape), (16, 16, 16))
    assert not np.array_equal(labels, equal)


def test_label_slices_draws_regions_as_if_all_were_resampled_everywhere() -> None:
    labels_by_name = {"background": 0, "whole": (1, 2, 3), "core": (2, 3), "centre": 3}
    regions = LabelScheme(labels_by_name, regions_class_order=(1, 2, 3))
    view = make_view(0, 4, ENLARGING)
    view = replace(view, maps=view.maps[1:])
    labels: np.ndarray = np.empty(SHAPE, np.uint8)
    label_slices(outputs_for(regions), view, labels)
    every_value = all_values(view).numpy()
    expected: np.ndarray = np.zeros(SHAPE, np.uint8)
    for label, values in zip(regions.regions_class_order, every_value, strict=True):
        expected[values > 0.5] = label
    assert len(np.unique(expected)) > 2
    clear = (np.abs(every_value - 0.5) > MARGIN).all(0)
    assert clear.mean() > 0.999
    assert np.array_equal(labels[clear], expected[clear])


def test_label_slices_resamples_a_class_only_around_where_it_may_win() -> None:
    shape = (1, 200, 200)
    frame = frame_slice((200, 200), (1.0, 1.0), 1.0, 1.0, 32)
    maps = torch.zeros(4, 1, 52, 52)
    maps[0] = 0.9
    maps[1] = 0.1  # never wins
    maps[2, 0, 5:8, 40:44] = 1.0
    resampled: list[tuple[int, Subvolume]] = []

    class RecordingView(ViewMaps):
        def values(self, output: int, subvolume: Subvolume) -> Tensor:
            resampled.append((output, subvolume))
            return super().values(output, subvolume)

    labels: np.ndarray = np.empty(shape, np.uint8)
    label_slices(CLASSES, RecordingView(maps, 0, frame, STRIDE, CPU), labels)
    assert set(np.unique(labels)) == {0, 2}
    assert [output for output, _ in resampled] == [0, 2]
    (_, rows, columns) = resampled[1][1]
    assert rows.stop - rows.start <= 64
    assert columns.stop - columns.start <= 64


def test_label_slices_gives_ties_to_the_first_class() -> None:
    """The maps are constant: sums of weights differ in their last digits from place to place."""
    frame = frame_slice((50, 70), (1.0, 1.0), 1.0, ENLARGING, 32)
    size = [length // STRIDE for length in frame.canvas]
    maps = torch.tensor([0.2, 0.4, 0.4]).view(3, 1, 1, 1).expand(3, 6, *size)
    labels: np.ndarray = np.empty(SHAPE, np.uint8)
    label_slices(CLASSES, ViewMaps(maps, 0, frame, STRIDE, CPU), labels)
    assert (labels == 1).all()


def test_cut_gives_ranges_that_cover_the_whole() -> None:
    assert cut(slice(3, 10), 3) == [slice(3, 6), slice(6, 9), slice(9, 10)]
    assert cut(slice(0, 2), 0) == [slice(0, 1), slice(1, 2)]
