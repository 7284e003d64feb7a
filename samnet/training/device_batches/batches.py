"""Batches of a training run, made on a device while the one before them is computed there."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from samnet.core.errors import SamnetError
from samnet.models.out_of_memory import compute_in_less_memory
from samnet.training.device_batches.images import ImageMaker
from samnet.training.device_batches.intensities import IntensityChanger
from samnet.training.device_batches.parcel import Parcel
from samnet.training.device_batches.placing import SamplingGrids
from samnet.training.device_batches.slices import SliceBatch, SlicesOnDevice
from samnet.training.device_batches.targets import TargetMaker
from samnet.training.slice_reader import SliceReader

log = logging.getLogger(__name__)


class BatchMaker:
    """Shows drawn samples: their images and targets are those of `SliceSamples`, to rounding.

    Attributes:
        device: Where batches are made.
    """

    def __init__(self, reader: SliceReader, device: torch.device, *, keeps_slices: bool) -> None:
        """Prepare the tables, and the slices where they are to lie on the device.

        Args:
            reader: The slices.
            device: Where to make batches.
            keeps_slices: Whether all slices are kept there. Otherwise drawn samples bring them.
        """
        configuration, specification = reader.configuration, reader.specification
        self.device = device
        self._sizes = torch.tensor([reader.size(*stack) for stack in reader.stacks])
        self._device_sizes = self._sizes.to(device)
        self._slices = SlicesOnDevice(reader, device) if keeps_slices else None
        self._image_grids = SamplingGrids(configuration.input_size, 1, device)
        self._target_grids = SamplingGrids(configuration.input_size, specification.stride, device)
        self._images = ImageMaker(reader, device)
        self._targets = TargetMaker(specification.label_scheme, device)
        self._intensities = (
            IntensityChanger(configuration.input_size, device)
            if reader.profile.intensities
            else None
        )

    def make(self, here: Parcel) -> tuple[Tensor, Tensor]:
        """Show a batch of drawn samples.

        Args:
            here: What `DrawnSamples.collate` returns.

        Returns:
            Images `(B, C, S, S)`, and targets `(B, S / stride, S / stride)` or
            `(B, R, S / stride, S / stride)`, on the device.
        """
        there = here.to(self.device)
        own_sizes = self._sizes[here["stack"]]
        sizes = self._device_sizes[there["stack"]]
        slices = self._slices_of(there, own_sizes, sizes)
        grids = self._image_grids.compute(there, sizes)
        images = self._images.make(slices.images, own_sizes.tolist(), here, there, grids)
        nearest = there["nearest"] if bool(here["nearest"].any()) else None
        target_grids = self._target_grids.compute(there, sizes)
        targets = self._targets.make(slices.labels, target_grids, sizes, nearest)
        if self._intensities is not None:
            images = self._intensities.apply(images, here, there)
        return images, targets

    def _slices_of(self, there: Parcel, own_sizes: Tensor, sizes: Tensor) -> SliceBatch:
        if self._slices is None:
            return SliceBatch(there["images"], there["labels"])
        height, width = own_sizes.amax(0).tolist()
        return self._slices.gather(there, sizes, height, width)


class _Started(NamedTuple):
    """A batch whose computation has been started; on a GPU `event` comes when it is done."""

    images: Tensor
    targets: Tensor
    event: torch.cuda.Event | None


class DeviceBatches:
    """The batches of a loader of drawn samples, as images and targets on a device.

    On a GPU a batch is computed on a stream of its own, while the network computes the one before.
    When the GPU's memory runs out, the batches are made on the CPU from then on.

    Attributes:
        loader: Brings what `DrawnSamples.collate` returns.
    """

    def __init__(
        self,
        loader: Iterable[Parcel],
        build_maker: Callable[[torch.device], BatchMaker],
        device: torch.device,
    ) -> None:
        """Prepare the batches.

        Args:
            loader: Brings what `DrawnSamples.collate` returns.
            build_maker: Returns what makes batches on a device.
            device: Where to make them.
        """
        self.loader = loader
        self._build_maker, self._device = build_maker, device
        self._maker: BatchMaker | None = None
        self._stream = _stream_after_current(device)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        started: _Started | None = None
        for drawn in self.loader:
            following = self._start(drawn)
            if started is not None:
                yield _finish(started)
            started = following
        if started is not None:
            yield _finish(started)

    def _start(self, drawn: Parcel) -> _Started:
        if self._stream is None:
            return _Started(*self._make(drawn), None)
        with torch.cuda.stream(self._stream):
            images, targets = self._make(drawn)
            return _Started(images, targets, self._stream.record_event())

    def _make(self, drawn: Parcel) -> tuple[Tensor, Tensor]:
        def make() -> tuple[Tensor, Tensor]:
            if self._maker is None:
                self._maker = self._build_maker(self._device)
            return self._maker.make(drawn)

        return compute_in_less_memory(make, self._fall_back)

    def _fall_back(self, reason: str) -> None:
        if self._device.type == "cpu":
            raise SamnetError(
                f"a batch of samples does not fit into the memory ({reason}). Train with a smaller "
                "--batch-size or fewer --workers"
            )
        log.warning("out of memory (%s): from here on batches are made on the CPU", reason)
        self._device, self._maker = torch.device("cpu"), None


def _stream_after_current(device: torch.device) -> torch.cuda.Stream | None:
    """Return a stream that begins after what the current one has to do; None on a CPU."""
    if device.type != "cuda":
        return None
    stream = torch.cuda.Stream(device)
    stream.wait_stream(torch.cuda.current_stream(device))
    return stream


def _finish(started: _Started) -> tuple[Tensor, Tensor]:
    """Return a batch that the current stream can use."""
    images, targets, event = started
    if event is not None and images.is_cuda:
        current = torch.cuda.current_stream(images.device)
        current.wait_event(event)
        for tensor in (images, targets):
            # Its memory is not given to the next batch before the step is done with it.
            tensor.record_stream(current)
    return images, targets
