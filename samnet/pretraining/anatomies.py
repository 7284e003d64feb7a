"""Random anatomies: a layer of tissues, and shapes that are painted over it.

The idea of learning from random anatomy is that of SynthSeg (Billot et al. 2023, arXiv 2107.09559)
and anatomix (Dey et al. 2024, arXiv 2411.02372). All anatomies of a batch are drawn at once;
`label_maps` draws any number of individuals of each.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from samnet.pretraining.draws import Draws

MAX_CLASSES = 12
OUTLINES = ("superellipse", "ring", "tube", "crescent", "blob")
SUPERELLIPSE, RING, TUBE, CRESCENT, BLOB = range(len(OUTLINES))
TISSUE_KINDS = ("plain", "partition", "bands")
PLAIN, PARTITION, BANDS = range(len(TISSUE_KINDS))
EVERYWHERE = -1  # `inside` of a shape that is painted over all classes
# Waves along an outline have these numbers of periods.
WAVES = tuple(range(2, 7))

_MOST_IN_CROWD, _MOST_ORGANS = 50, 5
_BODY, _ORGANS = 0, 1 + _MOST_IN_CROWD
_COLUMNS = 10 + 2 * len(WAVES)
# A body, a crowd, and the organs with a companion each: a mirror image or a part.
MAX_SHAPES = 1 + _MOST_IN_CROWD + 2 * _MOST_ORGANS


class Shapes:
    """Regions of space, in coordinates that run from -1 to 1 over the image.

    All numbers of a shape are one row of a table, so that shapes are chosen, copied and moved to a
    device at once. The attributes are parts of it, of shape `(..., k)`, or `(...)` for one number.

    Attributes:
        table: The numbers `(..., 20)`, float32.
        centre: Position `(row, column)`.
        radii: Half axes along the rows and the columns, before the rotation by `angle`.
        angle: Rotation in radians.
        power: Exponent of the superellipse: 2 is an ellipse, a larger one is closer to a rectangle.
        thickness: Thickness of a ring, crescent or tube, as a share of the radius.
        outline: Index of the outline in `OUTLINES`.
        label: Class of the pixels.
        inside: A shape is painted only over pixels of this class, or `EVERYWHERE`.
        amplitude: Amplitude of each of `WAVES` along the outline.
        phase: Phase of each wave in radians.
    """

    def __init__(self, table: Tensor) -> None:
        """Name the parts of a table.

        Args:
            table: The numbers `(..., 20)`.
        """
        self.table = table
        self.centre, self.radii = table[..., 0:2], table[..., 2:4]
        self.angle, self.power, self.thickness, self.outline, self.label, self.inside = table[
            ..., 4:10
        ].unbind(-1)
        self.amplitude, self.phase = table[..., 10:15], table[..., 15:20]


@dataclass(frozen=True)
class Anatomies:
    """What all individuals of each of A anatomies have in common.

    Attributes:
        tissue_kind: Index in `TISSUE_KINDS` of what lies under the shapes, `(A,)`.
        num_tissues: Number of classes of this layer, `(A,)`.
        shapes: Shapes of all anatomies, in the order of anatomies, and for each of them in the
            order of painting: later ones cover earlier ones.
        owner: Anatomy of each shape, `(N,)`.
        num_classes: Number of classes; labels are 0 to `num_classes` - 1; `(A,)`.
        variation: How much individuals differ: 0 for not at all, 0.4 to 1.6 in drawn anatomies;
            `(A,)`.
    """

    tissue_kind: Tensor
    num_tissues: Tensor
    shapes: Shapes
    owner: Tensor
    num_classes: Tensor
    variation: Tensor


def draw_anatomies(count: int, draws: Draws, spread: float = 1.0) -> Anatomies:
    """Draw anatomies of organs, cells or tissue layers, of random number, size and nesting.

    Args:
        count: Number of anatomies A.
        draws: Source of randomness.
        spread: Factor on how much individuals differ.

    Returns:
        The anatomies, with at most `MAX_CLASSES` classes each, on the CPU.
    """
    kind = draws.choice([0.5, 0.35, 0.15], count)
    num_tissues = torch.where(kind == PLAIN, 1, draws.integers(2, 6, count))
    painter = _Painter(count, num_tissues, draws)
    painter.add_bodies((kind == PLAIN) & draws.chance(0.6, count))
    painter.add_crowds(draws.chance(0.3, count))
    painter.add_organs(draws.integers(1, _MOST_ORGANS + 1, count))
    return Anatomies(
        tissue_kind=kind,
        num_tissues=num_tissues,
        shapes=Shapes(painter.shapes.table[painter.is_there]),
        owner=painter.is_there.nonzero()[:, 0],
        num_classes=painter.next_label,
        variation=spread * draws.log_uniform(0.4, 1.6, count),
    )


class _Painter:
    """Adds shapes to a table `(A, MAX_SHAPES)`.

    Attributes:
        shapes: The table.
        is_there: Which of its shapes exist.
        next_label: The next free class of each anatomy.
    """

    def __init__(self, count: int, num_tissues: Tensor, draws: Draws) -> None:
        self._count, self._draws = count, draws
        self._rows = torch.arange(count)
        self.shapes = _draw_discs(count, draws)
        self.is_there = torch.zeros(count, MAX_SHAPES, dtype=torch.bool)
        self.next_label = num_tissues.clone()

    def add_bodies(self, has_body: Tensor) -> None:
        """Add a body that holds the organs to the chosen anatomies."""
        self.shapes.radii[:, _BODY] = self._draws.uniform(0.65, 1.0, self._count, 2)
        self.shapes.centre[:, _BODY] = 0.05 * self._draws.normal(self._count, 2)
        self.shapes.label[:, _BODY] = self.next_label.float()
        self.is_there[:, _BODY] = has_body
        self.next_label += has_body

    def add_crowds(self, has_crowd: Tensor) -> None:
        """Add many objects of one or two classes, such as cells, to the chosen anatomies."""
        draws, count, members = self._draws, self._count, _MOST_IN_CROWD
        number = draws.log_uniform(6, members, count, 1)
        size = 0.9 / number.sqrt() * draws.uniform(0.35, 0.9, count, 1)
        num_classes = draws.integers(1, 3, count, 1)
        own_class = (draws.uniform(0, 1, count, members) * num_classes).floor()
        outlines = torch.tensor([SUPERELLIPSE, BLOB, RING], dtype=torch.float32)
        crowd = Shapes(self.shapes.table[:, _BODY + 1 : _ORGANS])
        crowd.outline[:] = outlines[draws.choice([0.75, 0.15, 0.1], count, 1)]
        crowd.radii[:] = size[..., None] * (0.25 * draws.normal(count, members, 2)).exp()
        crowd.centre[:] = draws.uniform(-0.95, 0.95, count, members, 2)
        crowd.label[:] = self.next_label[:, None] + own_class
        is_counted = torch.arange(members) < number.long()
        self.is_there[:, _BODY + 1 : _ORGANS] = is_counted & has_crowd[:, None]
        self.next_label += num_classes[:, 0] * has_crowd

    def add_organs(self, num_organs: Tensor) -> None:
        """Add structures, some in pairs, some divided into parts, while classes are free."""
        draws, shape = self._draws, (self._count, _MOST_ORGANS)
        organs = Shapes(self.shapes.table[:, _ORGANS::2])
        stretch = draws.uniform(-0.7, 0.7, *shape)
        stretches = torch.stack([stretch, -stretch], dim=-1).exp()
        organs.outline[:] = draws.choice([0.45, 0.13, 0.14, 0.1, 0.18], *shape).float()
        organs.radii[:] = draws.log_uniform(0.05, 0.6, *shape, 1) * stretches
        organs.centre[:] = draws.uniform(-0.7, 0.7, *shape, 2)
        small = draws.uniform(0.2, 0.7, *shape, 1) * stretches
        offset = draws.uniform(-0.5, 0.5, *shape, 2)
        is_nested, kind = draws.chance(0.3, *shape), draws.uniform(0, 1, *shape)
        is_wanted = torch.arange(_MOST_ORGANS) < num_organs[:, None]
        parts = self._draw_parts(shape)
        for organ in range(_MOST_ORGANS):
            slot = _ORGANS + 2 * organ
            self._nest(slot, is_nested[:, organ], small[:, organ], offset[:, organ])
            has_organ = is_wanted[:, organ] & (self.next_label < MAX_CLASSES)
            self.shapes.label[:, slot] = self.next_label.float()
            self.is_there[:, slot] = has_organ
            self.next_label += has_organ
            self._add_companions(slot, kind[:, organ], parts[:, organ])

    def _nest(self, slot: int, is_nested: Tensor, small: Tensor, offset: Tensor) -> None:
        """Move some shapes into earlier ones, and make them small enough to fit."""
        earlier = self.is_there[:, :slot]
        draw = self._draws.uniform(0, 1, self._count, slot) * earlier
        host = Shapes(self.shapes.table[self._rows, draw.argmax(1)])
        reach = host.radii.amin(1, keepdim=True)
        nested = Shapes(self.shapes.table[:, slot].clone())
        nested.centre[:] = host.centre + offset * reach
        nested.radii[:] = (small * reach).clamp_min_(0.03)
        nested.inside[:] = host.label
        is_nested = (is_nested & earlier.any(1))[:, None]
        self.shapes.table[:, slot] = torch.where(
            is_nested, nested.table, self.shapes.table[:, slot]
        )

    def _draw_parts(self, shape: tuple[int, int]) -> Tensor:
        """Draw in which direction, in radii, the part of each organ lies that is another class."""
        angle = self._draws.uniform(0, 2 * math.pi, *shape)
        return 0.9 * torch.stack([angle.sin(), angle.cos()], dim=-1)

    def _add_companions(self, slot: int, kind: Tensor, direction: Tensor) -> None:
        """Add a mirror image of the shapes in a slot, or a part of them with no visible border."""
        main, companion = Shapes(self.shapes.table[:, slot]), Shapes(self.shapes.table[:, slot + 1])
        is_pair = kind < 0.15
        is_divided = ~is_pair & (kind < 0.4) & (self.next_label < MAX_CLASSES)
        reach = main.radii.amax(1, keepdim=True)
        companion.centre[:] = main.centre + reach * direction
        companion.radii[:] = reach
        companion.inside[:] = main.label
        companion.label[:] = self.next_label.float()
        mirrored = Shapes(main.table.clone())
        mirrored.centre[:, 1].neg_()
        mirrored.angle.neg_()
        companion.table[:] = torch.where(is_pair[:, None], mirrored.table, companion.table)
        has_main = self.is_there[:, slot]
        self.is_there[:, slot + 1] = has_main & (is_pair | is_divided)
        self.next_label += has_main & is_divided


def _draw_discs(count: int, draws: Draws) -> Shapes:
    """Draw superellipses of radius 1 around the middle, from which all shapes are formed."""
    shape = (count, MAX_SHAPES)
    waves = torch.tensor(WAVES)
    stop = draws.integers(3, 8, *shape, 1)
    strength = draws.uniform(0, 0.25, *shape, 1) * (waves < stop)
    discs = Shapes(torch.zeros(*shape, _COLUMNS))
    discs.radii[:] = 1
    discs.angle[:] = draws.uniform(0, math.pi, *shape)
    discs.power[:] = torch.where(draws.chance(0.7, *shape), 2.0, draws.uniform(2.5, 6, *shape))
    discs.thickness[:] = draws.uniform(0.08, 0.4, *shape)
    discs.inside[:] = EVERYWHERE
    discs.amplitude[:] = strength * draws.normal(*shape, len(WAVES)) / waves
    discs.phase[:] = draws.uniform(0, 2 * math.pi, *shape, len(WAVES))
    return discs
