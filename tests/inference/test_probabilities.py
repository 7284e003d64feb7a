"""Probabilities of whole volumes on the grids of their images."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from builders.memory import LargestTensor
from builders.tiny import TWO_CLASSES, FakeNetwork, thresholds
from builders.volumes import LEVELS, configure, slice_predictor, smooth_volume

from samnet.core.geometry import Grid
from samnet.dataset.label_scheme import LabelScheme
from samnet.inference.native_views import VolumeMaps
from samnet.inference.out_of_memory import PredictionMemory
from samnet.inference.probabilities import VolumeProbabilities
from samnet.inference.reconstruction import ViewMaps
from samnet.inference.volume import predict_volume
from samnet.plan.configuration import Configuration
from samnet.preprocessing.case import PreparedVolume, prepare_volume

# The axes Z, Y, X of the file run to the left, to the front and to the feet.
TURNED = np.array([[0, 0, -1.3, 9], [0, 1.0, 0, 0], [-0.8, 0, 0, 4], [0, 0, 0, 1]], float)
MEMORY = PredictionMemory(torch.device("cpu"))


def turned_volume(orientation: str = "patient") -> PreparedVolume:
    """Return smooth noise on a turned grid, with a border of zeros that is cropped away."""
    array = np.zeros((1, 13, 20, 11), np.float32)
    array[:, 2:, 1:-3, :-2] = smooth_volume((11, 16, 9)).array
    return prepare_volume(array, Grid((13, 20, 11), TURNED), orientation=orientation)


def predict(
    network: FakeNetwork,
    configuration: Configuration,
    volume: PreparedVolume,
    *,
    label_scheme: LabelScheme = TWO_CLASSES,
    slab_bytes: int = 2**27,
) -> tuple[np.ndarray, VolumeProbabilities]:
    """Return the labels on the volume's own voxels, and the probabilities on the native grid."""
    kept: list[ViewMaps] = []
    labels = predict_volume(
        [network], configuration, volume, mirror=False, label_scheme=label_scheme, kept=kept
    )
    maps = [VolumeMaps.of(volume, kept)]
    return labels, VolumeProbabilities(maps, label_scheme, MEMORY, slab_bytes)


def naive_array(
    network: FakeNetwork, configuration: Configuration, volume: PreparedVolume
) -> np.ndarray:
    """Return the probabilities `(K, Z, Y, X)` on the native grid, of all classes at once."""
    views = []
    for axis in configuration.views:
        predictor = slice_predictor(network, volume, configuration, axis)
        maps = predictor.probabilities(0, volume.array.shape[axis + 1])
        on_slices = predictor.frame.from_canvas(maps, network.stride)
        views.append(on_slices.moveaxis(1, axis + 1))
    mean = torch.stack(views).mean(0).numpy()
    whole = np.zeros((len(mean), *volume.reorientation.canonical_grid.shape), np.float32)
    whole[0] = 1
    whole[(slice(None), *volume.box.slices)] = mean
    return volume.reorientation.to_native(whole)


@pytest.mark.parametrize("slab_bytes", [1, 2**27])
@pytest.mark.parametrize("orientation", ["patient", "file", "file_transposed", "LPS"])
@pytest.mark.parametrize("views", [(0,), (2,), (0, 1, 2)])
def test_probabilities_are_those_of_all_classes_resampled_at_once(
    views: tuple[int, ...], orientation: str, slab_bytes: int
) -> None:
    volume, network = turned_volume(orientation), thresholds(LEVELS, 2)
    configuration = configure(views[0], views)
    _, probabilities = predict(network, configuration, volume, slab_bytes=slab_bytes)
    found, expected = probabilities.array(), naive_array(network, configuration, volume)
    assert probabilities.shape == found.shape == (3, 13, 20, 11)
    assert found.dtype == np.float16
    assert np.ptp(expected[1]) > 0.5
    # The maps and the result are in half precision.
    assert np.abs(found - expected).max() < 1e-3
    in_parts = np.concatenate(list(probabilities.slabs()))
    assert np.array_equal(in_parts, found.reshape(in_parts.shape))


@pytest.mark.parametrize("views", [(0,), (0, 1, 2)])
def test_labels_are_the_same_with_probabilities_as_without(views: tuple[int, ...]) -> None:
    volume, network, configuration = turned_volume(), thresholds(LEVELS, 2), configure(views=views)
    labels, probabilities = predict(network, configuration, volume)
    without = predict_volume(
        [network], configuration, volume, mirror=False, label_scheme=TWO_CLASSES
    )
    assert np.array_equal(labels, without)
    assert len(np.unique(labels)) == 3
    # The maps of a single view are rounded for the probabilities, and not for its labels.
    differing = volume.restore(labels) != probabilities.labels()
    assert differing.mean() < 0.01


def test_probabilities_of_regions_are_0_where_nothing_was_predicted() -> None:
    scheme = LabelScheme({"background": 0, "whole": (1, 2), "core": 2}, regions_class_order=(1, 2))
    network = FakeNetwork(2, lambda images: 9 + torch.zeros(len(images), 2, 16, 16))
    volume = turned_volume()
    _, probabilities = predict(network, configure(), volume, label_scheme=scheme)
    inside = volume.restore(np.ones(volume.box.shape, np.uint8)) == 1
    array = probabilities.array()
    assert not inside.all()
    assert (array[:, inside] > 0.99).all()
    assert not array[:, ~inside].any()
    assert np.array_equal(probabilities.labels(), 2 * inside)


@pytest.mark.parametrize("views", [(0,), (0, 1, 2)])
def test_probabilities_of_all_classes_never_exist_at_native_size(views: tuple[int, ...]) -> None:
    """The largest tensor is at most as large as the image of three channels.

    The probabilities of the 60 classes in half precision would be 10 times as large.
    """
    count, slab_bytes, volume = 60, 2**18, smooth_volume((24, 64, 60))
    network = thresholds(np.linspace(0, 1, count).tolist(), 4)
    configuration = configure(views=views, zoom=0.5, input_size=32)
    with LargestTensor() as largest:
        _, probabilities = predict(network, configuration, volume, slab_bytes=slab_bytes)
        sizes = [slab.nbytes for slab in probabilities.slabs()]
    assert sum(sizes) == 2 * count * volume.array[0].size
    assert max(sizes) <= slab_bytes / 2
    assert largest.bytes <= 3 * volume.array.nbytes
