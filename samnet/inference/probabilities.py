"""Probabilities of a whole volume on the grid of its image, computed where they are read.

The probabilities of all outputs never exist at once at the image's own size, except where a caller
takes them as one array.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from samnet.dataset.label_scheme import LabelScheme
from samnet.inference.native_views import VolumeMaps
from samnet.inference.out_of_memory import PredictionMemory
from samnet.inference.outputs import Subvolume, outputs_for
from samnet.inference.reconstruction import BLOCK, View, cut, label_subvolume, weighted_sum

SLAB_BYTES = 128 * 2**20


@dataclass(frozen=True)
class VolumeProbabilities:
    """The mean probabilities of one or several models on the grid of an image.

    Each model weighs the same, whatever its number of folds or views.

    Attributes:
        models: What each model has predicted of the image.
        label_scheme: The classes or regions of their outputs.
        memory: Where probabilities are added and resampled.
        slab_bytes: What an output takes at full size in the part that is computed at a time.
        outside: Where nothing but background can be, whatever the models predict: booleans
            `(Z, Y, X)` on the grid of the image; None for nowhere.
    """

    models: Sequence[VolumeMaps]
    label_scheme: LabelScheme
    memory: PredictionMemory
    slab_bytes: int = SLAB_BYTES
    outside: np.ndarray | None = None

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Number of outputs, and of voxels of the image along `(Z, Y, X)`.

        The outputs are the classes with the background first, or the regions.
        """
        first = self.models[0]
        return first.num_outputs, *first.reorientation.native.shape

    def slabs(self) -> Iterator[np.ndarray]:
        """Compute the probabilities of one output after the other, slab by slab.

        Yields:
            Parts `(slices, Y, X)` of `array()`, in its order.
        """
        num_outputs, depth, *_ = self.shape
        for output in range(num_outputs):
            for slab in self._cut(depth):
                yield self._slab(output, slab)

    def array(self) -> np.ndarray:
        """Compute all probabilities. They take 2 bytes for each voxel and output.

        Returns:
            Probabilities `(K, Z, Y, X)` of K outputs in half precision.
        """
        array = np.empty(self.shape, np.float16)
        num_outputs, depth, *_ = self.shape
        for output in range(num_outputs):
            for slab in self._cut(depth):
                array[output, slab] = self._slab(output, slab)
        return array

    def labels(self) -> np.ndarray:
        """Compute the labels by the mean of the models.

        Returns:
            Labels `(Z, Y, X)`; background outside what was predicted.
        """
        num_outputs, *shape = self.shape
        label_type = outputs_for(self.label_scheme).label_type(num_outputs)
        labels: np.ndarray = np.zeros(shape, label_type)
        inside = labels[self.models[0].native_box.slices]
        for slab in self._cut(len(inside)):
            self.memory.resample(partial(self._label, inside, slab))
        if self.outside is not None:
            labels[self.outside] = 0
        return labels

    def uncertainty(self) -> np.ndarray:
        """Compute how far the labels are from certain.

        Returns:
            Percentages `(Z, Y, X)`, see `Outputs.doubt`; 0 outside what was predicted.
        """
        num_outputs, *shape = self.shape
        outputs = outputs_for(self.label_scheme)
        percent: np.ndarray = np.empty(shape, np.uint8)
        for slab in self._cut(shape[0]):
            slabs = (self._slab(output, slab) for output in range(num_outputs))
            doubt = outputs.doubt(torch.from_numpy(values).float() for values in slabs)
            percent[slab] = (100 * doubt).round().to(torch.uint8).numpy()
        return percent

    def _cut(self, depth: int) -> list[slice]:
        *_, height, width = self.shape
        return cut(slice(0, depth), self.slab_bytes // (4 * height * width))

    def _views(self) -> list[View]:
        views = []
        for model in self.models:
            views += model.native_views(self.memory.device)
        return views

    def _weights(self) -> list[float]:
        weights = []
        for model in self.models:
            count = len(model.views)
            weights += [1 / (count * len(self.models))] * count
        return weights

    def _label(self, labels: np.ndarray, slab: slice) -> None:
        _, height, width = labels.shape
        subvolume = (slab, slice(0, height), slice(0, width))
        outputs, block = outputs_for(self.label_scheme), (BLOCK, BLOCK, BLOCK)
        labels[slab] = label_subvolume(outputs, self._views(), subvolume, block, self._weights())

    def _slab(self, output: int, slab: slice) -> np.ndarray:
        """Compute one output on some slices `(slices, Y, X)` of the image."""
        *_, height, width = self.shape
        outside = outputs_for(self.label_scheme).probability_outside(output)
        slices: np.ndarray = np.full((slab.stop - slab.start, height, width), outside, np.float16)
        box = self.models[0].native_box
        first, last = max(slab.start, box.start[0]), min(slab.stop, box.stop[0])
        if first < last:
            _, rows, columns = box.shape
            part = slice(first - box.start[0], last - box.start[0])
            subvolume = (part, slice(0, rows), slice(0, columns))
            place = (slice(first - slab.start, last - slab.start), *box.slices[1:])
            slices[place] = self.memory.resample(partial(self._mean, output, subvolume))
        if self.outside is not None:
            slices[self.outside[slab]] = outside
        return slices

    def _mean(self, output: int, subvolume: Subvolume) -> np.ndarray:
        values = (view.values(output, subvolume) for view in self._views())
        return weighted_sum(values, self._weights()).half().cpu().numpy()
