"""From slice probabilities to a label volume: all classes never exist at once at the image's own size."""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Sequence
from functools import reduce

import numpy as np
import torch
from torch import Tensor

from samnet.dataset.labels import Regions
from samnet.inference.slices import SlicePredictor
from samnet.models.network import SegmentationNetwork
from samnet.planning.configuration import Configuration
from samnet.preprocessing.case import PreparedVolume

SLAB_BYTES = 128 * 2**20
VIEW_BYTES = 512 * 2**20
MAX_SLICES = 64


def predict_volume(
    networks: Sequence[SegmentationNetwork],
    configuration: Configuration,
    volume: PreparedVolume,
    *,
    mirror: bool,
    regions: Regions | None = None,
) -> np.ndarray:
    """The label map `(Z, Y, X)` of a prepared volume, on its own voxels.

    Several views are averaged as probabilities. With one view slices are reduced to labels as they come; with several,
    their probabilities wait at the networks' output resolution in half precision, in a temporary file where they are
    many (of a view more than `VIEW_BYTES`).

    regions: what the networks' outputs stand for, where that is not classes that exclude each other.
    """
    predictors = {
        axis: SlicePredictor(networks, configuration, volume, axis, mirror=mirror, regions=regions)
        for axis in configuration.views
    }
    shape = volume.array.shape[1:]
    if len(predictors) == 1:
        return _predict_single_view(configuration.slicing_axis, predictors[configuration.slicing_axis], shape)
    stored = {axis: _all_probabilities(predictor) for axis, predictor in predictors.items()}
    return _reduce_views(predictors, stored, shape)


def _predict_single_view(axis: int, predictor: SlicePredictor, shape: tuple[int, ...]) -> np.ndarray:
    across = (shape[axis], *(length for index, length in enumerate(shape) if index != axis))
    labels: np.ndarray | None = None
    chunk, start = 1, 0
    while start < across[0]:
        stop = min(start + chunk, across[0])
        maps = predictor.probabilities(start, stop)
        if labels is None:  # the number of classes is known from the first slice on
            labels = np.empty(across, _label_type(predictor, len(maps)))
            chunk = _slices_per_slab(predictor, maps)
        for rows in _slabs(across[1], 4 * (stop - start) * across[2]):
            native = (predictor.frame.from_canvas(one, predictor.stride, rows) for one in maps)
            labels[start:stop, rows] = predictor.outputs.label_map(native)
        start = stop
    assert labels is not None
    return np.moveaxis(labels, 0, axis)


def _all_probabilities(predictor: SlicePredictor) -> Tensor:
    """The maps `(K, N, h, w)` of every slice of a view, in main memory or a file."""
    count = len(predictor.slices)
    stored: Tensor | None = None
    chunk, start = 1, 0
    while start < count:
        stop = min(start + chunk, count)
        maps = predictor.probabilities(start, stop)
        if stored is None:
            stored = _allocate((len(maps), count, *maps.shape[2:]))
            chunk = _slices_per_slab(predictor, maps)
        stored[:, start:stop] = maps
        start = stop
    assert stored is not None
    return stored


def _allocate(shape: tuple[int, ...]) -> Tensor:
    size = 2 * math.prod(shape)
    if size <= VIEW_BYTES or os.name != "posix":  # elsewhere a file in use cannot be deleted
        return torch.empty(shape, dtype=torch.half)
    with tempfile.NamedTemporaryFile(prefix="samnet-") as file:  # gone at once; its space with the tensor
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, size)  # a full disk is an error here, later it would be a crash
        return torch.from_file(file.name, shared=True, size=math.prod(shape), dtype=torch.half).view(shape)


def _slices_per_slab(predictor: SlicePredictor, maps: Tensor) -> int:
    """How many slices fit `SLAB_BYTES`: as inputs, as maps (one slice's are given), and as one output at full size."""
    frame = predictor.frame
    values = max(3 * math.prod(frame.canvas), math.prod(frame.size), maps.numel())
    return max(1, min(MAX_SLICES, SLAB_BYTES // (4 * values)))


def _slabs(count: int, bytes_each: int) -> list[slice]:
    step = max(1, SLAB_BYTES // bytes_each)
    return [slice(start, min(start + step, count)) for start in range(0, count, step)]


def _reduce_views(
    predictors: dict[int, SlicePredictor], stored: dict[int, Tensor], shape: tuple[int, ...]
) -> np.ndarray:
    any_predictor, num_outputs = next(iter(predictors.values())), len(next(iter(stored.values())))
    labels: np.ndarray = np.empty(shape, _label_type(any_predictor, num_outputs))
    for window in _slabs(shape[0], 4 * shape[1] * shape[2]):
        sums = (
            reduce(
                torch.add, (_slab_of_view(predictors[axis], maps[value], axis, window) for axis, maps in stored.items())
            )
            for value in range(num_outputs)
        )
        labels[window] = any_predictor.outputs.label_map(sums, count=len(stored))
    return labels


def _slab_of_view(predictor: SlicePredictor, maps: Tensor, axis: int, window: slice) -> Tensor:
    """One output's probabilities `(Zs, Y, X)` of the Z range `window` from its maps `(N, h, w)` of a view."""
    frame, stride = predictor.frame, predictor.stride
    if axis == 0:
        return frame.from_canvas(maps[window].to(predictor.device).float(), stride)
    # Slices across Y or X have Z as their rows.
    values = frame.from_canvas(maps.to(predictor.device).float(), stride, window)
    return values.permute(1, 0, 2) if axis == 1 else values.permute(1, 2, 0)


def _label_type(predictor: SlicePredictor, num_outputs: int) -> type:
    return np.uint8 if predictor.outputs.highest_label(num_outputs) < 256 else np.uint16
