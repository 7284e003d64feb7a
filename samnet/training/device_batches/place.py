"""Whether batches are made on a device, and where the slices are meanwhile."""

from __future__ import annotations

import logging
from collections.abc import Callable
from enum import Enum

import numpy as np
import torch
from torch.utils.data import Dataset

from samnet.training.device_batches.slices import storage_bytes
from samnet.training.sampling import SliceSamples
from samnet.training.slice_reader import SliceReader
from samnet.training.stack_samples import StackSamples

log = logging.getLogger(__name__)
MEMORY_SHARE = 0.05  # of a device's free memory: a training step is planned to take up to 0.92
_GIB = 2**30
_INDEX_BYTES = 8


class SlicePlace(Enum):
    """Where the slices are from which batches are made on a device."""

    DEVICE = "all slices in its memory"
    HOST = "slices from pinned memory"


def free_bytes(device: torch.device) -> int:
    """Return the memory of a GPU that is free, or that this process holds in reserve.

    Args:
        device: The GPU.

    Returns:
        Its size in bytes.
    """
    free, _ = torch.cuda.mem_get_info(device)
    return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)


def find_slice_place(
    samples: Dataset,
    batch_size: int,
    device: torch.device,
    measure_free: Callable[[torch.device], int] = free_bytes,
) -> SlicePlace | None:
    """Decide whether batches are made on a device. The log says why not, on a GPU.

    Args:
        samples: The samples of the run.
        batch_size: Rows of a batch in this process.
        device: What the run trains on.
        measure_free: Returns the free memory of a GPU in bytes.

    Returns:
        Where the slices are; None to make samples one by one on the CPU.
    """
    if device.type != "cuda":
        return None
    if isinstance(samples, StackSamples):
        log.info("samples are made on the CPU, as they are stacks of slices")
        return None
    if not isinstance(samples, SliceSamples):
        log.info("samples are made on the CPU, as they come from stored embeddings")
        return None
    storage = storage_bytes(samples.reader)
    working = working_bytes(samples.reader, batch_size)
    free = measure_free(device)
    place = choose_slice_place(storage, working, free)
    if place is SlicePlace.DEVICE and samples.reader.configuration.structure_copying:
        place = SlicePlace.HOST  # structures are copied into slices on the CPU
    if place is None:
        log.info(
            "samples are made on the CPU: to make a batch on the GPU takes %.1f GiB, more than "
            "%.0f %% of the %.1f GiB that are free",
            working / _GIB,
            100 * MEMORY_SHARE,
            free / _GIB,
        )
    else:
        log.info("batches are made on the GPU: %s (%.2f GiB)", place.value, storage / _GIB)
    return place


def choose_slice_place(storage: int, working: int, free: int) -> SlicePlace | None:
    """Choose where the slices are by what they take.

    Args:
        storage: Bytes of all slices.
        working: Bytes that making a batch takes.
        free: Bytes that are free on the device.

    Returns:
        The place; None where a batch takes too much.
    """
    limit = MEMORY_SHARE * free
    if working > limit:
        return None
    return SlicePlace.DEVICE if storage <= limit else SlicePlace.HOST


def working_bytes(reader: SliceReader, batch_size: int) -> int:
    """Estimate what making a batch takes on a device.

    Args:
        reader: The slices.
        batch_size: Rows of a batch in this process.

    Returns:
        The size in bytes of its slices, with the positions from which they are gathered, and of a
        few copies of its images.
    """
    heights, widths = zip(*(reader.size(*stack) for stack in reader.stacks), strict=True)
    num_slices = len(reader.indices(*reader.stacks[0], 0))
    planes = num_slices * reader.num_channels * max(heights) * max(widths)
    single = np.dtype(np.float32).itemsize
    slices = planes * (2 * single + _INDEX_BYTES)
    images = 4 * int(np.prod(reader.sample_shape)) * single
    grids = 8 * reader.configuration.input_size**2 * single
    return batch_size * (slices + images + grids)
