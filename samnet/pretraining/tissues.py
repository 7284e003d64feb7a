"""Tissues that lie under the shapes of an anatomy.

A point has the tissue whose field is the largest there. So tissues touch each other everywhere.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from samnet.pretraining.anatomies import BANDS, PARTITION, Anatomies
from samnet.pretraining.draws import Draws
from samnet.pretraining.smooth_fields import draw_varied_fields

MAX_TISSUES = 5
_EXTENT = 1.6  # fields are known for coordinates from -1.6 to 1.6; the image is from -1 to 1
_POINTS = 96  # along each edge of a field
_FEWEST_WAVES, _END_OF_WAVES = 3, 12  # of a partition
_UNUSED = -1e4  # field of a tissue that the anatomy lacks


class Tissues:
    """The fields of all anatomies that have more than one tissue.

    Attributes:
        row: Which of the fields belong to each anatomy `(A,)`, on the CPU; -1 where there is only
            one tissue.
        counts: Number of tissues of each anatomy, on the CPU.
    """

    def __init__(self, anatomies: Anatomies, draws: Draws) -> None:
        """Draw the fields.

        Args:
            anatomies: The anatomies.
            draws: Source of randomness.
        """
        partitioned = (anatomies.tissue_kind == PARTITION).nonzero()[:, 0]
        banded = (anatomies.tissue_kind == BANDS).nonzero()[:, 0]
        owners = torch.cat([partitioned, banded])
        self.counts = anatomies.num_tissues
        self.row = torch.full_like(self.counts, -1)
        self.row[owners] = torch.arange(len(owners))
        waves = draws.integers(_FEWEST_WAVES, _END_OF_WAVES, len(partitioned))
        partitions = draw_varied_fields(waves, _END_OF_WAVES - 1, _POINTS, draws, MAX_TISSUES)
        self._fields = torch.cat([partitions, _draw_bands(self.counts[banded], draws)])
        is_unused = torch.arange(MAX_TISSUES) >= self.counts[owners, None]
        self._fields.masked_fill_(is_unused.to(draws.device)[..., None, None], _UNUSED)

    def at(self, rows: Tensor, coordinates: Tensor) -> Tensor:
        """Return the fields at points.

        Args:
            rows: Which fields to take for each set of points, `(n,)`, on the CPU.
            coordinates: Rows and columns of the points, `(2, n, ..., P)`.

        Returns:
            Fields `(n, 5, ..., P)`.
        """
        grid = (coordinates.flip(0) / _EXTENT).movedim(0, -1)
        flat = grid.reshape(len(rows), 1, -1, 2)
        fields = self._fields[rows.to(self._fields.device)]
        found = functional.grid_sample(fields, flat, padding_mode="border", align_corners=False)
        return found.view(len(rows), MAX_TISSUES, *coordinates.shape[2:])


def _draw_bands(counts: Tensor, draws: Draws) -> Tensor:
    """Return the fields of tissue layers on top of each other, sloping and bent.

    The field of layer k is k times the depth, minus the depths at which the layers up to k begin.
    So a layer's field exceeds that of the layer before from the depth on at which it begins.
    """
    line = torch.linspace(-_EXTENT, _EXTENT, _POINTS, device=draws.device)
    slope, phase, bend, turn = draws.normal(4, len(counts), 1, 1).to(draws.device)
    across = 0.3 * slope * line + 0.2 * bend * (2 * line + turn).cos() + 0.2 * phase
    depth = line[:, None] + across
    starts = draws.uniform(-0.8, 0.8, len(counts), MAX_TISSUES - 1)
    starts[torch.arange(1, MAX_TISSUES) >= counts[:, None]] = -_UNUSED
    offsets = torch.nn.functional.pad(starts.sort(dim=1)[0].cumsum(1), (1, 0)).to(draws.device)
    order = torch.arange(MAX_TISSUES, device=draws.device)
    return order[:, None, None] * depth[:, None] - offsets[..., None, None]
