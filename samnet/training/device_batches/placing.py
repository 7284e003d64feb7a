"""Where the inputs of a batch lie on their slices, and the slices there."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from samnet.training.device_batches.parcel import Parcel
from samnet.training.device_batches.smooth_fields import FieldSpreader, pack_coarse_values
from samnet.training.placement import BEND_WAVES, EDGE_MARGIN, Placement, draw_bend
from samnet.training.smooth_fields import num_coarse_values

_MOST_COARSE_VALUES = num_coarse_values(BEND_WAVES[1])


def pack_placements(placements: Sequence[Placement], input_size: int) -> dict[str, np.ndarray]:
    """Pack the placements of a batch.

    Args:
        placements: Where each input lies on its slice.
        input_size: Edge of the input in pixels.

    Returns:
        `centre` `(B, 2)` and `matrix` `(B, 2, 2)`. Where any input is bent, also the coarse values
        of the displacements along rows and columns, `bend` `(B, 2, k, k)` and `bend_counts` `(B,)`.
    """
    arrays = {
        "centre": np.array([placement.centre for placement in placements], np.float32),
        "matrix": np.array([placement.matrix for placement in placements], np.float32),
    }
    if any(placement.bend_seed is not None for placement in placements):
        bends = [_coarse_displacement(placement, input_size) for placement in placements]
        arrays["bend"], arrays["bend_counts"] = pack_coarse_values(bends, _MOST_COARSE_VALUES)
    return arrays


def _coarse_displacement(placement: Placement, input_size: int) -> np.ndarray:
    """Return coarse values `(2, k, k)` of a bend; zeros for none."""
    if placement.bend_seed is None:
        return np.zeros((2, num_coarse_values(1), num_coarse_values(1)), np.float32)
    drawn = draw_bend(placement.bend_seed, input_size)
    return drawn.size * np.stack([drawn.along_rows, drawn.along_columns])


class SamplingGrids:
    """Computes where on its slice each pixel of an output lies, for batches.

    Attributes:
        input_size: Edge of the input in pixels.
        stride: Input pixels for each pixel of the output.
    """

    def __init__(self, input_size: int, stride: int, device: torch.device) -> None:
        """Prepare the tables.

        Args:
            input_size: Edge of the input in pixels.
            stride: Input pixels for each pixel of the output.
            device: Where grids are computed.
        """
        self.input_size, self.stride = input_size, stride
        num_points = input_size // stride
        self._fields = FieldSpreader(_MOST_COARSE_VALUES, num_points, device)
        centres = (torch.arange(num_points, dtype=torch.float32, device=device) + 0.5) * stride
        steps = centres - input_size / 2
        self._steps = torch.stack(torch.meshgrid(steps, steps, indexing="ij"))

    def compute(self, drawn: Parcel, sizes: Tensor) -> Tensor:
        """Compute the grids of a batch.

        Args:
            drawn: What `pack_placements` returns, on the device.
            sizes: Rows and columns of each slice, `(B, 2)`.

        Returns:
            `(B, n, n, 2)` with n = input_size / stride, as `sampling_grid` returns for each slice.
        """
        steps = self._steps[None]
        if "bend" in drawn:
            steps = steps + self._fields.spread(drawn["bend"], drawn["bend_counts"])
        along_rows, along_columns = steps[:, 0], steps[:, 1]
        matrix, centre = drawn["matrix"][..., None, None], drawn["centre"][..., None, None]
        y = centre[:, 0] + matrix[:, 0, 0] * along_rows + matrix[:, 0, 1] * along_columns
        x = centre[:, 1] + matrix[:, 1, 0] * along_rows + matrix[:, 1, 1] * along_columns
        rows, columns = sizes[:, 0, None, None], sizes[:, 1, None, None]
        return torch.stack([2 * x / columns - 1, 2 * y / rows - 1], dim=-1)


def within_slice(grids: Tensor) -> Tensor:
    """Tell which points of grids lie on their slices.

    Args:
        grids: `(B, n, n, 2)`.

    Returns:
        `(B, n, n)`.
    """
    return (grids.abs() <= EDGE_MARGIN).all(dim=-1)


def sample_images(images: Tensor, grids: Tensor, sizes: Tensor) -> Tensor:
    """Interpolate images at the points of grids.

    Args:
        images: `(B, C, Hp, Wp)`, slices of different sizes, continued by their last row and column.
        grids: `(B, n, n, 2)`, for the slices without what continues them.
        sizes: Rows and columns of the slices, `(B, 2)`.

    Returns:
        `(B, C, n, n)`; 0 outside the slice.
    """
    height, width = images.shape[-2:]
    shares = torch.stack([sizes[:, 1] / width, sizes[:, 0] / height], dim=-1)
    on_padded = (grids + 1) * shares[:, None, None] - 1
    values = functional.grid_sample(
        images, on_padded, mode="bilinear", padding_mode="border", align_corners=False
    )
    return values * within_slice(grids)[:, None]
