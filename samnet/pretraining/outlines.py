"""Which points lie in a shape, by a function that is negative inside it."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from samnet.pretraining.anatomies import BLOB, CRESCENT, RING, TUBE, WAVES, Shapes
from samnet.pretraining.draws import Draws
from samnet.pretraining.smooth_fields import draw_fields

_ANGLES = 2048  # at which the outlines are tabulated
_SHORTEST_EDGE = 0.3  # shortest distance from the centre to the outline, in units of the radius
_CRESCENT_RADIUS = 0.85  # of what is cut out
_BLOB_EDGE, _BLOB_RAGGEDNESS, _MOST_RAGGED = 0.85, 0.2, 3.0
_BLOB_REACH, _BLOB_POINTS, _BLOB_WAVES = 1.6, 128, 8
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
        self._origin = -(self._axes @ shapes.centre[..., None])[..., 0]
        self._edges = self._tabulate_edges()
        # A shape is where the relative radius differs by less than `half` from `middle`.
        thickness = torch.where(shapes.outline == RING, shapes.thickness / 2, 0)
        self._middle = torch.where(shapes.outline == RING, 1 - thickness, 0)
        self._half = torch.where(shapes.outline == RING, thickness, 1)
        ratio = (shapes.radii[:, 1] / shapes.radii[:, 0]).clamp_max(1)
        self._tube_width = shapes.thickness * ratio + _THINNEST_TUBE
        self._tube_bend = _TUBE_BEND * shapes.amplitude[:, 0]
        is_blob = shapes.outline == BLOB
        self._blob_number = (is_blob.cumsum(0, dtype=torch.int32) - 1).clamp_min_(0)
        # One field at least, so that there is something to look up.
        self._ragged = draw_fields(int(is_blob.sum()) + 1, _BLOB_WAVES, _BLOB_POINTS, draws)
        self._ragged.clamp_(-_MOST_RAGGED, _MOST_RAGGED).mul_(_BLOB_RAGGEDNESS)
        self.reach = self._find_reach()

    def _tabulate_edges(self) -> Tensor:
        """Return the distance from the centre to the wavy outline by angle, `(N, _ANGLES + 1)`."""
        shapes = self.shapes
        device = shapes.angle.device
        angles = torch.linspace(-math.pi, math.pi, _ANGLES + 1, device=device)
        waves = torch.tensor(WAVES, device=device)[:, None] * angles
        basis = torch.cat([waves.cos(), -waves.sin()])
        sides = [shapes.amplitude * shapes.phase.cos(), shapes.amplitude * shapes.phase.sin()]
        return (1 + torch.cat(sides, dim=1) @ basis).clamp_min_(_SHORTEST_EDGE)

    def _find_reach(self) -> Tensor:
        outline = self.shapes.outline
        ragged = _BLOB_EDGE + _BLOB_RAGGEDNESS * _MOST_RAGGED
        reach = torch.where(outline == BLOB, ragged, 1.0) * self._edges.amax(1)
        along = torch.where(outline == TUBE, _TUBE_LENGTH, reach)
        across = torch.where(outline == TUBE, self._tube_width + self._tube_bend.abs(), reach)
        return torch.stack([along, across], dim=1)

    def along_axes(self, index: Tensor, rows: Tensor, columns: Tensor) -> tuple[Tensor, Tensor]:
        """Return the coordinates of points along the axes of shapes, in units of their radii.

        Args:
            index: The shape for each set of points, `(K,)`.
            rows: Row of each point in the anatomy's coordinates, `(K, P)`.
            columns: Column of each point, `(K, P)`.

        Returns:
            Coordinates along the first and the second axis, `(K, P)` each.
        """
        axes, origin = self._axes[index][..., None], self._origin[index][..., None]
        u = torch.addcmul(origin[:, 0], rows, axes[:, 0, 0]).addcmul_(columns, axes[:, 0, 1])
        v = torch.addcmul(origin[:, 1], rows, axes[:, 1, 0]).addcmul_(columns, axes[:, 1, 1])
        return u, v

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

    def levels(self, index: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        """Return a smooth function that is negative in a shape.

        Args:
            index: The shape for each set of points, `(K,)`.
            rows: Row of each point in the anatomy's coordinates, `(K, P)`.
            columns: Column of each point, `(K, P)`.

        Returns:
            The function at each point, `(K, P)`.
        """
        u, v = self.along_axes(index, rows, columns)
        ratio = self._radius(index, u, v).div_(self._edge(index, u, v))
        outline = self.shapes.outline[index]
        blobs = (outline == BLOB).nonzero()[:, 0]
        ragged = self._ragged_at(index[blobs], u[blobs], v[blobs])
        ratio[blobs] = ragged.add_(ratio[blobs]).div_(_BLOB_EDGE)
        middle, half = self._middle[index][:, None], self._half[index][:, None]
        levels = ratio.sub_(middle).square_().sub_(half.square())
        crescents = (outline == CRESCENT).nonzero()[:, 0]
        levels[crescents] = self._crescents(
            index[crescents], u[crescents], v[crescents], levels[crescents]
        )
        tubes = (outline == TUBE).nonzero()[:, 0]
        levels[tubes] = self._tubes(index[tubes], u[tubes], v[tubes])
        return levels

    def _radius(self, index: Tensor, u: Tensor, v: Tensor) -> Tensor:
        """Return the distance from the centre in units of the radius."""
        radius = (u * u).addcmul_(v, v).sqrt_()
        power = self.shapes.power[index]
        angular = (power != 2).nonzero()[:, 0]
        exponent = power[angular][:, None]
        total = _power(u[angular], exponent).add_(_power(v[angular], exponent))
        radius[angular] = _power(total, 1 / exponent)
        return radius

    def _edge(self, index: Tensor, u: Tensor, v: Tensor) -> Tensor:
        """Return the distance from the centre to the outline in the direction of each point."""
        place = torch.atan2(v, u).mul_(_ANGLES / (2 * math.pi)).add_(_ANGLES / 2 + 0.5).int()
        place += (index.int() * (_ANGLES + 1))[:, None]
        return self._edges.view(-1).index_select(0, place.view(-1)).view(u.shape)

    def _ragged_at(self, index: Tensor, u: Tensor, v: Tensor) -> Tensor:
        """Return the ragged field of blobs at points."""
        scale, last = _BLOB_POINTS / (2 * _BLOB_REACH), _BLOB_POINTS - 1
        row = (u * scale).add_(_BLOB_POINTS / 2).clamp_(0, last).int()
        column = (v * scale).add_(_BLOB_POINTS / 2).clamp_(0, last).int()
        place = row.mul_(_BLOB_POINTS).add_(column)
        place += (self._blob_number[index] * _BLOB_POINTS**2)[:, None]
        return self._ragged.view(-1).index_select(0, place.view(-1)).view(u.shape)

    def _crescents(self, index: Tensor, u: Tensor, v: Tensor, discs: Tensor) -> Tensor:
        """Return the function of discs from which another disc is cut out."""
        shift = self.shapes.thickness[index][:, None]
        cut = (u - shift).square_().add_((v - shift).square_())
        return torch.maximum(discs, _CRESCENT_RADIUS**2 - cut)

    def _tubes(self, index: Tensor, u: Tensor, v: Tensor) -> Tensor:
        phase = self.shapes.phase[index, 0][:, None]
        bend = self._tube_bend[index][:, None] * (WAVES[0] * u + phase).sin_()
        across = v.sub(bend).div_(self._tube_width[index][:, None])
        return torch.maximum(across.square_().sub_(1), u.abs() - _TUBE_LENGTH)


def _power(base: Tensor, exponent: Tensor) -> Tensor:
    """Return |base| ** exponent; with exp and log, which are faster than pow on a CPU."""
    return base.abs().clamp_min_(1e-6).log_().mul_(exponent).exp_()
