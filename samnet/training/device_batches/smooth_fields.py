"""Smooth fields of many samples at once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from samnet.training.smooth_fields import num_coarse_values, spline_weights


def pack_coarse_values(fields: Sequence[np.ndarray], most: int) -> tuple[np.ndarray, np.ndarray]:
    """Bring the coarse values of fields of different waves to one size.

    Args:
        fields: Coarse values `(..., k, k)` of each field, with k of its own.
        most: The largest k.

    Returns:
        The values `(n, ..., most, most)` with zeros behind, float32, and k of each field `(n,)`.
    """
    counts = np.array([field.shape[-1] for field in fields])
    values = np.zeros((len(fields), *fields[0].shape[:-2], most, most), np.float32)
    for row, (field, count) in enumerate(zip(fields, counts, strict=True)):
        values[row, ..., :count, :count] = field
    return values, counts


class FieldSpreader:
    """Computes smooth fields from their coarse values, as `spread_field` does for one."""

    def __init__(self, most: int, size: int, device: torch.device) -> None:
        """Prepare the weights.

        Args:
            most: The largest number of coarse values along an edge.
            size: The number of points along each edge.
            device: Where the fields are computed.
        """
        weights = np.zeros((most + 1, size, most), np.float32)
        for count in range(num_coarse_values(1), most + 1):
            weights[count, :, :count] = spline_weights(count, size)
        self._weights = torch.from_numpy(weights).to(device)

    def spread(self, values: Tensor, counts: Tensor) -> Tensor:
        """Compute fields.

        Args:
            values: Coarse values `(n, F, most, most)` of F fields alike in waves for each sample.
            counts: How many of them there are along an edge, `(n,)`.

        Returns:
            The fields `(n, F, size, size)`.
        """
        weights = self._weights[counts][:, None]
        return weights @ values @ weights.mT
