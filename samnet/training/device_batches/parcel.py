"""Several arrays in one piece of memory, which goes to a device in one copy."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

_ALIGNMENT = 16  # bytes; a multiple of the size of every number


@dataclass(frozen=True)
class Parcel:
    """Named arrays in one tensor of bytes.

    A batch consists of two dozen small arrays. Each alone would take a file descriptor on its way
    from a worker process, and a copy on its way to the device.

    Attributes:
        content: `(n,)`, the bytes.
        places: Name -> type, shape and first byte of an array.
    """

    content: Tensor
    places: dict[str, tuple[torch.dtype, tuple[int, ...], int]]

    @classmethod
    def pack(cls, arrays: dict[str, np.ndarray]) -> Parcel:
        """Pack arrays.

        Args:
            arrays: Name -> array of a type that torch has.

        Returns:
            A parcel of copies.
        """
        tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
        places, length = {}, 0
        for name, tensor in tensors.items():
            places[name] = (tensor.dtype, tuple(tensor.shape), length)
            length += -(-tensor.nbytes // _ALIGNMENT) * _ALIGNMENT
        parcel = cls(torch.empty(length, dtype=torch.uint8), places)
        for name, tensor in tensors.items():
            parcel[name].copy_(tensor)
        return parcel

    def __getitem__(self, name: str) -> Tensor:
        dtype, shape, first = self.places[name]
        num_bytes = int(np.prod(shape)) * dtype.itemsize
        return self.content[first : first + num_bytes].view(dtype).view(shape)

    def __contains__(self, name: str) -> bool:
        return name in self.places

    def pin_memory(self) -> Parcel:
        """Copy the parcel to pinned memory; the data loader calls this.

        Returns:
            The copy.
        """
        return Parcel(self.content.pin_memory(), self.places)

    def to(self, device: torch.device) -> Parcel:
        """Bring the parcel to a device, from pinned memory without waiting.

        Args:
            device: The device.

        Returns:
            The parcel there.
        """
        return Parcel(self.content.to(device, non_blocking=True), self.places)
