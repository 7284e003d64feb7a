"""Interpolation along one axis as matrices."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor


# Each view needs two matrices in each direction; those of a large 2D image take many megabytes.
@lru_cache(maxsize=16)
def interpolation_matrix(num_out: int, num_in: int, step: float, start: float) -> Tensor:
    """Return linear interpolation as a matrix.

    Where it shrinks, the weights are a triangle filter of matching width.

    Args:
        num_out: Number of output pixels.
        num_in: Number of input pixels.
        step: Input pixels for each output pixel.
        start: Input position at which the first output pixel begins. The centre of output pixel j
            lies at `start + (j + 0.5) * step`.

    Returns:
        Weights `(num_out, num_in)` in float32. Rows sum to 1, or are 0 where the centre of the
        output pixel lies outside the input.
    """
    centres = start + (torch.arange(num_out, dtype=torch.float64) + 0.5) * step
    inputs = torch.arange(num_in, dtype=torch.float64) + 0.5
    weights = (1 - (centres[:, None] - inputs).abs() / max(1.0, step)).clamp_min(0)
    inside = (centres >= -1e-6) & (centres <= num_in + 1e-6)
    weights = weights / weights.sum(1, keepdim=True).clamp_min(1e-12)
    return (weights * inside[:, None]).float()


@lru_cache(maxsize=16)
def zoom_matrix(num_out: int, num_in: int, order: int) -> Tensor:
    """Return the interpolation of `scipy.ndimage.zoom` along one axis as a matrix.

    Args:
        num_out: Number of output pixels.
        num_in: Number of input pixels.
        order: Order of the splines: 3 for cubic ones, 0 for the nearest pixel.

    Returns:
        Weights `(num_out, num_in)` in float32.
    """
    if num_out == num_in:
        return torch.eye(num_in)
    # Imported here: otherwise every worker process would load SciPy for it.
    from scipy.ndimage import zoom

    # Splines are linear in the values: what becomes of a single 1 is a column of the matrix.
    columns = [zoom(row, num_out / num_in, order=order) for row in np.eye(num_in)]
    return torch.from_numpy(np.stack(columns, axis=1)).float()
