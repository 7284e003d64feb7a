"""Synthetic label maps: individuals of random anatomies.

Individuals differ from each other as patients do. Every shape of the anatomy is moved, turned and
resized a little, and space is bent.

All label maps of a batch are painted together, in square tiles: each shape in the tiles that it
may reach.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from samnet.pretraining.anatomies import (
    EVERYWHERE,
    MAX_CLASSES,
    MAX_SHAPES,
    Anatomies,
    Shapes,
)
from samnet.pretraining.draws import Draws
from samnet.pretraining.outlines import Outlines
from samnet.pretraining.smooth_fields import spline_matrices
from samnet.pretraining.tissues import Tissues

OUTSIDE = -1  # beyond the field of view
MAX_REGIONS = MAX_CLASSES + MAX_SHAPES
_TILE = 8
# Smooth functions are computed at these rows and columns of a tile and spread over its pixels by
# polynomials. The distances are those at which such polynomials are most accurate.
_NODES = (0, 2, 5, 7)
# Bent space: the fewest and the most waves, and the strength.
_BENDS = ((2, 4, 0.05), (6, 13, 0.012))
# A pixel is painted with CODES times the number of its region, plus its class. Later regions have
# larger numbers, so to paint over is to take the larger value.
_CODES = 16


@dataclass(frozen=True)
class LabelMaps:
    """The label maps of I individuals.

    Attributes:
        classes: Classes `(I, S, S)`, int8, `OUTSIDE` beyond the field of view.
        regions: Numbers of objects `(I, S, S)`, int16, `OUTSIDE` beyond the field of view. Two
            objects of one class have different numbers.
        margins: Pixels outside on every side along rows and columns, `(I, 2)`, on the CPU.
    """

    classes: Tensor
    regions: Tensor
    margins: Tensor


def draw_individuals(anatomies: Anatomies, count: int, size: int, draws: Draws) -> LabelMaps:
    """Draw individuals of each anatomy.

    Args:
        anatomies: The A anatomies.
        count: Number of individuals of each.
        size: Edge of the square label maps in pixels, a multiple of 8.
        draws: Source of randomness.

    Returns:
        Maps of `A * count` individuals; those of one anatomy follow each other.
    """
    owner = torch.arange(len(anatomies.variation)).repeat_interleave(count)
    variation = anatomies.variation[owner]
    nodes = _bent_coordinates(variation, size, draws)
    codes = _paint_tissues(anatomies, nodes, draws)
    shapes, individual = _vary(anatomies, owner, variation, draws)
    _paint_shapes(codes, shapes, individual, nodes, draws)
    painted = _from_tiles(codes, size).to(torch.int16)
    margins = _draw_margins(len(owner), size, draws)
    classes, regions = (painted & (_CODES - 1)).to(torch.int8), painted >> 4
    for row, (rows, columns) in enumerate(margins.tolist()):
        for plane in (classes[row], regions[row]):
            clear_margins(plane, rows, columns, OUTSIDE)
    return LabelMaps(classes, regions, margins)


def clear_margins(plane: Tensor, rows: int, columns: int, value: float) -> None:
    """Fill the margins of planes, in place.

    Args:
        plane: Planes `(..., S, S)`.
        rows: Number of rows above and below.
        columns: Number of columns on the left and on the right.
        value: The value to fill in.
    """
    if rows:
        plane[..., :rows, :] = plane[..., -rows:, :] = value
    if columns:
        plane[..., :columns] = plane[..., -columns:] = value


def _bent_coordinates(variation: Tensor, size: int, draws: Draws) -> Tensor:
    """Return rows and columns `(2, I, T, 16)` of the nodes in the anatomies' coordinates.

    Space is zoomed, shifted, rotated, and bent by a coarse and a fine random field. All of this is
    one product `basis @ values @ basis.T`: besides splines, the basis has a straight line and 1.
    """
    count, device = len(variation), draws.device
    angle = 0.12 * variation * draws.normal(count)
    zoom = (0.08 * variation[:, None] * draws.normal(count, 2)).exp()
    shift = 0.05 * variation[:, None] * draws.normal(count, 2)
    cosine, sine = angle.cos(), angle.sin()
    rotation = torch.stack([torch.stack([cosine, -sine], 1), torch.stack([sine, cosine], 1)])
    slopes = (rotation * zoom).to(device)
    places = _node_places(size).to(device)
    line = (places + 0.5) / size * 2 - 1
    basis = [torch.stack([line, torch.ones_like(line)], dim=1).expand(count, -1, -1)]
    blocks = [(2, torch.zeros(2, count, 2, 2, device=device))]
    blocks[0][1][..., 0, 1], blocks[0][1][..., 1, 0] = slopes.unbind(-1)
    blocks[0][1][..., 1, 1] = (rotation * shift).sum(2).to(device)
    for fewest, most, strength in _BENDS:
        waves = draws.integers(0, most - fewest + 1, count).to(device)
        basis.append(spline_matrices(fewest, most, size, device)[:, places][waves])
        values = draws.values(2, count, most + 3, most + 3)
        blocks.append((most + 3, values * (strength * variation.to(device)[:, None, None])))
    matrix = torch.cat(basis, dim=2)
    coefficients = torch.zeros(2, count, matrix.shape[2], matrix.shape[2], device=device)
    start = 0
    for width, values in blocks:
        coefficients[..., start : start + width, start : start + width] = values
        start += width
    edge = size // _TILE
    planes = matrix @ coefficients @ matrix.mT
    split = planes.view(2, count, edge, len(_NODES), edge, len(_NODES)).transpose(3, 4)
    return split.reshape(2, count, edge**2, len(_NODES) ** 2)


def _node_places(size: int) -> Tensor:
    """Return the rows, which are also the columns, of all nodes in pixels."""
    return (torch.arange(0, size, _TILE)[:, None] + torch.tensor(_NODES)).flatten()


@lru_cache(maxsize=4)
def _spreading(device: torch.device) -> Tensor:
    """Return the matrix `(16, _TILE ** 2)` from the nodes of a tile to its pixels."""
    pixels = torch.arange(_TILE, dtype=torch.float64)
    weights = torch.ones(len(_NODES), _TILE, dtype=torch.float64)
    for index, node in enumerate(_NODES):
        for other in _NODES:
            if other != node:
                weights[index] *= (pixels - other) / (node - other)
    return torch.kron(weights, weights).float().to(device)


def _from_tiles(tiles: Tensor, size: int) -> Tensor:
    """Return tiles `(I * T, _TILE ** 2)` as planes `(I, S, S)`."""
    edge = size // _TILE
    split = tiles.view(-1, edge, edge, _TILE, _TILE)
    return split.transpose(2, 3).reshape(-1, size, size)


def _paint_tissues(anatomies: Anatomies, nodes: Tensor, draws: Draws) -> Tensor:
    """Return the codes `(I * T, _TILE ** 2)` of the tissues of all individuals."""
    count = len(anatomies.variation)
    _, individuals, num_tiles, points = nodes.shape
    codes = torch.zeros(count, individuals * num_tiles // count, _TILE**2, device=draws.device)
    tissues = Tissues(anatomies, draws)
    owners = tissues.owners.to(draws.device)
    if len(owners):
        there = nodes.view(2, count, -1)[:, owners]
        fields = tissues.at(there).unflatten(2, (-1, points))
        spreading = _spreading(draws.device)
        highest = fields[0] @ spreading
        painted = torch.zeros_like(highest)
        for tissue, having in enumerate(tissues.having, start=1):
            field = fields[tissue, :having] @ spreading
            top, code = highest[:having], painted[:having]
            is_higher = torch.gt(field, top, out=torch.empty_like(field))
            torch.maximum(code, is_higher.mul_(tissue * (_CODES + 1)), out=code)
            torch.maximum(top, field, out=top)
        codes[owners] = painted
    return codes.view(-1, _TILE**2)


def _vary(
    anatomies: Anatomies, owner: Tensor, variation: Tensor, draws: Draws
) -> tuple[Shapes, Tensor]:
    """Return every individual's version of its shapes, and the individual of each."""
    individual, index = (anatomies.owner == owner[:, None]).nonzero().unbind(1)
    shapes, count = Shapes(anatomies.shapes.table[index]), len(index)
    strength = variation[individual, None]
    smallest = shapes.radii.amin(1, keepdim=True)
    shapes.centre.add_(0.15 * strength * smallest * draws.normal(count, 2))
    shapes.radii.mul_((0.1 * strength * draws.normal(count, 2)).exp())
    shapes.angle.add_(0.15 * strength[:, 0] * draws.normal(count))
    return shapes, individual


