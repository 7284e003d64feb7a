"""Label maps of whole volumes: slabs, views, networks and regions."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from builders.memory import LargestTensor
from builders.numerics import MARGIN, assert_close_to_norm, assert_same_winners
from builders.tiny import TWO_CLASSES, FakeNetwork, make_volume, thresholds
from builders.volumes import LEVELS, ROUNDED, configure, slice_predictor, smooth_volume
from torch import Tensor

from samnet.core import progress, progress_line
from samnet.core.progress import ProgressBar
from samnet.dataset.label_scheme import LabelScheme
from samnet.inference.slices import SlicePredictor
from samnet.inference.volume import predict_volume
from samnet.plan.configuration import Configuration
from samnet.preprocessing.case import PreparedVolume

# The innermost region is written as 2.
NESTED = LabelScheme(
    {"background": 0, "whole": (1, 2, 3), "core": (2, 3), "centre": 3},
    regions_class_order=(1, 3, 2),
)


def predict(
    network: FakeNetwork,
    volume: PreparedVolume,
    configuration: Configuration | None = None,
    *,
    label_scheme: LabelScheme = TWO_CLASSES,
    **sizes: int,
) -> np.ndarray:
    """Predict with one network, without mirrors; sizes are those of slabs or views in bytes."""
    configuration = configuration or configure()
    return predict_volume(
        [network], configuration, volume, mirror=False, label_scheme=label_scheme, **sizes
    )


def naive_probabilities(
    network: FakeNetwork,
    configuration: Configuration,
    volume: PreparedVolume,
    axis: int,
    label_scheme: LabelScheme = TWO_CLASSES,
) -> Tensor:
    """Return `(K, Z, Y, X)` of one view, all classes or regions at native size."""
    predictor = slice_predictor(network, volume, configuration, axis, label_scheme=label_scheme)
    maps = predictor.probabilities(0, volume.array.shape[axis + 1])
    return predictor.frame.from_canvas(maps, network.stride).moveaxis(1, axis + 1)


def mean_of_three_views(
    network: FakeNetwork,
    configuration: Configuration,
    volume: PreparedVolume,
    label_scheme: LabelScheme = TWO_CLASSES,
) -> Tensor:
    """Return `(K, Z, Y, X)`, all classes or regions at native size."""
    views = []
    for axis in (0, 1, 2):
        views.append(naive_probabilities(network, configuration, volume, axis, label_scheme))
    return torch.stack(views).mean(0)


@pytest.mark.parametrize("slab_bytes", [1, 40_000, 2**27])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_predict_volume_gives_the_same_in_slabs_of_any_size(axis: int, slab_bytes: int) -> None:
    volume, configuration = smooth_volume(spacing=(1.0, 1.2, 0.9)), configure(axis)
    network = thresholds(LEVELS, 2)
    labels = predict(network, volume, configuration, slab_bytes=slab_bytes)
    probabilities = naive_probabilities(network, configuration, volume, axis)
    assert labels.dtype == np.uint8
    assert set(np.unique(labels)) == {0, 1, 2}
    assert_same_winners(labels, probabilities)


@pytest.mark.parametrize("frame", ["stretch", "splines"])
@pytest.mark.parametrize("views", [(0,), (0, 1, 2)], ids=["one view", "three views"])
def test_predict_volume_of_stretched_slices_is_that_of_the_whole_volume(
    frame: str, views: tuple[int, ...]
) -> None:
    """What was cropped is 0 in the file, and predicted as if it had not been cropped."""
    whole = np.zeros((8, 26, 30), np.float32)
    whole[1:7, 3:22, 2:28] = smooth_volume((6, 19, 26)).array[0]
    cropped = make_volume(whole)
    assert cropped.array.shape == (1, 6, 19, 26)
    whole[whole == 0] = 1e-5  # not cropped
    configuration, network = configure(views=views, frame=frame), thresholds(LEVELS, 2)
    expected = predict(network, make_volume(whole), configuration)[cropped.box.slices]
    found = predict(network, cropped, configuration)
    assert len(np.unique(found)) == 3
    assert (found == expected).mean() > 0.999


@pytest.mark.parametrize("slab_bytes", [1, 2**27])
@pytest.mark.parametrize("view_bytes", [0, 2**29], ids=["in a file", "in memory"])
def test_predict_volume_averages_three_views_as_probabilities(
    slab_bytes: int, view_bytes: int
) -> None:
    volume, configuration = smooth_volume(), configure(views=(0, 1, 2))
    network = thresholds(LEVELS, 4)
    labels = predict(network, volume, configuration, slab_bytes=slab_bytes, view_bytes=view_bytes)
    mean = mean_of_three_views(network, configuration, volume)
    # The maps wait in half precision.
    assert_same_winners(labels, mean, margin=2e-3, clear_share=0.98)
    single = predict(network, volume)
    assert not np.array_equal(labels, single)


@pytest.mark.skipif(os.name != "posix", reason="all views are kept in memory")
def test_predict_volume_keeps_large_views_in_temporary_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    volume, configuration = smooth_volume(), configure(views=(0, 1, 2))
    network = thresholds(LEVELS, 4)
    in_memory = predict(network, volume, configuration)
    in_files = predict(network, volume, configuration, view_bytes=0)
    assert np.array_equal(in_files, in_memory)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "absent"))
    assert np.array_equal(predict(network, volume, configuration), in_memory)
    with pytest.raises(FileNotFoundError, match="absent"):
        predict(network, volume, configuration, view_bytes=0)


def test_predict_volume_averages_several_networks_as_probabilities() -> None:
    def constant(*probabilities: float) -> FakeNetwork:
        logits = torch.tensor(probabilities).log()[None, :, None, None]
        return FakeNetwork(4, lambda images: logits.expand(len(images), -1, 8, 8))

    networks = [constant(0.98, 0.02), constant(0.3, 0.7), constant(0.3, 0.7)]
    predictor = SlicePredictor(
        networks, configure(), smooth_volume(), 0, mirror=True, label_scheme=TWO_CLASSES
    )
    found = predictor.probabilities(0, 3)[0]
    assert_close_to_norm(found, torch.full(found.shape, (0.98 + 0.3 + 0.3) / 3), ROUNDED)
    labels = predict_volume(
        networks, configure(), smooth_volume(), mirror=False, label_scheme=TWO_CLASSES
    )
    # Two of three vote for class 1, and logits would too with less certainty.
    assert not labels.any()


@pytest.mark.parametrize("views", [(0,), (0, 1, 2)])
@pytest.mark.parametrize(("count", "kind"), [(256, np.uint8), (257, np.uint16), (300, np.uint16)])
def test_predict_volume_writes_many_classes_in_a_wider_type(
    views: tuple[int, ...], count: int, kind: type
) -> None:
    network = thresholds(np.linspace(0, 1, count).tolist(), 4, sharpness=500)
    labels = predict(network, smooth_volume((3, 8, 10)), configure(views=views))
    assert labels.dtype == kind
    assert labels.max() > 128


@pytest.mark.parametrize(
    ("shape", "views"),
    [((24, 64, 60), (0,)), ((24, 64, 60), (0, 1, 2)), ((1, 400, 300), (0,))],
    ids=["one view", "three views", "one large slice"],
)
def test_predict_volume_never_holds_all_classes_at_native_size(
    shape: tuple[int, int, int], views: tuple[int, ...]
) -> None:
    """The largest tensor is at most as large as the image of three channels.

    The probabilities of the 60 classes would be 20 times as large.
    """
    count = 60
    volume = smooth_volume(shape)
    network = thresholds(np.linspace(0, 1, count).tolist(), 4)
    configuration = configure(views=views, zoom=0.5, input_size=32)
    with LargestTensor() as largest:
        predict(network, volume, configuration, slab_bytes=2**18)
    assert largest.bytes <= 3 * volume.array.nbytes == count * volume.array.nbytes / 20


def region_network(stride: int, levels: list[float], sharpness: float = 20.0) -> FakeNetwork:
    """Return a network that finds region k where an image is brighter than `levels[k]`.

    The image is averaged over `stride` pixels.
    """

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
def test_predict_volume_writes_regions_over_each_other(axis: int, slab_bytes: int) -> None:
    volume, configuration, network = smooth_volume(), configure(axis), region_network(2, LEVELS)
    labels = predict(network, volume, configuration, label_scheme=NESTED, slab_bytes=slab_bytes)
    probabilities = naive_probabilities(network, configuration, volume, axis, NESTED)
    clear = ((probabilities - 0.5).abs() > MARGIN).all(0).numpy()
    assert clear.mean() > 0.999
    expected = drawn_in_order(probabilities, NESTED.regions_class_order)
    assert labels.dtype == np.uint8
    assert set(np.unique(labels)) == {0, 1, 2, 3}
    assert np.array_equal(labels[clear], expected[clear])


@pytest.mark.parametrize("view_bytes", [0, 2**29], ids=["in a file", "in memory"])
def test_predict_volume_averages_regions_of_three_views_as_probabilities(view_bytes: int) -> None:
    volume, configuration = smooth_volume(), configure(views=(0, 1, 2))
    network = region_network(4, [0.4, 0.5, 0.56])
    labels = predict(network, volume, configuration, label_scheme=NESTED, view_bytes=view_bytes)
    mean = mean_of_three_views(network, configuration, volume, NESTED)
    clear = ((mean - 0.5).abs() > 2e-3).all(0).numpy()  # the maps wait in half precision
    assert clear.mean() > 0.95
    expected = drawn_in_order(mean, NESTED.regions_class_order)
    assert np.array_equal(labels[clear], expected[clear])
    assert set(np.unique(labels)) == {0, 1, 2, 3}


def test_predict_volume_averages_regions_over_mirrors_and_networks_as_probabilities() -> None:
    def constant(*probabilities: float) -> FakeNetwork:
        logits = torch.tensor(probabilities).logit()[None, :, None, None]
        return FakeNetwork(4, lambda images: logits.expand(len(images), -1, 8, 8))

    networks = [constant(0.99, 0.6), constant(0.3, 0.3)]
    regions = LabelScheme({"background": 0, "whole": (1, 2), "core": 2}, regions_class_order=(1, 2))
    mirrored = configure(mirror_axes=(1, 2))
    predictor = SlicePredictor(
        networks, mirrored, smooth_volume(), 0, mirror=True, label_scheme=regions
    )
    means = predictor.probabilities(0, 3).amax((1, 2, 3))
    assert_close_to_norm(means, torch.tensor([0.645, 0.45]), ROUNDED)
    labels = predict_volume(
        networks, configure(), smooth_volume(), mirror=False, label_scheme=regions
    )
    assert (labels == 1).all()


def test_predict_volume_treats_a_single_region_as_a_class_against_background() -> None:
    """The network of classes has the logit 0 for the background, that of the region has none."""
    region, volume = region_network(2, [0.5]), smooth_volume()

    def with_background(images: Tensor) -> Tensor:
        return torch.nn.functional.pad(region(images), (0, 0, 0, 0, 1, 0))

    scheme = LabelScheme({"background": 0, "whole": (1, 2)}, regions_class_order=(1,))
    as_region = predict(region, volume, label_scheme=scheme)
    as_class = predict(FakeNetwork(2, with_background), volume)
    assert 0.1 < as_class.mean() < 0.9
    assert (as_region != as_class).mean() < 1e-3  # rounding where a half is met


def test_predict_volume_never_holds_all_regions_at_native_size() -> None:
    count = 60
    volume = smooth_volume((24, 64, 60))
    labels_by_name = {f"region {value}": (value, 300) for value in range(1, count + 1)}
    regions = LabelScheme(
        {"background": 0, **labels_by_name}, regions_class_order=(*range(1, count), 300)
    )
    network = region_network(4, np.linspace(0, 1, count).tolist())
    with LargestTensor() as largest:
        labels = predict(
            network, volume, configure(zoom=0.5), label_scheme=regions, slab_bytes=2**18
        )
    assert labels.dtype == np.uint16
    assert largest.bytes <= 3 * volume.array.nbytes


@pytest.mark.parametrize("views", [(0,), (0, 1, 2)], ids=["one view", "three views"])
def test_open_progress_bar_shows_every_slice(
    views: tuple[int, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also where a slice is done in tiles, each of which counts as a part of it."""
    for owner, name in (
        (progress, "PART_SECONDS"),
        (progress_line, "LINE_SECONDS"),
        (progress_line, "LINE_SHARE"),
    ):
        monkeypatch.setattr(owner, name, 0.0)
    volume = smooth_volume()
    with ProgressBar(total=1, desc="predicting") as bar:
        predict(thresholds(LEVELS, 2), volume, configure(views=views))
        bar.update()
    number = sum(volume.array.shape[axis + 1] for axis in views)
    printed = capsys.readouterr().err
    assert f"predicting: 100%, 1/1, 00:00 passed, 00:00 left, slice {number}/{number}" in printed
