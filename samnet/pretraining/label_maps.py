"""Synthetic label maps: individuals of a random anatomy.

Individuals differ from each other as patients do. Every shape of the anatomy is moved, turned and
resized a little, and space is bent.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from samnet.pretraining.anatomies import MAX_CLASSES, Anatomy, Shape
from samnet.training.smooth_fields import smooth_field

OUTSIDE = -1  # beyond the field of view


@dataclass(frozen=True)
class LabelMap:
    """The label map of one individual.

    Attributes:
        classes: Classes `(H, W)`, int8, `OUTSIDE` beyond the field of view.
        regions: Numbers of objects `(H, W)`, int16, `OUTSIDE` beyond the field of view. Two objects
            of one class have different numbers.
    """

    classes: np.ndarray
    regions: np.ndarray


def draw_individual(anatomy: Anatomy, generator: np.random.Generator, size: int) -> LabelMap:
    """Draw one individual of an anatomy.

    Args:
        anatomy: The anatomy.
        generator: Source of randomness.
        size: Edge of the square label map in pixels.

    Returns:
        Maps of `(size, size)` pixels.
    """
    rows, columns = _bent_coordinates(generator, size, anatomy.variation)
    classes = _sample_tissues(anatomy.tissues, rows, columns)
    regions = classes.astype(np.int16)
    number = MAX_CLASSES  # above the numbers of all tissues
    for common_shape in anatomy.shapes:
        shape = _vary(common_shape, generator, anatomy.variation)
        area = _reachable_area(shape, rows, columns)
        if area is None:
            continue
        mask = _shape_mask(shape, rows[area], columns[area], generator)
        if shape.inside is not None:
            mask &= classes[area] == shape.inside
        classes[area][mask] = shape.label
        regions[area][mask] = number
        number += 1
    if generator.random() < 0.25:
        _limit_field_of_view(classes, regions, generator)
    return LabelMap(classes, regions)


def _bent_coordinates(
    generator: np.random.Generator, size: int, variation: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return the row and the column `(size, size)` of every pixel in the anatomy's coordinates.

    Space is zoomed, shifted, rotated, and bent by a coarse and a fine random field.
    """
    line = ((np.arange(size) + 0.5) / size * 2 - 1).astype(np.float32)
    angle = float(generator.normal(0, 0.12 * variation))
    zoom = np.exp(generator.normal(0, 0.08 * variation, 2)).astype(np.float32)
    shift = generator.normal(0, 0.05 * variation, 2).astype(np.float32)
    sine, cosine = np.float32(math.sin(angle)), np.float32(math.cos(angle))
    y = line[:, None] * zoom[0] + shift[0]
    x = line[None] * zoom[1] + shift[1]
    rows = cosine * y - sine * x
    columns = sine * y + cosine * x
    coarse, fine = int(generator.integers(2, 5)), int(generator.integers(6, 14))
    for cells, strength in ((coarse, 0.05), (fine, 0.012)):
        rows += np.float32(strength * variation) * smooth_field(generator, cells, size)
        columns += np.float32(strength * variation) * smooth_field(generator, cells, size)
    return rows, columns


def _sample_tissues(tissues: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Return the tissue of every pixel; the tissue map covers coordinates from -2 to 2."""
    size = tissues.shape[0]
    indices = []
    for coordinates in (rows, columns):
        position = np.clip((coordinates + 2) * (size / 4), 0, size - 1)
        indices.append(position.astype(np.intp))
    return tissues[indices[0], indices[1]]


def _vary(shape: Shape, generator: np.random.Generator, variation: float) -> Shape:
    """Return one individual's version of a shape."""
    move = generator.normal(0, 0.15 * variation, 2) * min(shape.radii)
    growth = np.exp(generator.normal(0, 0.1 * variation, 2))
    return replace(
        shape,
        centre=(shape.centre[0] + float(move[0]), shape.centre[1] + float(move[1])),
        radii=(shape.radii[0] * float(growth[0]), shape.radii[1] * float(growth[1])),
        angle=shape.angle + float(generator.normal(0, 0.15 * variation)),
    )


def _reachable_area(
    shape: Shape, rows: np.ndarray, columns: np.ndarray
) -> tuple[slice, slice] | None:
    """Return the part of the image that a shape can reach; no other pixel has to be tested."""
    reach = max(shape.radii) * 1.6
    near = (np.abs(rows - shape.centre[0]) < reach) & (np.abs(columns - shape.centre[1]) < reach)
    near_rows = np.flatnonzero(near.any(axis=1))
    near_columns = np.flatnonzero(near.any(axis=0))
    if not len(near_rows):
        return None
    return (
        slice(near_rows[0], near_rows[-1] + 1),
        slice(near_columns[0], near_columns[-1] + 1),
    )


def _shape_mask(
    shape: Shape, rows: np.ndarray, columns: np.ndarray, generator: np.random.Generator
) -> np.ndarray:
    """Tell which pixels lie in a shape."""
    # u and v are coordinates along the axes of the shape, in units of its radii.
    sine, cosine = math.sin(shape.angle), math.cos(shape.angle)
    y, x = rows - shape.centre[0], columns - shape.centre[1]
    u = (cosine * y + sine * x) / shape.radii[0]
    v = (cosine * x - sine * y) / shape.radii[1]
    if shape.outline == "tube":
        return _tube_mask(shape, u, v)
    radius = _relative_radius(shape, u, v)
    if shape.outline == "ring":
        return (radius < 1) & (radius > 1 - shape.thickness)
    if shape.outline == "crescent":
        return (radius < 1) & (np.hypot(u - shape.thickness, v - shape.thickness) > 0.85)
    if shape.outline == "blob":  # with a ragged edge
        size = max(rows.shape)
        ragged = smooth_field(generator, 8, size)[: rows.shape[0], : rows.shape[1]]
        return radius + 0.2 * ragged < 0.85
    return radius < 1


def _tube_mask(shape: Shape, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    frequency, amplitude, phase = shape.wobble[0]
    width = shape.thickness * min(1.0, shape.radii[1] / shape.radii[0]) + 0.03
    across = np.abs(v - 3 * amplitude * np.sin(frequency * u + phase))
    return (across < width) & (np.abs(u) < 1.4)


def _relative_radius(shape: Shape, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Return the distance from the centre in units of the distance to the wavy outline."""
    if shape.power == 2.0:
        radius = np.hypot(u, v)
    else:
        radius = (np.abs(u) ** shape.power + np.abs(v) ** shape.power) ** (1 / shape.power)
    angle = np.arctan2(v, u)
    edge = np.ones_like(angle)
    for frequency, amplitude, phase in shape.wobble:
        edge += np.float32(amplitude) * np.cos(frequency * angle + np.float32(phase))
    radius /= np.maximum(edge, 0.3)
    return radius


def _limit_field_of_view(
    classes: np.ndarray, regions: np.ndarray, generator: np.random.Generator
) -> None:
    """Mark margins as outside, in place, as around a slice that is not square."""
    size = classes.shape[0]
    margin = int(generator.uniform(0.03, 0.25) * size)
    for plane in (classes, regions):
        oriented = plane if margin % 2 else plane.T  # margins above and below, or left and right
        oriented[:margin] = OUTSIDE
        oriented[size - margin :] = OUTSIDE
