from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from builders.tiny import FakeNetwork, make_configuration, make_volume, thresholds
from scipy import ndimage
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from samnet.dataset.label_scheme import Regions
from samnet.inference import volume as volume_module
from samnet.inference.slices import SlicePredictor
from samnet.inference.volume import predict_volume
from samnet.plan.configuration import IntensityWindow
from samnet.preprocessing.case import PreparedVolume
from samnet.preprocessing.channels import compose_channels, slice_indices
from samnet.preprocessing.intensity import apply_window
from samnet.preprocessing.slice_frame import tile_starts, tile_weights

LEVELS = [0.3, 0.5, 0.7]


def smooth_volume(
    shape: tuple[int, int, int] = (9, 22, 26), spacing: tuple = (1.0, 1.0, 1.0)
) -> PreparedVolume:
    noise = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=shape), 1.5)
    return make_volume((127 + 300 * noise).clip(1, 255).astype(np.float32), spacing)


def configure(axis: int = 0, views: tuple[int, ...] | None = None, **changes: Any) -> Any:
    return make_configuration(slicing_axis=axis, views=views or (axis,), **changes)


def naive_probabilities(
    network: Any,
    configuration: Any,
    volume: PreparedVolume,
    axis: int,
    regions: Regions | None = None,
) -> Tensor:
    """`(K, Z, Y, X)` of one view, all classes or regions at native size."""
    predictor = SlicePredictor(
        [network], configuration, volume, axis, mirror=False, regions=regions
    )
    maps = predictor.probabilities(0, volume.array.shape[axis + 1])
    return predictor.frame.from_canvas(maps, network.stride).moveaxis(1, axis + 1)


@pytest.mark.parametrize("slab_bytes", [1, 40_000, 2**27])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_one_view_is_the_same_in_slabs_of_any_size(
    monkeypatch: pytest.MonkeyPatch, axis: int, slab_bytes: int
) -> None:
    monkeypatch.setattr(volume_module, "SLAB_BYTES", slab_bytes)
    volume, configuration, network = (
        smooth_volume(spacing=(1.0, 1.2, 0.9)),
        configure(axis),
        thresholds(LEVELS, 2),
    )
    labels = predict_volume([network], configuration, volume, mirror=False)
    expected = naive_probabilities(network, configuration, volume, axis).argmax(0)
    assert labels.dtype == np.uint8
    assert set(np.unique(labels)) == {0, 1, 2}
    assert np.array_equal(labels, expected)


@pytest.mark.parametrize("slab_bytes", [1, 2**27])
@pytest.mark.parametrize("view_bytes", [0, 2**29], ids=["in a file", "in memory"])
def test_three_views_are_averaged_as_probabilities(
    monkeypatch: pytest.MonkeyPatch, slab_bytes: int, view_bytes: int
) -> None:
    monkeypatch.setattr(volume_module, "SLAB_BYTES", slab_bytes)
    monkeypatch.setattr(volume_module, "VIEW_BYTES", view_bytes)
    volume, configuration, network = (
        smooth_volume(),
        configure(views=(0, 1, 2)),
        thresholds(LEVELS, 4),
    )
    labels = predict_volume([network], configuration, volume, mirror=False)
    mean = torch.stack(
        [naive_probabilities(network, configuration, volume, axis) for axis in (0, 1, 2)]
    ).mean(0)
    highest = mean.topk(2, dim=0)
    clear = (
        highest.values[0] - highest.values[1] > 2e-3
    ).numpy()  # the maps wait in half precision
    assert clear.mean() > 0.98
    assert np.array_equal(labels[clear], highest.indices[0].numpy()[clear])
    single = predict_volume([network], configure(), volume, mirror=False)
    assert not np.array_equal(labels, single)


def position_network(stride: int) -> FakeNetwork:
    """Logits that depend on the place in the input alone, and in no symmetric way."""

    def logits(images: Tensor) -> Tensor:
        size = images.shape[-1] // stride
        rows = torch.linspace(-2, 2, size)[:, None].expand(size, size)
        return torch.stack([rows, 0.5 * rows.T**2, torch.zeros(size, size)]).expand(
            len(images), -1, -1, -1
        )

    return FakeNetwork(stride, logits)