def _paint_shapes(
    codes: Tensor, shapes: Shapes, individual: Tensor, nodes: Tensor, draws: Draws
) -> None:
    """Paint all shapes over the codes `(I * T, _TILE ** 2)`, in place."""
    device = codes.device
    # The place of a shape among those of its individual: its region.
    position = torch.arange(len(individual)) - torch.searchsorted(individual, individual)
    code = ((MAX_CLASSES + position) * _CODES + shapes.label).to(device)
    outlines = Outlines(Shapes(shapes.table.to(device)), draws)
    strokes = _find_strokes(outlines, individual.to(device), nodes)
    places = nodes.movedim(0, 2).flatten(0, 1).flatten(1)  # rows, then columns
    rows, columns = places.index_select(0, strokes.tile).chunk(2, dim=1)
    levels = outlines.levels(strokes.shape, rows, columns)
    inside = outlines.shapes.inside[strokes.shape]
    color = code[strokes.shape][:, None]
    start = 0
    for length in strokes.rounds:
        part = slice(start, start + length)
        tile = strokes.tile[part]
        mask = (levels[part] @ _spreading(device)).lt_(0).mul_(color[part])
        current = codes.index_select(0, tile)
        limited = (inside[part] != EVERYWHERE).nonzero()[:, 0]
        under = current[limited]
        under.sub_((under / _CODES).floor_().mul_(_CODES))
        mask[limited] = under.eq_(inside[part][limited, None]).mul_(mask[limited])
        codes.index_copy_(0, tile, torch.maximum(current, mask, out=mask))
        start += length


