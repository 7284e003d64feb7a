"""From slice probabilities to a label volume.

The probabilities of all classes never exist at once at the image's own size.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
from torch import Tensor

from samnet.core.prefetch import prefetch
from samnet.core.progress import ProgressBar
from samnet.dataset.label_scheme import LabelScheme
from samnet.inference.batches import BatchSize
from samnet.inference.chunks import SLAB_BYTES, slices_of_chunk
from samnet.inference.map_sums import MapCollector
from samnet.inference.reconstruction import BLOCK, ViewMaps, cut, label_slices, label_subvolume
from samnet.inference.slices import SlicePredictor, positions_within
from samnet.inference.uncertainty import fill_uncertainty
from samnet.inference.view_store import VIEW_BYTES, ViewStore
from samnet.models.network import SegmentationNetwork
from samnet.plan.configuration import Configuration
from samnet.preprocessing.case import PreparedVolume


def predict_volume(
    networks: Sequence[SegmentationNetwork],
    configuration: Configuration,
    volume: PreparedVolume,
    *,
    mirror: bool,
    label_scheme: LabelScheme,
    slab_bytes: int = SLAB_BYTES,
    view_bytes: int = VIEW_BYTES,
    batch: BatchSize | None = None,
    kept: list[ViewMaps] | None = None,
    collector: MapCollector | None = None,
    uncertainty: np.ndarray | None = None,
) -> np.ndarray:
    """Predict a prepared volume.

    Several views are averaged as probabilities. With one view, slices are reduced to labels at
    once. With several, their probabilities are kept at the networks' output resolution in half
    precision: on a CUDA device that has the room for them, else in main memory or in a temporary
    file. A progress bar that is open shows the slices. Where the plan says so, labels and
    uncertainty outside the field of view are 0.

    Args:
        networks: Networks of one configuration, in evaluation mode, on one device.
        configuration: Their configuration.
        volume: The image.
        mirror: Whether to average over mirrored inputs.
        label_scheme: The classes or regions of the outputs.
        slab_bytes: How much memory the slices that are predicted at a time may take, in bytes.
        view_bytes: The probabilities of a view that take more bytes are kept in a file.
        batch: How many inputs the networks are given at once. Whoever predicts several volumes
            gives the same object each time, so that it is found once; None for a single volume.
        kept: A list that gets the probabilities of each view, in half precision, in main memory or
            in a temporary file. The labels are the same with and without it.
        collector: Adds up sums over the maps, for the signals of confidence; None for none.
        uncertainty: Is filled with the uncertainty `(Z, Y, X)` in percent, uint8; None for none.

    Returns:
        The label map `(Z, Y, X)` on the volume's own voxels.
    """
    predictors = _slice_predictors(
        networks, configuration, volume, mirror=mirror, label_scheme=label_scheme, batch=batch
    )
    stores = {}
    for axis, predictor in predictors.items():
        stores[axis] = ViewStore(predictor, axis, view_bytes, may_use_device=kept is None)
    with _progress_of(predictors, collector):
        labels = _predict_labels(predictors, stores, volume, slab_bytes, kept, uncertainty)
    if configuration.background_outside:
        outside = volume.outside(configuration.slicing_axis)
        labels[outside] = 0
        if uncertainty is not None:
            uncertainty[outside] = 0
    return labels


def _predict_labels(
    predictors: dict[int, SlicePredictor],
    stores: dict[int, ViewStore],
    volume: PreparedVolume,
    slab_bytes: int,
    kept: list[ViewMaps] | None,
    uncertainty: np.ndarray | None,
) -> np.ndarray:
    shape = volume.array.shape[1:]
    if len(predictors) == 1:
        [(axis, predictor)] = predictors.items()
        if kept is None:
            return _predict_single_view(axis, predictor, shape, slab_bytes, uncertainty)
        labels = _predict_single_view(axis, predictor, shape, slab_bytes, uncertainty, stores[axis])
        kept.append(stores[axis].view())
        return labels
    views = []
    for axis, predictor in predictors.items():
        views.append(_all_probabilities(predictor, stores[axis], slab_bytes))
    if kept is not None:
        kept += views
    return _reduce_views(predictors, views, shape, slab_bytes, uncertainty)


def predict_views(
    networks: Sequence[SegmentationNetwork],
    configuration: Configuration,
    volume: PreparedVolume,
    *,
    mirror: bool,
    label_scheme: LabelScheme,
    slab_bytes: int = SLAB_BYTES,
    view_bytes: int = VIEW_BYTES,
    batch: BatchSize | None = None,
    may_use_device: bool = True,
) -> list[ViewMaps]:
    """Predict the probabilities of a prepared volume, without labels.

    Args:
        networks: As for `predict_volume`.
        configuration: As for `predict_volume`.
        volume: As for `predict_volume`.
        mirror: As for `predict_volume`.
        label_scheme: As for `predict_volume`.
        slab_bytes: As for `predict_volume`.
        view_bytes: As for `predict_volume`.
        batch: As for `predict_volume`.
        may_use_device: Whether the maps may be kept on a CUDA device that has room for them.

    Returns:
        The maps of each view, in half precision.
    """
    predictors = _slice_predictors(
        networks, configuration, volume, mirror=mirror, label_scheme=label_scheme, batch=batch
    )
    views = []
    with _progress_of(predictors):
        for axis, predictor in predictors.items():
            store = ViewStore(predictor, axis, view_bytes, may_use_device=may_use_device)
            views.append(_all_probabilities(predictor, store, slab_bytes))
    return views


def _slice_predictors(
    networks: Sequence[SegmentationNetwork],
    configuration: Configuration,
    volume: PreparedVolume,
    *,
    mirror: bool,
    label_scheme: LabelScheme,
    batch: BatchSize | None,
) -> dict[int, SlicePredictor]:
    """Return what predicts the slices of each view, by its axis."""
    if batch is None:
        batch = BatchSize(next(networks[0].parameters()).device)
    predictors = {}
    for axis in configuration.views:
        predictors[axis] = SlicePredictor(
            networks,
            configuration,
            volume,
            axis,
            mirror=mirror,
            label_scheme=label_scheme,
            batch=batch,
        )
    return predictors


@contextlib.contextmanager
def _progress_of(
    predictors: dict[int, SlicePredictor], collector: MapCollector | None = None
) -> Iterator[None]:
    """Count the slices on the bar that is open, if any."""
    num_slices = sum(len(predictor.slices) for predictor in predictors.values())
    with ProgressBar(total=num_slices, desc="slice", is_part=True, only_within=True) as bar:
        for predictor in predictors.values():
            predictor.on_slices = bar.update
            predictor.collector = collector
        yield


def _predict_single_view(
    axis: int,
    predictor: SlicePredictor,
    shape: tuple[int, ...],
    slab_bytes: int,
    uncertainty: np.ndarray | None,
    store: ViewStore | None = None,
) -> np.ndarray:
    in_plane = tuple(length for index, length in enumerate(shape) if index != axis)
    labels: np.ndarray | None = None
    for start, maps in _chunks(predictor, slab_bytes):
        if labels is None:  # the number of outputs is known from the first slice on
            label_type = predictor.outputs.label_type(len(maps))
            labels = np.empty((shape[axis], *in_plane), label_type)
        chunk = slice(start, start + maps.shape[1])
        doubt = None if uncertainty is None else np.moveaxis(uncertainty, axis, 0)[chunk]
        _label_chunk(predictor, maps, labels[chunk], doubt)
        if store is not None:
            store.add(start, maps)
    assert labels is not None
    return np.moveaxis(labels, 0, axis)


def _label_chunk(
    predictor: SlicePredictor, maps: Tensor, labels: np.ndarray, uncertainty: np.ndarray | None
) -> None:
    def label() -> None:
        device = predictor.memory.device
        view = ViewMaps(maps.to(device), 0, predictor.frame, predictor.stride, device)
        label_slices(predictor.outputs, view, labels)
        if uncertainty is not None:
            fill_uncertainty(predictor.outputs, [view], uncertainty)

    predictor.memory.resample(label)


def _all_probabilities(predictor: SlicePredictor, store: ViewStore, slab_bytes: int) -> ViewMaps:
    """Return the maps of every slice of a view, wherever there is room."""
    for start, maps in _chunks(predictor, slab_bytes):
        store.add(start, maps)
    return store.view()


def _chunks(predictor: SlicePredictor, slab_bytes: int) -> Iterator[tuple[int, Tensor]]:
    """Yield the first slice and the maps `(K, N, h, w)` of one chunk of slices after the other.

    The networks' next inputs are prepared while they work on those before. The first chunk is one
    slice, which tells how many fit, unless a volume before has told it, or stacks are predicted: a
    slice by itself would be encoded with its margin.
    """
    count, num_done = len(predictor.slices), 0
    num_outputs = predictor.memory.batch.num_outputs
    if predictor.margin:
        num_outputs = predictor.num_outputs
    if num_outputs is None:
        first = predictor.first_slice()
        yield 0, first
        num_outputs, num_done = len(first), 1
    size = slices_of_chunk(
        predictor.frame,
        num_channels=predictor.slices.shape[1],
        num_outputs=num_outputs,
        stride=predictor.stride,
        margin=predictor.margin,
        inputs_at_once=predictor.memory.inputs_per_batch // len(predictor.flips),
        slab_bytes=slab_bytes,
    )
    chunks = cut(slice(num_done, count), size)
    seen = [predictor.with_margin(chunk) for chunk in chunks]
    canvases = prefetch(lambda some: predictor.canvases(some.start, some.stop), seen)
    for chunk, wider, inputs in zip(chunks, seen, canvases, strict=True):
        yield chunk.start, predictor.predict(inputs, positions_within(chunk, wider))


def _reduce_views(
    predictors: dict[int, SlicePredictor],
    views: Sequence[ViewMaps],
    shape: tuple[int, ...],
    slab_bytes: int,
    uncertainty: np.ndarray | None,
) -> np.ndarray:
    first = next(iter(predictors.values()))
    outputs, memory = first.outputs, first.memory
    num_outputs = len(views[0].maps)
    labels: np.ndarray = np.empty(shape, outputs.label_type(num_outputs))

    def label(slab: slice) -> None:
        here = [replace(view, device=memory.device) for view in views]
        subvolume = (slab, slice(0, shape[1]), slice(0, shape[2]))
        labels[slab] = label_subvolume(outputs, here, subvolume, (BLOCK, BLOCK, BLOCK))
        if uncertainty is not None:
            fill_uncertainty(outputs, here, uncertainty[slab], slab.start)

    for slab in cut(slice(0, shape[0]), slab_bytes // (4 * shape[1] * shape[2])):
        memory.resample(partial(label, slab))
    return labels