@pytest.mark.parametrize("stride", [1, 2, 4])
@pytest.mark.parametrize("size", [(20, 26), (50, 26), (70, 100)])
def test_tiles_cover_the_canvas_and_their_weights_add_up_to_one(
    size: tuple[int, int], stride: int
) -> None:
    volume, network = smooth_volume((2, *size)), position_network(stride)
    predictor = SlicePredictor([network], configure(), volume, 0, mirror=False)
    found = predictor.probabilities(0, 2)
    assert torch.allclose(found.sum(0), torch.ones(()), atol=1e-5)

    one_tile = network(torch.zeros(1, 3, 32, 32)).softmax(1)[0]
    total = torch.zeros(3, *(length // stride for length in predictor.frame.canvas))
    norm = torch.zeros(total.shape[1:])
    for row, column in itertools.product(
        *(tile_starts(length, 32, 0.5) for length in predictor.frame.canvas)
    ):
        place = (
            slice(row // stride, (row + 32) // stride),
            slice(column // stride, (column + 32) // stride),
        )
        total[:, place[0], place[1]] += one_tile * tile_weights(32 // stride)
        norm[place] += tile_weights(32 // stride)
    assert norm.min() > 0
    for index in (0, 1):
        assert torch.allclose(found[:, index], total / norm, atol=1e-6)


def test_what_a_tile_sees_does_not_depend_on_the_tiling() -> None:
    volume, network = smooth_volume((2, 70, 100)), thresholds(LEVELS, 2)
    predictor = SlicePredictor([network], configure(), volume, 0, mirror=False)
    whole = network(predictor.canvases(0, 2)).softmax(1)
    assert torch.allclose(predictor.probabilities(0, 2), whole.transpose(0, 1), atol=1e-5)


@pytest.mark.parametrize(
    ("layout", "channels"), [("neighbours", 1), ("repeat", 1), ("pair_mean", 2), ("as_is", 3)]
)
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_slices_resampled_together_are_those_composed_and_resampled_one_by_one(
    axis: int, layout: str, channels: int
) -> None:
    array = np.random.default_rng(0).uniform(0, 255, (channels, 7, 9, 8)).astype(np.float32)
    volume = replace(
        smooth_volume((7, 9, 8), (1.0, 1.2, 0.9)), array=array, quantiles=np.zeros((channels, 201))
    )
    configuration = configure(
        axis, channel_layout=layout, intensity=(IntensityWindow("fixed", 0, 200),) * channels
    )
    predictor = SlicePredictor([thresholds(LEVELS, 2)], configuration, volume, axis, mirror=False)
    slices, count = np.moveaxis(array, axis + 1, 0), array.shape[axis + 1]
    for start, stop in ((0, count), (0, 1), (2, 4), (count - 1, count)):
        found = predictor.canvases(start, stop)
        for index, canvas in zip(range(start, stop), found, strict=True):
            windowed = apply_window(slices[slice_indices(layout, index, count)], predictor.bounds)
            image = torch.from_numpy(np.ascontiguousarray(compose_channels(windowed, layout)))
            assert torch.allclose(canvas, predictor.frame.to_canvas(image), atol=1e-6)


def counting_network() -> tuple[FakeNetwork, list[int]]:
    """A network whose answer to nothing is not nothing, and the sizes of the batches it is given."""
    batches: list[int] = []

    def logits(images: Tensor) -> Tensor:
        batches.append(len(images))
        mean = images.mean(1, keepdim=True)
        ramp = torch.linspace(0, 1, images.shape[-1]).expand(*images.shape[-2:])
        return torch.cat([0.3 + 0 * mean, mean + 0.5 * ramp], dim=1)

    return FakeNetwork(1, logits), batches


@pytest.mark.parametrize("empty", [[], [1], [0, 1, 5], [2, 3, 4, 5], list(range(6))])
def test_empty_inputs_are_looked_at_once(empty: list[int]) -> None:
    network, batches = counting_network()
    predictor = SlicePredictor(
        [network], configure(mirror_axes=(2,)), smooth_volume(), 0, mirror=True
    )
    canvases = torch.rand(6, 3, 32, 32)
    canvases[empty] = 0
    found = predictor.predict(canvases)
    assert sum(batches) == 2 * (6 - len(empty) + bool(empty))
    both = [network(canvases).softmax(1), network(canvases.flip(-1)).softmax(1).flip(-1)]
    assert torch.allclose(found.transpose(0, 1), torch.stack(both).mean(0), atol=1e-6)


def test_all_mirrors_of_an_input_make_one_batch() -> None:
    network, batches = counting_network()
    predictor = SlicePredictor(
        [network], configure(mirror_axes=(1, 2)), smooth_volume(), 0, mirror=True
    )
    predictor.predict(torch.rand(5, 3, 32, 32))
    assert batches == [4] * 5


@pytest.mark.parametrize(
    ("axes", "flips"), [((), []), ((1,), [-2]), ((2,), [-1]), ((0, 1, 2), [-2, -1]), ((0,), [])]
)
def test_mirrors_are_averaged_over_the_allowed_axes(
    axes: tuple[int, ...], flips: list[int]
) -> None:
    network = position_network(2)
    predictor = SlicePredictor(
        [network], configure(mirror_axes=axes), smooth_volume(), 0, mirror=True
    )
    one = network(torch.zeros(1, 3, 32, 32)).softmax(1)[0]
    combinations = [
        combination for count in range(3) for combination in itertools.combinations(flips, count)
    ]
    expected = torch.stack([one.flip(combination) for combination in combinations]).mean(0)
    assert torch.allclose(predictor.probabilities(0, 1)[:, 0], expected, atol=1e-6)
    unmirrored = SlicePredictor(
        [network], configure(mirror_axes=axes), smooth_volume(), 0, mirror=False
    )
    assert torch.allclose(unmirrored.probabilities(0, 1)[:, 0], one, atol=1e-6)


def test_several_networks_are_averaged_as_probabilities() -> None:
    def constant(*probabilities: float) -> FakeNetwork:
        logits = torch.tensor(probabilities).log()[None, :, None, None]
        return FakeNetwork(4, lambda images: logits.expand(len(images), -1, 8, 8))

    networks = [constant(0.98, 0.02), constant(0.3, 0.7), constant(0.3, 0.7)]
    predictor = SlicePredictor(networks, configure(), smooth_volume(), 0, mirror=True)
    assert torch.allclose(predictor.probabilities(0, 3)[0], torch.tensor((0.98 + 0.3 + 0.3) / 3))
    labels = predict_volume(networks, configure(), smooth_volume(), mirror=False)
    assert (
        not labels.any()
    )  # two of three vote for class 1, and logits would too with less certainty


@pytest.mark.parametrize("views", [(0,), (0, 1, 2)])
@pytest.mark.parametrize(("count", "kind"), [(256, np.uint8), (257, np.uint16), (300, np.uint16)])
def test_many_classes_need_a_wider_type(views: tuple[int, ...], count: int, kind: type) -> None:
    volume, network = (
        smooth_volume((3, 8, 10)),
        thresholds(np.linspace(0, 1, count).tolist(), 4, sharpness=500),
    )
    labels = predict_volume([network], configure(views=views), volume, mirror=False)
    assert labels.dtype == kind
    assert labels.max() > 128


class LargestTensor(TorchDispatchMode):
    """Notes the size of the largest tensor that any operation gives while the mode is on."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(
        self, function: Any, types: Any, arguments: Any = (), options: Any = None
    ) -> Any:
        result = function(*arguments, **(options or {}))
        for tensor in result if isinstance(result, (tuple, list)) else [result]:
            if isinstance(tensor, Tensor):
                self.bytes = max(self.bytes, tensor.numel() * tensor.element_size())
        return result


@pytest.mark.parametrize(
    ("shape", "views"),
    [((24, 64, 60), (0,)), ((24, 64, 60), (0, 1, 2)), ((1, 400, 300), (0,))],
    ids=["one view", "three views", "one large slice"],
)
def test_all_classes_never_exist_at_native_size(
    monkeypatch: pytest.MonkeyPatch, shape: tuple[int, int, int], views: tuple[int, ...]
) -> None:
    """With 60 classes the largest tensor is the image of three channels or smaller, unlike its probabilities."""
    count = 60
    monkeypatch.setattr(volume_module, "SLAB_BYTES", 2**18)
    volume = smooth_volume(shape)
    network = thresholds(np.linspace(0, 1, count).tolist(), 4)
    configuration = configure(views=views, zoom=0.5, input_size=32)
    with LargestTensor() as largest:
        predict_volume([network], configuration, volume, mirror=False)
    assert largest.bytes <= 3 * volume.array.nbytes == count * volume.array.nbytes / 20


NESTED = Regions(((1, 2, 3), (2, 3), (3,)), (1, 3, 2))  # the innermost is written as 2


def region_network(stride: int, levels: list[float], sharpness: float = 20.0) -> FakeNetwork:
    """Region k is where the image, averaged over `stride` pixels, is brighter than `levels[k]`."""

    def logits(images: Tensor) -> Tensor:
        values = torch.nn.functional.avg_pool2d(images[:, :1], stride)
        return sharpness * (values - torch.tensor(levels)[:, None, None])

    return FakeNetwork(stride, logits)


def drawn_in_order(probabilities: Tensor, class_order: tuple[int, ...]) -> np.ndarray:
    labels = np.zeros(probabilities.shape[1:], np.uint8)
    for label, probability in zip(class_order, probabilities, strict=True):
        labels[probability.numpy() > 0.5] = label
    return labels


@pytest.mark.parametrize("slab_bytes", [1, 2**27])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_regions_are_written_over_each_other(
    monkeypatch: pytest.MonkeyPatch, axis: int, slab_bytes: int
) -> None:
    monkeypatch.setattr(volume_module, "SLAB_BYTES", slab_bytes)
    volume, configuration, network = smooth_volume(), configure(axis), region_network(2, LEVELS)
    labels = predict_volume([network], configuration, volume, mirror=False, regions=NESTED)
    expected = drawn_in_order(
        naive_probabilities(network, configuration, volume, axis, NESTED), NESTED.class_order
    )
    assert labels.dtype == np.uint8
    assert set(np.unique(labels)) == {0, 1, 2, 3}
    assert np.array_equal(labels, expected)


@pytest.mark.parametrize("view_bytes", [0, 2**29], ids=["in a file", "in memory"])
def test_regions_of_three_views_are_averaged_as_probabilities(
    monkeypatch: pytest.MonkeyPatch, view_bytes: int
) -> None:
    monkeypatch.setattr(volume_module, "VIEW_BYTES", view_bytes)
    volume, configuration, network = (
        smooth_volume(),
        configure(views=(0, 1, 2)),
        region_network(4, [0.4, 0.5, 0.56]),
    )
    labels = predict_volume([network], configuration, volume, mirror=False, regions=NESTED)
    views = [
        naive_probabilities(network, configuration, volume, axis, NESTED) for axis in (0, 1, 2)
    ]
    mean = torch.stack(views).mean(0)
    clear = ((mean - 0.5).abs() > 2e-3).all(0).numpy()  # the maps wait in half precision
    assert clear.mean() > 0.95
    assert np.array_equal(labels[clear], drawn_in_order(mean, NESTED.class_order)[clear])
    assert set(np.unique(labels)) == {0, 1, 2, 3}


def test_regions_are_averaged_over_mirrors_and_networks_as_probabilities() -> None:
    def constant(*probabilities: float) -> FakeNetwork:
        logits = torch.tensor(probabilities).logit()[None, :, None, None]
        return FakeNetwork(4, lambda images: logits.expand(len(images), -1, 8, 8))

    networks = [constant(0.99, 0.6), constant(0.3, 0.3)]
    regions = Regions(((1, 2), (2,)), (1, 2))
    predictor = SlicePredictor(
        networks, configure(mirror_axes=(1, 2)), smooth_volume(), 0, mirror=True, regions=regions
    )
    means = predictor.probabilities(0, 3).amax((1, 2, 3))
    assert torch.allclose(means, torch.tensor([0.645, 0.45]))
    labels = predict_volume(networks, configure(), smooth_volume(), mirror=False, regions=regions)
    assert (labels == 1).all()


def test_a_single_region_is_the_class_against_background() -> None:
    """The network of classes says 0 for the background, where the region's has a logit alone."""
    region, volume = region_network(2, [0.5]), smooth_volume()
    classes = FakeNetwork(
        2, lambda images: torch.nn.functional.pad(region(images), (0, 0, 0, 0, 1, 0))
    )
    as_region = predict_volume(
        [region], configure(), volume, mirror=False, regions=Regions(((1, 2),), (1,))
    )
    as_class = predict_volume([classes], configure(), volume, mirror=False)
    assert 0.1 < as_class.mean() < 0.9
    assert (as_region != as_class).mean() < 1e-3  # rounding where a half is met


def test_all_regions_never_exist_at_native_size(monkeypatch: pytest.MonkeyPatch) -> None:
    count = 60
    monkeypatch.setattr(volume_module, "SLAB_BYTES", 2**18)
    volume = smooth_volume((24, 64, 60))
    regions = Regions(tuple((value, 300) for value in range(1, count + 1)), (*range(1, count), 300))
    network = region_network(4, np.linspace(0, 1, count).tolist())
    with LargestTensor() as largest:
        labels = predict_volume(
            [network], configure(zoom=0.5), volume, mirror=False, regions=regions
        )
    assert labels.dtype == np.uint16
    assert largest.bytes <= 3 * volume.array.nbytes
