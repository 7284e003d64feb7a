"""From slice probabilities to a label volume: all classes never exist at once at the image's own size."""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from samnet.core.prefetch import prefetch
from samnet.dataset.label_scheme import Regions
from samnet.inference.reconstruction import BLOCK, ViewMaps, cut, label_slices, label_window
from samnet.inference.slices import SlicePredictor
from samnet.models.network import SegmentationNetwork
from samnet.plan.configuration import Configuration
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
        return _predict_single_view(
            configuration.slicing_axis, predictors[configuration.slicing_axis], shape
        )
    stored = {axis: _all_probabilities(predictor) for axis, predictor in predictors.items()}
    return _reduce_views(predictors, stored, shape)


def _predict_single_view(
    axis: int, predictor: SlicePredictor, shape: tuple[int, ...]
) -> np.ndarray:
    across = (shape[axis], *(length for index, length in enumerate(shape) if index != axis))
    labels: np.ndarray | None = None
    for start, maps in _chunks(predictor):
        if labels is None:  # the number of classes is known from the first slice on
            labels = np.empty(across, predictor.outputs.label_type(len(maps)))
        view = ViewMaps(maps, 0, predictor.frame, predictor.stride, predictor.device)
        label_slices(predictor.outputs, view, labels[start : start + maps.shape[1]])
    assert labels is not None
    return np.moveaxis(labels, 0, axis)


def _all_probabilities(predictor: SlicePredictor) -> Tensor:
    """The maps `(K, N, h, w)` of every slice of a view, in main memory or a file."""
    stored: Tensor | None = None
    for start, maps in _chunks(predictor):
        if stored is None:
            stored = _allocate((len(maps), len(predictor.slices), *maps.shape[2:]))
        stored[:, start : start + maps.shape[1]] = maps
    assert stored is not None
    return stored


def _chunks(predictor: SlicePredictor) -> Iterator[tuple[int, Tensor]]:
    """The first slice and the maps `(K, N, h, w)` of one chunk of slices after the other.

    The networks' next inputs are made while they work on those before. The first chunk is one slice, which tells how
    many fit.
    """
    count = len(predictor.slices)
    first = predictor.probabilities(0, 1)
    yield 0, first
    chunks = cut(slice(1, count), _slices_per_slab(predictor, first))
    canvases = prefetch(lambda chunk: predictor.canvases(chunk.start, chunk.stop), chunks)
    for chunk, inputs in zip(chunks, canvases, strict=True):
        yield chunk.start, predictor.predict(inputs)


def _allocate(shape: tuple[int, ...]) -> Tensor:
    size = 2 * math.prod(shape)
    if size <= VIEW_BYTES or os.name != "posix":  # elsewhere a file in use cannot be deleted
        return torch.empty(shape, dtype=torch.half)
    with tempfile.NamedTemporaryFile(
        prefix="samnet-"
    ) as file:  # gone at once; its space with the tensor
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(
                file.fileno(), 0, size
            )  # a full disk is an error here, later it would be a crash
        return torch.from_file(
            file.name, shared=True, size=math.prod(shape), dtype=torch.half
        ).view(shape)


def _slices_per_slab(predictor: SlicePredictor, maps: Tensor) -> int:
    """How many slices fit `SLAB_BYTES`: as inputs, as maps (one slice's are given), and at full size."""
    frame = predictor.frame
    channels = predictor.slices.shape[1]
    values = max(3 * math.prod(frame.canvas), channels * math.prod(frame.size), maps.numel())
    return max(1, min(MAX_SLICES, SLAB_BYTES // (4 * values)))


def _reduce_views(
    predictors: dict[int, SlicePredictor], stored: dict[int, Tensor], shape: tuple[int, ...]
) -> np.ndarray:
    any_predictor, num_outputs = next(iter(predictors.values())), len(next(iter(stored.values())))
    views = [
        ViewMaps(
            maps, axis, predictors[axis].frame, predictors[axis].stride, predictors[axis].device
        )
        for axis, maps in stored.items()
    ]
    labels: np.ndarray = np.empty(shape, any_predictor.outputs.label_type(num_outputs))
    for rows in cut(slice(0, shape[0]), SLAB_BYTES // (4 * shape[1] * shape[2])):
        window = (rows, slice(0, shape[1]), slice(0, shape[2]))
        labels[rows] = label_window(any_predictor.outputs, views, window, (BLOCK, BLOCK, BLOCK))
    return labels
