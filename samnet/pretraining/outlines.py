"""Which points lie in a shape, by a function that is negative inside it."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from samnet.pretraining.anatomies import BLOB, CRESCENT, RING, TUBE, WAVES, Shapes
from samnet.pretraining.draws import Draws

_ANGLES = 512  # at which the outlines are tabulated
_SHORTEST_EDGE = 0.3  # shortest distance from the centre to the outline, in units of the radius
_CRESCENT_RADIUS = 0.85  # of what is cut out
# The ragged part of a blob's edge is a sum of waves in all directions.
_BLOB_EDGE, _BLOB_RAGGEDNESS, _BLOB_WAVES = 0.85, 0.2, 4
_BLOB_FREQUENCY = 3.5  # standard deviation of the waves, in radians for one radius
_TUBE_LENGTH, _TUBE_BEND, _THINNEST_TUBE = 1.4, 3.0, 0.03


class Outlines:
    """The outlines of N shapes.

    Attributes:
        shapes: The shapes.
        reach: Half of the lengths `(N, 2)` of a box around each shape, along the shape's axes and
            in units of its radii.
    """

    def __init__(self, shapes: Shapes, draws: Draws) -> None:
        """Tabulate the outlines, and draw what is ragged of blobs.

        Args:
            shapes: The shapes, on the device.
            draws: Source of randomness.
        """
        self.shapes = shapes
        sine, cosine = shapes.angle.sin(), shapes.angle.cos()
        axes = torch.stack([torch.stack([cosine, sine], 1), torch.stack([-sine, cosine], 1)], 1)
        # (u, v) = axes @ (row, column) + origin: coordinates along the axes of a shape, in radii.
        self._axes = axes / shapes.radii[..., None]
        origin = -(self._axes @ shapes.centre[..., None])[..., 0]
        self._edges, largest = self._tabulate_edges()
        # A shape is where the relative radius differs by less than `half` from `middle`.
        is_ring = shapes.outline == RING
        half = torch.where(is_ring, shapes.thickness / 2, 1)
        middle = torch.where(is_ring, 1 - half, 0)
        ratio = (shapes.radii[:, 1] / shapes.radii[:, 0]).clamp_max(1)
        width = shapes.thickness * ratio + _THINNEST_TUBE
        bend = _TUBE_BEND * shapes.amplitude[:, 0]
        edge = torch.arange(len(width), device=width.device) * (_ANGLES + 1) + _ANGLES / 2 + 0.5
        columns = [middle, half.square(), shapes.power, shapes.thickness, width, bend, edge]
        columns.append(shapes.phase[:, 0])
        # What is needed of a shape at its points, so that it is looked up at once.
        self._table = torch.cat([self._axes.flatten(1), origin, torch.stack(columns, dim=1)], dim=1)
        self._ragged_waves = draws.values(len(width), _BLOB_WAVES, 3)
        self.reach = self._find_reach(largest, width + bend.abs())

    def _tabulate_edges(self) -> tuple[Tensor, Tensor]:
        """Return the distance from the centre to the wavy outline by angle, `(N, _ANGLES + 1)`.

        An upper bound of it `(N,)` is returned, too.
        """
        shapes = self.shapes
        device = shapes.angle.device
        angles = torch.linspace(-math.pi, math.pi, _ANGLES + 1, device=device)
        waves = torch.tensor(WAVES, device=device)[:, None] * angles
        basis = torch.cat([waves.cos(), -waves.sin(), torch.ones_like(waves[:1])])
        sides = [shapes.amplitude * shapes.phase.cos(), shapes.amplitude * shapes.phase.sin()]
        ones = torch.ones_like(shapes.angle)[:, None]
        edges = (torch.cat([*sides, ones], dim=1) @ basis).clamp_min_(_SHORTEST_EDGE)
        return edges, 1 + shapes.amplitude.abs().sum(1)

    def _find_reach(self, largest_edge: Tensor, across_tube: Tensor) -> Tensor:
        outline = self.shapes.outline
        ragged = _BLOB_EDGE + _BLOB_RAGGEDNESS * math.sqrt(2 * _BLOB_WAVES)
        reach = torch.where(outline == BLOB, ragged, 1.0) * largest_edge
        along = torch.where(outline == TUBE, _TUBE_LENGTH, reach)
        across = torch.where(outline == TUBE, across_tube, reach)
        return torch.stack([along, across], dim=1)

    def half_lengths(self, half_rows: Tensor, half_columns: Tensor) -> Tensor:
        """Return how far a box reaches from its middle along the axes of each shape.

        Args:
            half_rows: Half of the rows of a box for each shape, in the anatomy's coordinates,
                `(N,)`.
            half_columns: Half of its columns.

        Returns:
            Half lengths along both axes in units of the radii, `(N, 2)`.
        """
        size = self._axes.abs()
        return size[..., 0] * half_rows[:, None] + size[..., 1] * half_columns[:, None]

    def along_axes(self, rows: Tensor, columns: Tensor) -> tuple[Tensor, Tensor]:
        """Return the coordinates of points along the axes of all shapes, in units of their radii.

        Args:
            rows: Row of P points for each shape in the anatomy's coordinates, `(N, P)`.
            columns: Column of each point, `(N, P)`.

        Returns:
            Coordinates along the first and the second axis, `(N, P)` each.
        """
        return _along_axes(self._table, rows, columns)

    def levels(self, index: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        """Return a smooth function that is negative in a shape.

        Args:
            index: The shape for each set of points, `(K,)`.
            rows: Row of each point in the anatomy's coordinates, `(K, P)`.
            columns: Column of each point, `(K, P)`.

        Returns:
            The function at each point, `(K, P)`.
        """
        table = self._table.index_select(0, index)
        middle, half_squared, power, thickness, width, bend, edge, phase = table[:, 6:].split(1, 1)
        u, v = _along_axes(table, rows, columns)
        angular = (power[:, 0] != 2).nonzero()[:, 0]
        radius = (u * u).addcmul_(v, v).sqrt_()
        radius[angular] = _power_norm(u[angular], v[angular], power[angular])
        place = torch.atan2(v, u).mul_(_ANGLES / (2 * math.pi)).add_(edge).int()
        edges = self._edges.view(-1).index_select(0, place.view(-1)).view(u.shape)
        ratio = radius.div_(edges)
        outline = self.shapes.outline.index_select(0, index)
        blobs = (outline == BLOB).nonzero()[:, 0]
        ragged = self._ragged(index[blobs], u[blobs], v[blobs])
        ratio[blobs] = ragged.add_(ratio[blobs]).div_(_BLOB_EDGE)
        levels = ratio.sub_(middle).square_().sub_(half_squared)
        crescents = (outline == CRESCENT).nonzero()[:, 0]
        shift = thickness[crescents]
        cut = (u[crescents] - shift).square_().add_((v[crescents] - shift).square_())
        levels[crescents] = torch.maximum(levels[crescents], _CRESCENT_RADIUS**2 - cut)
        tubes = (outline == TUBE).nonzero()[:, 0]
        along = u[tubes]
        wave = (WAVES[0] * along + phase[tubes]).sin_().mul_(bend[tubes])
        across = (v[tubes] - wave).square_().sub_(width[tubes].square())
        levels[tubes] = torch.maximum(across, along.abs_() - _TUBE_LENGTH)
        return levels

    def _ragged(self, index: Tensor, u: Tensor, v: Tensor) -> Tensor:
        """Return what is added to the relative radius of blobs."""
        total = torch.zeros_like(u)
        for wave in self._ragged_waves[index].unbind(1):
            rows, columns, phase = wave.mul(_BLOB_FREQUENCY).split(1, 1)
            total += (rows * u + columns * v + phase).sin_()
        return total.mul_(_BLOB_RAGGEDNESS * math.sqrt(2 / _BLOB_WAVES))


def _along_axes(table: Tensor, rows: Tensor, columns: Tensor) -> tuple[Tensor, Tensor]:
    u = torch.addcmul(table[:, 4:5], rows, table[:, 0:1]).addcmul_(columns, table[:, 1:2])
    v = torch.addcmul(table[:, 5:6], rows, table[:, 2:3]).addcmul_(columns, table[:, 3:4])
    return u, v


def _power_norm(u: Tensor, v: Tensor, power: Tensor) -> Tensor:
    """Return (|u|^p + |v|^p)^(1/p); with exp and log, which are faster than pow on a CPU."""
    total = torch.zeros_like(u)
    for side in (u, v):
        total += side.abs().clamp_min_(1e-6).log_().mul_(power).exp_()
    return total.log_().div_(power).exp_()
