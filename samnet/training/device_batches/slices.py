"""The pixels of the slices of a batch: from the device, where they all lie, or brought along."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from samnet.training.device_batches.parcel import Parcel
from samnet.training.slice_reader import SliceReader

# What torch can index and convert on any device; a wider type takes the place of any other.
_SUPPORTED = ("uint8", "int8", "int16", "int32", "float16", "float32")


class SliceBatch(NamedTuple):
    """Slices of different sizes, continued to one size by their last row and column.

    Attributes:
        images: Raw intensities `(B, N, C, Hp, Wp)` of the N slices that an image is composed of.
        labels: Labels `(B, Hp, Wp)`.
    """

    images: Tensor
    labels: Tensor


def pack_slices(
    images: Sequence[np.ndarray], labels: Sequence[np.ndarray]
) -> dict[str, np.ndarray]:
    """Pack the slices of a batch.

    Args:
        images: Raw intensities `(N, C, H, W)` of each sample, each with its own size.
        labels: Labels `(H, W)` of each sample.

    Returns:
        `images` and `labels`, as the fields of `SliceBatch`.
    """
    return {"images": _continue_to_one_size(images), "labels": _continue_to_one_size(labels)}


def _continue_to_one_size(arrays: Sequence[np.ndarray]) -> np.ndarray:
    dtype = device_type(*(array.dtype for array in arrays))
    height = max(array.shape[-2] for array in arrays)
    width = max(array.shape[-1] for array in arrays)
    together = np.empty((len(arrays), *arrays[0].shape[:-2], height, width), dtype)
    for place, array in zip(together, arrays, strict=True):
        behind = [(0, height - array.shape[-2]), (0, width - array.shape[-1])]
        place[...] = np.pad(array, [(0, 0)] * (array.ndim - 2) + behind, mode="edge")
    return together


def device_type(*types: np.dtype) -> np.dtype:
    """Return the type in which pixels are kept on a device.

    Args:
        types: The types in which they are stored.

    Returns:
        One that holds the values of all; single precision where no whole number of 32 bits does,
        as intensities are converted to it in any case.
    """
    common = np.result_type(*types)
    if common.name in _SUPPORTED:
        return common
    return np.dtype(np.int32 if common == np.uint16 else np.float32)


def storage_bytes(reader: SliceReader) -> int:
    """Return what all slices take on a device, images and labels.

    Args:
        reader: The slices.

    Returns:
        Their size in bytes.
    """
    image_type, label_type = _types(reader)
    pixels = sum(
        reader.cases[case_index].num_slices(axis) * int(np.prod(reader.size(case_index, axis)))
        for case_index, axis in reader.stacks
    )
    return pixels * (reader.num_channels * image_type.itemsize + label_type.itemsize)


def _types(reader: SliceReader) -> tuple[np.dtype, np.dtype]:
    stored = [reader.cases[case_index].stored_types(axis) for case_index, axis in reader.stacks]
    images, labels = zip(*stored, strict=True)
    return device_type(*images), device_type(*labels)


class SlicesOnDevice:
    """All slices of a reader, in the memory of a device.

    Slices of all cases lie behind each other, so that those of a batch are gathered at once,
    whatever their sizes.
    """

    def __init__(self, reader: SliceReader, device: torch.device) -> None:
        """Read all slices.

        Args:
            reader: The slices.
            device: Where to keep them.
        """
        self._channels = reader.num_channels
        sizes = [reader.size(*stack) for stack in reader.stacks]
        starts = [0]
        for (case_index, axis), (rows, columns) in zip(reader.stacks, sizes, strict=True):
            num_slices = reader.cases[case_index].num_slices(axis)
            starts.append(starts[-1] + num_slices * rows * columns)
        self._starts = torch.tensor(starts[:-1], device=device)
        image_type, label_type = _types(reader)
        self._images = _empty(starts[-1] * self._channels, image_type, device)
        self._labels = _empty(starts[-1], label_type, device)
        for stack, start, stop in zip(reader.stacks, starts[:-1], starts[1:], strict=True):
            images, labels = reader.stack(*stack)
            place = slice(start * self._channels, stop * self._channels)
            self._images[place] = torch.from_numpy(images.astype(image_type).ravel())
            self._labels[start:stop] = torch.from_numpy(labels.astype(label_type).ravel())

    def gather(self, drawn: Parcel, sizes: Tensor, height: int, width: int) -> SliceBatch:
        """Return the slices of a batch.

        Args:
            drawn: `stack`, `index` and `indices` of the samples, on the device.
            sizes: Rows and columns of their slices, `(B, 2)`, on the device.
            height: The rows to which they are continued.
            width: The columns to which they are continued.

        Returns:
            The slices.
        """
        last = sizes - 1
        rows = torch.arange(height, device=sizes.device).minimum(last[:, :1])
        columns = torch.arange(width, device=sizes.device).minimum(last[:, 1:])
        pixels = rows[:, :, None] * sizes[:, 1, None, None] + columns[:, None, :]
        starts, areas = self._starts[drawn["stack"]], sizes.prod(1)
        first_labels = starts + drawn["index"] * areas
        labels = self._labels[first_labels[:, None, None] + pixels]
        # Of the N slices and C channels of each sample.
        first_slices = (starts[:, None] + drawn["indices"] * areas[:, None]) * self._channels
        channels = torch.arange(self._channels, device=sizes.device) * areas[:, None]
        planes = first_slices[:, :, None] + channels[:, None]
        images = self._images[planes[..., None, None] + pixels[:, None, None]]
        return SliceBatch(images, labels)


def _empty(count: int, dtype: np.dtype, device: torch.device) -> Tensor:
    return torch.empty(count, dtype=torch.from_numpy(np.empty(0, dtype)).dtype, device=device)
