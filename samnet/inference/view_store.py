"""Keeps the probabilities of all slices of a view, at the resolution of the networks' outputs."""

from __future__ import annotations

import math
import os
import tempfile

import torch
from torch import Tensor

from samnet.inference.out_of_memory import PredictionMemory
from samnet.inference.reconstruction import ViewMaps
from samnet.inference.slices import SlicePredictor

VIEW_BYTES = 512 * 2**20


class ViewStore:
    """The maps of a view in half precision, filled chunk by chunk.

    They are kept on a CUDA device that has the room for them, else in main memory, and in a
    temporary file where they are large.
    """

    def __init__(
        self,
        predictor: SlicePredictor,
        axis: int,
        view_bytes: int = VIEW_BYTES,
        *,
        may_use_device: bool = True,
    ) -> None:
        """Prepare the store; space is taken with the first chunk.

        Args:
            predictor: What predicts the slices of the view.
            axis: The axis across which they lie.
            view_bytes: Maps that take more bytes are kept in a file.
            may_use_device: Whether the maps may stay on a CUDA device. Those that are kept until
                another case is predicted may not.
        """
        self._predictor, self._axis = predictor, axis
        self._view_bytes, self._may_use_device = view_bytes, may_use_device
        self._maps: Tensor | None = None

    def add(self, start: int, maps: Tensor) -> None:
        """Keep the maps of some slices.

        Args:
            start: The first slice.
            maps: Their probabilities `(K, N, h, w)`.
        """
        if self._maps is None:
            shape = (len(maps), len(self._predictor.slices), *maps.shape[2:])
            self._maps = self._allocate(shape)
        self._maps[:, start : start + maps.shape[1]] = maps

    def view(self) -> ViewMaps:
        """Return the maps of all slices, with their place in the volume.

        Returns:
            The view, which is computed where the maps are.
        """
        assert self._maps is not None
        predictor = self._predictor
        device = self._maps.device
        return ViewMaps(self._maps, self._axis, predictor.frame, predictor.stride, device)

    def _allocate(self, shape: tuple[int, ...]) -> Tensor:
        size = 2 * math.prod(shape)
        memory = self._predictor.memory
        if self._may_use_device and _has_room(memory, size):
            return memory.resample(
                lambda: torch.empty(shape, dtype=torch.half, device=memory.device)
            )
        if size <= self._view_bytes or os.name != "posix":
            # Elsewhere than on posix a file in use cannot be deleted.
            return torch.empty(shape, dtype=torch.half)
        # The file is deleted at once; its space is freed with the tensor.
        with tempfile.NamedTemporaryFile(prefix="samnet-") as file:
            if hasattr(os, "posix_fallocate"):
                # A full disk is an error here; later it would be a crash.
                os.posix_fallocate(file.fileno(), 0, size)
            flat = torch.from_file(file.name, shared=True, size=math.prod(shape), dtype=torch.half)
            return flat.view(shape)


def _has_room(memory: PredictionMemory, size: int) -> bool:
    return memory.device.type != "cpu" and memory.batch.has_room(size)
