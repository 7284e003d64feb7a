"""Smooth random fields of many images at once.

The fields are those of `samnet.training.smooth_fields`: cubic B-splines over random values, of
about unit variance.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from samnet.pretraining.draws import Draws
from samnet.training.smooth_fields import num_coarse_values, spline_weights


@lru_cache(maxsize=512)
def spline_matrix(cells: int, size: int, device: torch.device) -> Tensor:
    """Return the weight of each coarse value in each point along one axis.

    Args:
        cells: Number of waves along the axis.
        size: Number of points.
        device: Where the matrix is needed.

    Returns:
        Weights `(size, cells + 3)`, float32. They are shared and not to be changed.
    """
    return torch.from_numpy(spline_weights(num_coarse_values(cells), size)).to(device)


@lru_cache(maxsize=64)
def spline_matrices(fewest: int, most: int, size: int, device: torch.device) -> Tensor:
    """Return the matrices of all numbers of waves in a range, with zeros behind.

    Args:
        fewest: Smallest number of waves.
        most: Largest number of waves.
        size: Number of points along an axis.
        device: Where the matrices are needed.

    Returns:
        Weights `(most - fewest + 1, size, most + 3)`, float32. They are shared.
    """
    matrices = np.zeros((most - fewest + 1, size, num_coarse_values(most)), np.float32)
    for cells in range(fewest, most + 1):
        count = num_coarse_values(cells)
        matrices[cells - fewest, :, :count] = spline_weights(count, size)
    return torch.from_numpy(matrices).to(device)


def draw_fields(count: int, cells: int, size: int, draws: Draws) -> Tensor:
    """Draw fields with the same number of waves.

    Args:
        count: Number of fields.
        cells: Number of waves along each edge.
        size: Number of points along each edge.
        draws: Source of randomness.

    Returns:
        Fields `(count, size, size)`, float32.
    """
    matrix = spline_matrix(cells, size, draws.device)
    values = draws.windows(count, matrix.shape[1], matrix.shape[1])
    return matrix @ values @ matrix.T


def draw_varied_fields(
    cells: Tensor, most: int, size: int, draws: Draws, fields: int = 1
) -> Tensor:
    """Draw fields with a number of waves for each image.

    Args:
        cells: Number of waves along each edge `(n,)`, on the CPU.
        most: The largest number of waves that there can be.
        size: Number of points along each edge.
        draws: Source of randomness.
        fields: Number of fields for each image, F.

    Returns:
        Fields `(n, F, size, size)`, float32.
    """
    matrices = spline_matrices(1, most, size, draws.device)
    matrix = matrices[(cells - 1).to(draws.device)][:, None]
    values = draws.windows(len(cells), fields, matrix.shape[-1], matrix.shape[-1])
    return matrix @ values @ matrix.mT