@dataclass(frozen=True)
class _Strokes:
    """Pairs of a shape and a tile that it may reach, in the order of painting.

    Attributes:
        shape: Index of the shape.
        tile: Index of the tile among those of all individuals.
        rounds: Numbers of strokes that can be painted together, one round after the other. In a
            round every tile occurs once at most.
    """

    shape: Tensor
    tile: Tensor
    rounds: list[int]


def _find_strokes(outlines: Outlines, individual: Tensor, nodes: Tensor) -> _Strokes:
    """Find which tiles each shape may reach."""
    low, high = nodes.amin(3), nodes.amax(3)
    centre = ((low + high) / 2)[:, individual]
    largest = ((high - low) / 2).amax(2)[:, individual]
    u, v = outlines.along_axes(*centre)
    reach = outlines.reach + outlines.half_lengths(*largest)
    is_near = (u.abs_() < reach[:, :1]).logical_and_(v.abs_() < reach[:, 1:])
    shape, own_tile = is_near.nonzero().unbind(1)
    tile = individual[shape] * is_near.shape[1] + own_tile
    # Shapes are in the order of painting, and the sort is stable.
    ordered, order = tile.sort(stable=True)
    place = torch.arange(len(tile), device=tile.device) - torch.searchsorted(ordered, ordered)
    place, by_round = place.sort(stable=True)
    order = order[by_round]
    return _Strokes(shape[order], tile[order], torch.bincount(place).tolist())


def _draw_margins(count: int, size: int, draws: Draws) -> Tensor:
    """Return the margins outside the field of view, as around slices that are not square."""
    margin = (draws.uniform(0.03, 0.25, count) * size).long() * draws.chance(0.25, count)
    is_rows = draws.chance(0.5, count)
    return torch.stack([margin * is_rows, margin * ~is_rows], dim=1)
