"""From slice probabilities to a label volume, slab by slab: all classes never exist at once for a whole volume."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from samnet.inference.slices import SlicePredictor
from samnet.models.network import SegmentationNetwork
from samnet.planning.configuration import Configuration
from samnet.preprocessing.case import PreparedVolume

SLAB_BYTES = 128 * 2**20


def predict_volume(
    networks: Sequence[SegmentationNetwork], configuration: Configuration, volume: PreparedVolume, *, mirror: bool
) -> np.ndarray:
    """The label map `(Z, Y, X)` of a prepared volume, on its own voxels.

    Several views are averaged as probabilities. With one view slices are reduced to labels as they come; with several,
    their probabilities wait at the networks' output resolution in half precision.
    """
    predictors = {
        axis: SlicePredictor(networks, configuration, volume, axis, mirror=mirror) for axis in configuration.views
    }
    shape = volume.array.shape[1:]
    if len(predictors) == 1:
        return _predict_single_view(configuration.slicing_axis, predictors[configuration.slicing_axis], shape)
    stored = {axis: _all_probabilities(predictor) for axis, predictor in predictors.items()}
    return _reduce_views(predictors, stored, shape)


def _predict_single_view(axis: int, predictor: SlicePredictor, shape: tuple[int, ...]) -> np.ndarray:
    count = shape[axis]
    labels: np.ndarray | None = None
    chunk, start = 1, 0
    while start < count:
        stop = min(start + chunk, count)
        maps = predictor.probabilities(start, stop)
        winners = _argmax(predictor.frame.from_canvas(maps, predictor.stride))
        if labels is None:  # the number of classes is known from the first slice on
            labels = np.zeros((count, *winners.shape[1:]), winners.dtype)
            bytes_a_slice = 4 * maps.shape[0] * int(np.prod(winners.shape[1:])) // max(1, stop - start)
            chunk = max(1, min(64, SLAB_BYTES // max(1, bytes_a_slice)))
        labels[start:stop] = winners
        start = stop
    assert labels is not None
    return np.moveaxis(labels, 0, axis)


def _all_probabilities(predictor: SlicePredictor) -> Tensor:
    count, chunk = len(predictor.slices), 16
    parts = [predictor.probabilities(start, min(start + chunk, count)).half() for start in range(0, count, chunk)]
    return torch.cat(parts, dim=1)


def _reduce_views(
    predictors: dict[int, SlicePredictor], stored: dict[int, Tensor], shape: tuple[int, ...]
) -> np.ndarray:
    num_outputs = next(iter(stored.values())).shape[0]
    slab = max(1, SLAB_BYTES // (4 * num_outputs * shape[1] * shape[2]))
    labels = []
    for start in range(0, shape[0], slab):
        window = slice(start, min(start + slab, shape[0]))
        total: Tensor | None = None
        for axis, maps in stored.items():
            values = _slab_of_view(predictors[axis], maps, axis, window)
            total = values if total is None else total + values
        assert total is not None
        labels.append(_argmax(total))
    return np.concatenate(labels)


def _slab_of_view(predictor: SlicePredictor, maps: Tensor, axis: int, window: slice) -> Tensor:
    """Probabilities `(K, Zs, Y, X)` of the Z range `window` from a view's `(K, N, h, w)`."""
    frame, stride = predictor.frame, predictor.stride
    if axis == 0:
        return frame.from_canvas(maps[:, window].float(), stride)
    values = frame.from_canvas(maps.float(), stride, rows=window)  # slices across Y or X have Z as their rows
    return values.permute(0, 2, 1, 3) if axis == 1 else values.permute(0, 2, 3, 1)


def _argmax(probabilities: Tensor) -> np.ndarray:
    winners = probabilities.argmax(dim=0)
    return winners.to(torch.uint8 if probabilities.shape[0] <= 256 else torch.int32).cpu().numpy()
