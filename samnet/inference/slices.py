"""Probabilities of slices: tiles, mirrors and several networks, averaged."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from functools import partial, reduce

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from samnet.dataset.label_scheme import LabelScheme
from samnet.inference.batches import BatchSize
from samnet.inference.map_sums import MapCollector
from samnet.inference.out_of_memory import PredictionMemory
from samnet.inference.outputs import outputs_for
from samnet.models.network import SegmentationNetwork
from samnet.models.precision import autocast
from samnet.models.slice_adapter import num_neighbours, predict_stack
from samnet.plan.configuration import Configuration
from samnet.preprocessing.case import PreparedVolume
from samnet.preprocessing.channels import compose_channels, compose_images, slice_indices
from samnet.preprocessing.intensity import apply_window, window_bounds
from samnet.preprocessing.slice_frame import SliceFrame, planned_frame, tile_starts, tile_weights


class SlicePredictor:
    """Predicts slices across one axis of a volume, at the resolution of the networks' outputs.

    Attributes:
        networks: Networks of one configuration.
        configuration: Their configuration.
        outputs: What the outputs of the networks stand for.
        num_outputs: Their number.
        margin: Slices on either side of a slice that can change its probabilities.
        slices: The image `(N, C, H, W)` of N slices, raw intensities.
        bounds: Lower and upper intensity of each channel `(C, 2)`; see `window_bounds`.
        flips: The mirrors to average over, as image dimensions to flip; the first is none.
        frame: Where the slices lie on their canvas.
        stride: Input pixels for each pixel of the maps.
        device: Where the networks are.
        memory: What is predicted at once, and where probabilities are added and resampled.
        on_slices: Called with the number of slices that are done after each batch; of a slice that
            is done in tiles, with its share.
        collector: Adds up sums over the maps, or None.
    """

    def __init__(
        self,
        networks: Sequence[SegmentationNetwork],
        configuration: Configuration,
        volume: PreparedVolume,
        axis: int,
        *,
        mirror: bool,
        label_scheme: LabelScheme,
        batch: BatchSize | None = None,
    ) -> None:
        """Prepare the prediction of a volume.

        Args:
            networks: Networks of one configuration, in evaluation mode, on one device.
            configuration: Their configuration.
            volume: The image.
            axis: The axis across which the slices lie.
            mirror: Whether to average over mirrored inputs.
            label_scheme: The classes or regions of the outputs.
            batch: How many inputs the networks are given at once; None for that of a first volume.
        """
        self.networks, self.configuration = networks, configuration
        self.outputs, self.num_outputs = outputs_for(label_scheme), label_scheme.num_outputs
        self.margin = num_neighbours(networks[0]) if configuration.depth > 1 else 0
        self.slices = np.moveaxis(volume.array, axis + 1, 0)
        self.bounds = window_bounds(configuration.intensity, volume.quantiles)
        rows, columns = (index for index in range(3) if index != axis)
        self.frame: SliceFrame = planned_frame(
            configuration,
            self.slices.shape[-2:],
            (volume.spacing[rows], volume.spacing[columns]),
            volume.margins(axis),
        )
        self.stride = 1 if self.frame.enlarges_logits else networks[0].stride
        mirrored_axes = configuration.mirror_axes if mirror else ()
        self.flips = _mirror_flips((rows, columns), mirrored_axes)
        self.device = next(networks[0].parameters()).device
        self.memory = PredictionMemory(self.device, batch)
        self.on_slices: Callable[[float], object] = lambda count: None
        self.collector: MapCollector | None = None

    def probabilities(self, start: int, stop: int) -> Tensor:
        """Predict some slices, on their canvas.

        Args:
            start: The first slice.
            stop: The first slice that is not predicted.

        Returns:
            `(K, stop - start, Hc / stride, Wc / stride)`, float32.
        """
        chunk = slice(start, stop)
        seen = self.with_margin(chunk)
        canvases = self.canvases(seen.start, seen.stop)
        return self.predict(canvases, positions_within(chunk, seen))

    def with_margin(self, chunk: slice) -> slice:
        """Return the slices that networks have to see to predict some slices.

        Args:
            chunk: Consecutive slices.

        Returns:
            These and, where stacks are predicted, those around them, as far as there are any.
        """
        first, stop = chunk.start - self.margin, chunk.stop + self.margin
        return slice(max(0, first), min(len(self.slices), stop))

    def first_slice(self) -> Tensor:
        """Predict the first slice alone, and let the size of batches be found from it.

        Returns:
            `(K, 1, Hc / stride, Wc / stride)`, float32.
        """
        size = self.configuration.input_size
        return self.memory.batch.measure(lambda: self.probabilities(0, 1), len(self.flips), size)

    def canvases(self, start: int, stop: int) -> Tensor:
        """Make what the networks look at of some slices.

        Every slice is resampled once, also one that is part of its neighbours' images. On a CUDA
        device this is done there: the slices are far smaller than what is made of them.

        Args:
            start: The first slice.
            stop: The first slice that is left out.

        Returns:
            `(stop - start, C', Hc, Wc)`, on that device or in main memory.
        """
        if self.memory.device.type == "cuda":
            return self.memory.resample(lambda: self.canvases_on(self.memory.device, start, stop))
        layout, count = self.configuration.channel_layout, len(self.slices)
        needed = [slice_indices(layout, index, count) for index in range(start, stop)]
        first, last = needed[0][0], needed[-1][-1]
        whole = self.frame.whole_slices(self.slices[first : last + 1])
        windowed = apply_window(whole, self.bounds)
        on_canvas = self.frame.to_canvas(torch.from_numpy(np.ascontiguousarray(windowed)))
        resampled = on_canvas.numpy()
        images = []
        for indices in needed:
            images.append(compose_channels(resampled[np.subtract(indices, first)], layout))
        return torch.from_numpy(np.stack(images))

    def canvases_on(self, device: torch.device, start: int, stop: int) -> Tensor:
        """Make what `canvases` makes, on a device.

        Args:
            device: The device.
            start: The first slice.
            stop: The first slice that is left out.

        Returns:
            `(stop - start, C', Hc, Wc)`.
        """
        layout, count = self.configuration.channel_layout, len(self.slices)
        needed = [slice_indices(layout, index, count) for index in range(start, stop)]
        first, last = needed[0][0], needed[-1][-1]
        whole = self.frame.whole_slices(self.slices[first : last + 1])
        windowed = torch.from_numpy(np.ascontiguousarray(apply_window(whole, self.bounds)))
        if device.type == "cuda":
            # From pinned memory the copy passes beside what the device computes.
            windowed = windowed.pin_memory()
        on_canvas = self.frame.to_canvas(windowed.to(device, non_blocking=True))
        return compose_images(on_canvas, (np.array(needed) - first).tolist(), layout)

    def predict(self, canvases: Tensor, kept: slice | None = None) -> Tensor:
        """Predict canvases, in tiles where they are larger than the input.

        Where the networks were trained on stacks, the canvases are one stack of any length.

        Args:
            canvases: `(N, C', Hc, Wc)`.
            kept: The n canvases of a stack that are predicted, the others being their margin; None
                for all.

        Returns:
            Probabilities `(K, n, Hc / stride, Wc / stride)`, float32.

        Raises:
            SamnetError: The memory is too small.
        """
        wanted = slice(0, len(canvases)) if kept is None else kept
        probabilities = self.memory.predict(lambda: self._predict(canvases, wanted))
        if self.collector is not None:
            self.collector.keep()
        return probabilities

    @torch.inference_mode()
    def _predict(self, canvases: Tensor, kept: slice) -> Tensor:
        if self.collector is not None:
            self.collector.discard()  # what is left of an attempt for which memory was too small
        size, stride = self.configuration.input_size, self.stride
        overlap = self.configuration.tile_overlap
        rows, columns = (tile_starts(length, size, overlap) for length in self.frame.canvas)
        corners = list(itertools.product(rows, columns))
        share = 1 / len(corners)
        if len(corners) == 1:
            return self._mean_over_inputs(canvases, share, kept).transpose(0, 1)
        weights = tile_weights(size // stride).to(self.memory.device)
        shape = [length // stride for length in self.frame.canvas]
        total: Tensor | None = None
        norm = torch.zeros(shape, device=self.memory.device)
        for row, column in corners:
            window = canvases[..., row : row + size, column : column + size]
            tile = self._mean_over_inputs(window, share, kept)
            if total is None:
                total = tile.new_zeros(tile.shape[0], tile.shape[1], *shape)
            down = slice(row // stride, (row + size) // stride)
            along = slice(column // stride, (column + size) // stride)
            total[..., down, along] += tile * weights
            norm[down, along] += weights
        assert total is not None
        return total.div_(norm).transpose(0, 1)

    def _mean_over_inputs(self, inputs: Tensor, share: float, kept: slice) -> Tensor:
        """Return probabilities `(n, K, h, w)` of n of the inputs `(N, C, S, S)`, averaged.

        Inputs that are 0 everywhere, such as tiles next to what was scanned, are all the same to
        the networks, which look at one of them. An input is a share of a slice.
        """
        if self.configuration.depth > 1:
            return self._mean_of_stack(inputs, share, kept)
        empty = (~inputs.flatten(1).any(1)).nonzero()[:, 0].cpu()
        if len(empty) <= 1:
            return self._mean_of_all(inputs, share)
        is_distinct = torch.ones(len(inputs), dtype=torch.bool)
        is_distinct[empty[1:]] = False
        source = is_distinct.cumsum(0) - 1
        source[empty] = source[empty[:1]]
        self.on_slices(share * (len(empty) - 1))
        return self._mean_of_all(inputs[is_distinct], share)[source.to(self.memory.device)]

    def _mean_of_stack(self, inputs: Tensor, share: float, kept: slice) -> Tensor:
        """Return the mean over mirrors and networks of slices in the middle of a stack."""
        count = kept.stop - kept.start
        if inputs.any():
            mean = self._batch_mean(inputs.to(self.device), kept)
        else:  # all slices are the same to the networks
            mean = self._batch_mean(inputs[:1].to(self.device), slice(0, 1))[[0] * count]
        self.on_slices(share * count)
        return mean.to(self.memory.device)

    def _mean_of_all(self, inputs: Tensor, share: float) -> Tensor:
        batches = inputs.split(max(1, self.memory.inputs_per_batch // len(self.flips)))
        means = []
        for batch in batches:
            means.append(self._batch_mean(batch.to(self.device)).to(self.memory.device))
            self.on_slices(share * len(batch))
        return torch.cat(means)

    def _batch_mean(self, batch: Tensor, kept: slice | None = None) -> Tensor:
        """Average over mirrors and networks; mirrors form one batch where memory is enough.

        With `kept`, the batch is a stack, of which these slices are predicted.
        """
        if kept is None:
            mirrored = [batch.flip(flip) if flip else batch for flip in self.flips]
            predictions = self._predictions(torch.cat(mirrored))
        else:
            predictions = self._stack_predictions(batch, kept)
        if self.collector is not None:
            predictions = self.collector.observe(predictions, self.flips, self.outputs)
        total = reduce(torch.add, predictions)
        restored = []
        for part, flip in zip(total.chunk(len(self.flips)), self.flips, strict=True):
            restored.append(part.flip(flip) if flip else part)
        return reduce(torch.add, restored) / (len(self.flips) * len(self.networks))

    def _predictions(self, batch: Tensor) -> Iterator[Tensor]:
        most = self.memory.inputs_per_batch
        for number, network in enumerate(self.networks):
            parts = []
            compute = partial(self._probabilities, network)
            for part in batch.split(most):
                # A batch of whole slices with all their mirrors; what is left of a volume is less.
                if len(part) + len(self.flips) > most:
                    name = (number, self.frame.enlarges_logits)
                    parts.append(self.memory.batch.replays.compute(name, compute, part))
                else:
                    parts.append(compute(part))
            yield torch.cat(parts) if len(parts) > 1 else parts[0]

    def _stack_predictions(self, stack: Tensor, kept: slice) -> Iterator[Tensor]:
        """Yield what each network makes of a stack, of which every mirror is a stack by itself."""
        for network in self.networks:
            predict = partial(predict_stack, network, part=self.memory.inputs_per_batch, kept=kept)
            predictions = []
            for flip in self.flips:
                mirrored = stack.flip(flip) if flip else stack
                predictions.append(self._probabilities(predict, mirrored))
            yield torch.cat(predictions)

    def _probabilities(self, network: Callable[[Tensor], Tensor], inputs: Tensor) -> Tensor:
        """Return the probabilities of inputs on the device, without waiting for it."""
        with autocast(self.configuration.precision, self.device):
            logits = network(inputs).float()
        if self.frame.enlarges_logits:
            logits = functional.interpolate(logits, inputs.shape[-2:], mode="bilinear")
        return self.outputs.probabilities(logits)


def positions_within(chunk: slice, seen: slice) -> slice:
    """Return where some slices are among those with a margin.

    Args:
        chunk: Consecutive slices.
        seen: These, and some before and after them.

    Returns:
        The positions of the chunk in `seen`.
    """
    return slice(chunk.start - seen.start, chunk.stop - seen.start)


def _mirror_flips(in_plane: tuple[int, int], mirror_axes: Sequence[int]) -> list[tuple[int, ...]]:
    """Return every combination of in-plane mirrors, as image dimensions to flip.

    The first is none.
    """
    dimensions = [-2 + position for position, axis in enumerate(in_plane) if axis in mirror_axes]
    flips: list[tuple[int, ...]] = []
    for count in range(len(dimensions) + 1):
        flips += itertools.combinations(dimensions, count)
    return flips
