"""Tissues that lie under the shapes of an anatomy.

A point has the tissue whose field is the largest there. So tissues touch each other everywhere.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from samnet.pretraining.anatomies import BANDS, PLAIN, Anatomies
from samnet.pretraining.draws import Draws
from samnet.pretraining.smooth_fields import draw_varied_fields

MAX_TISSUES = 5
_EXTENT = 1.6  # fields are known for coordinates from -1.6 to 1.6; the image is from -1 to 1
_POINTS = 56  # along each edge of a field
_FEWEST_WAVES, _END_OF_WAVES = 3, 12  # of a partition
_NOWHERE = 1e4  # depth at which a layer begins that the anatomy lacks


class Tissues:
    """The fields of all anatomies that have more than one tissue.

    Attributes:
        owners: Which anatomies they are, those with most tissues first; `(M,)`, on the CPU.
        having: For each tissue from the second on, how many of them have it.
    """

    def __init__(self, anatomies: Anatomies, draws: Draws) -> None:
        """Draw the fields.

        Args:
            anatomies: The anatomies.
            draws: Source of randomness.
        """
        by_count = anatomies.num_tissues.sort(descending=True, stable=True)[1]
        kind = anatomies.tissue_kind[by_count]
        self.owners = by_count[kind != PLAIN]
        counts = anatomies.num_tissues[self.owners]
        self.having = [int((counts > tissue).sum()) for tissue in range(1, MAX_TISSUES)]
        waves = draws.integers(_FEWEST_WAVES, _END_OF_WAVES, len(counts))
        self._fields = draw_varied_fields(waves, _END_OF_WAVES - 1, _POINTS, draws, MAX_TISSUES)
        banded = (anatomies.tissue_kind[self.owners] == BANDS).nonzero()[:, 0]
        self._fields[banded.to(draws.device)] = _draw_bands(counts[banded], draws)

    def at(self, coordinates: Tensor) -> Tensor:
        """Return the fields at points.

        Args:
            coordinates: Rows and columns of the points of each of `owners`, `(2, M, P)`.

        Returns:
            Fields `(5, M, P)`; those of tissues that an anatomy lacks have no meaning.
        """
        grid = (coordinates.flip(0) / _EXTENT).movedim(0, -1)[:, None]
        found = functional.grid_sample(
            self._fields, grid, padding_mode="border", align_corners=False
        )
        return found[:, :, 0].transpose(0, 1)


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
    starts[torch.arange(1, MAX_TISSUES) >= counts[:, None]] = _NOWHERE
    offsets = functional.pad(starts.sort(dim=1)[0].cumsum(1), (1, 0)).to(draws.device)
    order = torch.arange(MAX_TISSUES, device=draws.device)
    return order[:, None, None] * depth[:, None] - offsets[..., None, None]
