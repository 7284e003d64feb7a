"""Label maps made of random shapes: one anatomy, and as many individuals of it as are asked for.

The idea of learning from random anatomy is SynthSeg's (Billot et al. 2023, arXiv 2107.09559) and anatomix' (Dey et al.
2024, arXiv 2411.02372). Here an anatomy is drawn once, as a base layer and shapes painted over it, and its individuals
differ from each other as patients do: every shape is moved, turned and resized a little, and space is bent.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from samnet.training.smooth_fields import smooth_field

OUTSIDE = -1  # beyond the field of view
MAX_CLASSES = 12
_BASE_SIZE = 400


@dataclass(frozen=True)
class Shape:
    """A region of space, in coordinates that run from -1 to 1 over the image.

    outline: `superellipse`, `ring`, `tube`, `crescent` or `blob`. centre: (row, column). radii: half axes.
    power: of the superellipse: 2 is an ellipse, more nears a rectangle. thickness: of ring and crescent, as a share of
    the radius. wobble: (frequency, amplitude, phase) of waves along the outline. label: its class.
    inside: it is painted only where this class is; None: over everything.
    """

    outline: str
    centre: tuple[float, float]
    radii: tuple[float, float]
    angle: float
    power: float
    thickness: float
    wobble: tuple[tuple[int, float, float], ...]
    label: int
    inside: int | None = None


@dataclass(frozen=True)
class Anatomy:
    """base: classes `(N, N)` int8 of what lies under the shapes, over the image and as much again around it.

    shapes: painted one over the other. num_classes: labels are 0 to num_classes - 1.
    variation: how much individuals differ.
    """

    base: np.ndarray
    shapes: tuple[Shape, ...]
    num_classes: int
    variation: float


@dataclass(frozen=True)
class LabelMap:
    """classes: `(H, W)` int8, `OUTSIDE` beyond the field of view. regions: `(H, W)` int16, one number per object."""

    classes: np.ndarray
    regions: np.ndarray


def draw_anatomy(generator: np.random.Generator) -> Anatomy:
    """Organs, cells or layers, of random number, size and nesting."""
    kind = str(generator.choice(["plain", "partition", "bands"], p=[0.5, 0.35, 0.15]))
    num_base = 1 if kind == "plain" else int(generator.integers(2, 6))
    base = _draw_base(kind, num_base, generator)
    shapes: list[Shape] = []
    label = num_base
    if kind == "plain" and generator.random() < 0.6:  # a body that holds the rest
        shapes.append(_body(generator, label))
        label += 1
    if generator.random() < 0.3:
        label = _add_crowd(generator, shapes, label)
    for _ in range(int(generator.integers(1, 6))):
        if label < MAX_CLASSES:
            label = _add_organ(generator, shapes, label)
    variation = float(math.exp(generator.uniform(math.log(0.4), math.log(1.6))))
    return Anatomy(base, tuple(shapes), label, variation)


def _draw_base(kind: str, count: int, generator: np.random.Generator) -> np.ndarray:
    """Nothing but class 0; tissues that touch (a pixel is of the largest of several smooth fields); or layers."""
    if kind == "plain":
        return np.zeros((1, 1), np.int8)
    if kind == "partition":
        cells = int(generator.integers(4, 14))
        fields = [smooth_field(generator, cells, _BASE_SIZE) for _ in range(count)]
        return np.argmax(fields, axis=0).astype(np.int8)
    line = np.linspace(-2, 2, _BASE_SIZE, dtype=np.float32)
    slope, phase, bend, turn = generator.standard_normal(4)
    depth = (
        line[:, None]
        + 0.3 * slope * line[None]
        + 0.2 * bend * np.cos(2 * line[None] + turn)
        + 0.2 * phase
    )
    edges = np.sort(generator.uniform(-0.8, 0.8, count - 1))
    return np.searchsorted(edges, depth.ravel()).reshape(depth.shape).astype(np.int8)


def _body(generator: np.random.Generator, label: int) -> Shape:
    radii = generator.uniform(0.65, 1.0, 2)
    shape = _draw_shape(generator, label, "superellipse", (radii[0], radii[1]))
    return replace(
        shape,
        centre=(float(generator.normal(0, 0.05)), float(generator.normal(0, 0.05))),
        inside=None,
    )


def _add_crowd(generator: np.random.Generator, shapes: list[Shape], label: int) -> int:
    """Many objects of few classes, as cells and nuclei are."""
    count = int(math.exp(generator.uniform(math.log(6), math.log(50))))
    size = 0.9 / math.sqrt(count) * float(generator.uniform(0.35, 0.9))
    kinds = int(generator.integers(1, 3))
    outline = str(generator.choice(["superellipse", "blob", "ring"], p=[0.75, 0.15, 0.1]))
    for _ in range(count):
        radii = size * np.exp(generator.normal(0, 0.25, 2))
        shapes.append(
            _draw_shape(
                generator,
                label + int(generator.integers(kinds)),
                outline,
                (radii[0], radii[1]),
                spread=0.95,
            )
        )
    return label + kinds


def _add_organ(generator: np.random.Generator, shapes: list[Shape], label: int) -> int:
    """One structure, or a pair of them, or one divided into parts."""
    outline = str(
        generator.choice(
            ["superellipse", "ring", "tube", "crescent", "blob"], p=[0.45, 0.13, 0.14, 0.1, 0.18]
        )
    )
    size = math.exp(generator.uniform(math.log(0.05), math.log(0.6)))
    stretch = math.exp(generator.uniform(-0.7, 0.7))
    shape = _draw_shape(generator, label, outline, (size * stretch, size / stretch), spread=0.7)
    if shapes and generator.random() < 0.3:  # within one that is there
        host = shapes[int(generator.integers(len(shapes)))]
        inner = min(host.radii) * float(generator.uniform(0.2, 0.7))
        offset = generator.uniform(-0.5, 0.5, 2) * min(host.radii)
        shape = replace(
            shape,
            centre=(host.centre[0] + float(offset[0]), host.centre[1] + float(offset[1])),
            radii=(max(0.03, inner * stretch), max(0.03, inner / stretch)),
            inside=host.label,
        )
    shapes.append(shape)
    draw = generator.random()
    if draw < 0.15:  # its mirror image
        shapes.append(
            replace(shape, centre=(shape.centre[0], -shape.centre[1]), angle=-shape.angle)
        )
    elif (
        draw < 0.4 and label + 1 < MAX_CLASSES
    ):  # a part of it is another class, with no border but its place
        reach = max(shape.radii)
        turn = float(generator.uniform(0, 2 * math.pi))
        at = (
            shape.centre[0] + 0.9 * reach * math.sin(turn),
            shape.centre[1] + 0.9 * reach * math.cos(turn),
        )
        other = _draw_shape(generator, label + 1, "superellipse", (reach, reach))
        shapes.append(replace(other, centre=at, inside=label))
        label += 1
    return label + 1


def _draw_shape(
    generator: np.random.Generator,
    label: int,
    outline: str,
    radii: tuple[float, float],
    spread: float = 0.7,
) -> Shape:
    strength = float(generator.uniform(0, 0.25))
    wobble = tuple(
        (
            frequency,
            strength * float(generator.normal()) / frequency,
            float(generator.uniform(0, 2 * math.pi)),
        )
        for frequency in range(2, int(generator.integers(3, 8)))
    )
    centre = generator.uniform(-spread, spread, 2)
    return Shape(
        outline=outline,
        centre=(float(centre[0]), float(centre[1])),
        radii=(float(radii[0]), float(radii[1])),
        angle=float(generator.uniform(0, math.pi)),
        power=2.0 if generator.random() < 0.7 else float(generator.uniform(2.5, 6)),
        thickness=float(generator.uniform(0.08, 0.4)),
        wobble=wobble,
        label=label,
    )


def draw_individual(anatomy: Anatomy, generator: np.random.Generator, size: int) -> LabelMap:
    """One patient: the anatomy's shapes, each a little different, in a space that is bent a little.

    Returns: maps of `size` x `size` pixels.
    """
    rows, columns = _bent_coordinates(generator, size, anatomy.variation)
    classes = _base_layer(anatomy.base, rows, columns)
    regions = classes.astype(np.int16)
    number = MAX_CLASSES
    for shape in anatomy.shapes:
        shape = _vary(shape, generator, anatomy.variation)
        window = _window(shape, rows, columns)
        if window is None:
            continue
        mask = _cover(shape, rows[window], columns[window], generator)
        if shape.inside is not None:
            mask &= classes[window] == shape.inside
        classes[window][mask] = shape.label
        regions[window][mask] = number
        number += 1
    if generator.random() < 0.25:
        _limit_view(classes, regions, generator)
    return LabelMap(classes, regions)


def _bent_coordinates(
    generator: np.random.Generator, size: int, variation: float
) -> tuple[np.ndarray, np.ndarray]:
    line = ((np.arange(size) + 0.5) / size * 2 - 1).astype(np.float32)
    angle = float(generator.normal(0, 0.12 * variation))
    zoom = np.exp(generator.normal(0, 0.08 * variation, 2)).astype(np.float32)
    shift = generator.normal(0, 0.05 * variation, 2).astype(np.float32)
    y, x = line[:, None] * zoom[0] + shift[0], line[None] * zoom[1] + shift[1]
    rows = np.float32(math.cos(angle)) * y - np.float32(math.sin(angle)) * x
    columns = np.float32(math.sin(angle)) * y + np.float32(math.cos(angle)) * x
    for cells, strength in (
        (int(generator.integers(2, 5)), 0.05),
        (int(generator.integers(6, 14)), 0.012),
    ):
        rows += np.float32(strength * variation) * smooth_field(generator, cells, size)
        columns += np.float32(strength * variation) * smooth_field(generator, cells, size)
    return rows, columns


def _base_layer(base: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """The base at coordinates of which -1 to 1 is its inner half."""
    size = base.shape[0]
    at = [
        np.clip((place + 2) * (size / 4), 0, size - 1).astype(np.intp) for place in (rows, columns)
    ]
    return base[at[0], at[1]]


def _vary(shape: Shape, generator: np.random.Generator, variation: float) -> Shape:
    move = generator.normal(0, 0.15 * variation, 2) * min(shape.radii)
    grow = np.exp(generator.normal(0, 0.1 * variation, 2))
    return replace(
        shape,
        centre=(shape.centre[0] + float(move[0]), shape.centre[1] + float(move[1])),
        radii=(shape.radii[0] * float(grow[0]), shape.radii[1] * float(grow[1])),
        angle=shape.angle + float(generator.normal(0, 0.15 * variation)),
    )


def _window(shape: Shape, rows: np.ndarray, columns: np.ndarray) -> tuple[slice, slice] | None:
    """The part of the image that a shape can reach: all work is done there."""
    reach = max(shape.radii) * 1.6
    near = (np.abs(rows - shape.centre[0]) < reach) & (np.abs(columns - shape.centre[1]) < reach)
    lines, places = np.flatnonzero(near.any(axis=1)), np.flatnonzero(near.any(axis=0))
    if not len(lines):
        return None
    return slice(lines[0], lines[-1] + 1), slice(places[0], places[-1] + 1)


def _cover(
    shape: Shape, rows: np.ndarray, columns: np.ndarray, generator: np.random.Generator
) -> np.ndarray:
    """Which pixels lie in a shape."""
    sine, cosine = math.sin(shape.angle), math.cos(shape.angle)
    y, x = rows - shape.centre[0], columns - shape.centre[1]
    u, v = (cosine * y + sine * x) / shape.radii[0], (cosine * x - sine * y) / shape.radii[1]
    if shape.outline == "tube":
        frequency, amplitude, phase = shape.wobble[0]
        width = shape.thickness * min(1.0, shape.radii[1] / shape.radii[0]) + 0.03
        return (np.abs(v - 3 * amplitude * np.sin(frequency * u + phase)) < width) & (
            np.abs(u) < 1.4
        )
    if shape.power == 2.0:
        radius = np.hypot(u, v)
    else:
        radius = (np.abs(u) ** shape.power + np.abs(v) ** shape.power) ** (1 / shape.power)
    turn = np.arctan2(v, u)
    edge = np.ones_like(turn)
    for frequency, amplitude, phase in shape.wobble:
        edge += np.float32(amplitude) * np.cos(frequency * turn + np.float32(phase))
    radius /= np.maximum(edge, 0.3)
    if shape.outline == "ring":
        return (radius < 1) & (radius > 1 - shape.thickness)
    if shape.outline == "crescent":
        return (radius < 1) & (np.hypot(u - shape.thickness, v - shape.thickness) > 0.85)
    if shape.outline == "blob":  # a ragged edge
        size = max(rows.shape)
        ragged = smooth_field(generator, 8, size)[: rows.shape[0], : rows.shape[1]]
        return radius + 0.2 * ragged < 0.85
    return radius < 1


def _limit_view(classes: np.ndarray, regions: np.ndarray, generator: np.random.Generator) -> None:
    """Margins beyond the image, as of a slice that is no square."""
    size = classes.shape[0]
    margin = int(generator.uniform(0.03, 0.25) * size)
    for plane, value in ((classes, OUTSIDE), (regions, OUTSIDE)):
        view = plane if margin % 2 else plane.T
        view[:margin] = value
        view[size - margin :] = value
