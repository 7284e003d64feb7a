"""Random anatomies: a layer of tissues, and shapes that are painted over it.

The idea of learning from random anatomy is that of SynthSeg (Billot et al. 2023, arXiv 2107.09559)
and anatomix (Dey et al. 2024, arXiv 2411.02372). An anatomy is drawn once here; `label_maps` draws
any number of individuals of it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from samnet.training.smooth_fields import smooth_field

MAX_CLASSES = 12
_TISSUE_MAP_SIZE = 400


@dataclass(frozen=True)
class Shape:
    """A region of space, in coordinates that run from -1 to 1 over the image.

    Attributes:
        outline: `superellipse`, `ring`, `tube`, `crescent` or `blob`.
        centre: Position `(row, column)`.
        radii: Half axes along the rows and the columns, before the rotation by `angle`.
        angle: Rotation in radians.
        power: Exponent of the superellipse: 2 is an ellipse, a larger one is closer to a rectangle.
        thickness: Thickness of a ring, crescent or tube, as a share of the radius.
        wobble: `(frequency, amplitude, phase)` of each wave along the outline.
        label: Class of its pixels.
        inside: The shape is painted only over pixels of this class; None for all pixels.
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
    """What all individuals of one anatomy have in common.

    Attributes:
        tissues: Classes `(N, N)`, int8, of what lies under the shapes. The map covers coordinates
            from -2 to 2: the image and a margin of half its size on every side.
        shapes: Shapes in the order of painting; later ones cover earlier ones.
        num_classes: Number of classes; labels are 0 to `num_classes` - 1.
        variation: How much individuals differ: 0 for not at all, 0.4 to 1.6 in drawn anatomies.
    """

    tissues: np.ndarray
    shapes: tuple[Shape, ...]
    num_classes: int
    variation: float


def draw_anatomy(generator: np.random.Generator) -> Anatomy:
    """Draw an anatomy of organs, cells or tissue layers, of random number, size and nesting.

    Args:
        generator: Source of randomness.

    Returns:
        The anatomy, with at most `MAX_CLASSES` classes.
    """
    kind = str(generator.choice(["plain", "partition", "bands"], p=[0.5, 0.35, 0.15]))
    num_tissues = 1 if kind == "plain" else int(generator.integers(2, 6))
    tissues = _draw_tissues(kind, num_tissues, generator)
    shapes: list[Shape] = []
    label = num_tissues  # of the next class
    if kind == "plain" and generator.random() < 0.6:  # a body that holds the organs
        shapes.append(_draw_body(generator, label))
        label += 1
    if generator.random() < 0.3:
        label = _add_crowd(generator, shapes, label)
    num_organs = int(generator.integers(1, 6))
    for _ in range(num_organs):
        if label < MAX_CLASSES:
            label = _add_organ(generator, shapes, label)
    variation = float(math.exp(generator.uniform(math.log(0.4), math.log(1.6))))
    return Anatomy(tissues, tuple(shapes), label, variation)


def _draw_tissues(kind: str, count: int, generator: np.random.Generator) -> np.ndarray:
    """Return the tissue map `(N, N)` of an anatomy, int8."""
    if kind == "plain":
        return np.zeros((1, 1), np.int8)
    if kind == "partition":
        return _draw_partition(count, generator)
    return _draw_bands(count, generator)


def _draw_partition(count: int, generator: np.random.Generator) -> np.ndarray:
    """Return tissues that touch: a pixel has the class of the largest of several smooth fields."""
    cells = int(generator.integers(4, 14))
    fields = [smooth_field(generator, cells, _TISSUE_MAP_SIZE) for _ in range(count)]
    return np.argmax(fields, axis=0).astype(np.int8)


def _draw_bands(count: int, generator: np.random.Generator) -> np.ndarray:
    """Return tissue layers on top of each other, sloping and bent."""
    line = np.linspace(-2, 2, _TISSUE_MAP_SIZE, dtype=np.float32)
    slope, phase, bend, turn = generator.standard_normal(4)
    depth = (
        line[:, None]
        + 0.3 * slope * line[None]
        + 0.2 * bend * np.cos(2 * line[None] + turn)
        + 0.2 * phase
    )
    edges = np.sort(generator.uniform(-0.8, 0.8, count - 1))
    return np.searchsorted(edges, depth.ravel()).reshape(depth.shape).astype(np.int8)


def _draw_body(generator: np.random.Generator, label: int) -> Shape:
    radii = generator.uniform(0.65, 1.0, 2)
    shape = _draw_shape(generator, label, "superellipse", (radii[0], radii[1]))
    row, column = float(generator.normal(0, 0.05)), float(generator.normal(0, 0.05))
    return replace(shape, centre=(row, column), inside=None)


def _add_crowd(generator: np.random.Generator, shapes: list[Shape], label: int) -> int:
    """Add many objects of one or two classes, such as cells; return the next free label."""
    count = int(math.exp(generator.uniform(math.log(6), math.log(50))))
    size = 0.9 / math.sqrt(count) * float(generator.uniform(0.35, 0.9))
    num_classes = int(generator.integers(1, 3))
    outline = str(generator.choice(["superellipse", "blob", "ring"], p=[0.75, 0.15, 0.1]))
    for _ in range(count):
        radii = size * np.exp(generator.normal(0, 0.25, 2))
        own_label = label + int(generator.integers(num_classes))
        shapes.append(_draw_shape(generator, own_label, outline, (radii[0], radii[1]), spread=0.95))
    return label + num_classes


def _add_organ(generator: np.random.Generator, shapes: list[Shape], label: int) -> int:
    """Add one structure, a pair, or one that is divided into parts; return the next free label."""
    outline = str(
        generator.choice(
            ["superellipse", "ring", "tube", "crescent", "blob"], p=[0.45, 0.13, 0.14, 0.1, 0.18]
        )
    )
    size = math.exp(generator.uniform(math.log(0.05), math.log(0.6)))
    stretch = math.exp(generator.uniform(-0.7, 0.7))
    shape = _draw_shape(generator, label, outline, (size * stretch, size / stretch), spread=0.7)
    if shapes and generator.random() < 0.3:
        host = shapes[int(generator.integers(len(shapes)))]
        shape = _nest(shape, host, stretch, generator)
    shapes.append(shape)
    draw = generator.random()
    if draw < 0.15:
        shapes.append(_mirror(shape))
    elif draw < 0.4 and label + 1 < MAX_CLASSES:
        shapes.append(_draw_part(shape, label + 1, generator))
        label += 1
    return label + 1


def _nest(shape: Shape, host: Shape, stretch: float, generator: np.random.Generator) -> Shape:
    """Move a shape into another one, and make it small enough to fit."""
    size = min(host.radii) * float(generator.uniform(0.2, 0.7))
    offset = generator.uniform(-0.5, 0.5, 2) * min(host.radii)
    return replace(
        shape,
        centre=(host.centre[0] + float(offset[0]), host.centre[1] + float(offset[1])),
        radii=(max(0.03, size * stretch), max(0.03, size / stretch)),
        inside=host.label,
    )


def _mirror(shape: Shape) -> Shape:
    return replace(shape, centre=(shape.centre[0], -shape.centre[1]), angle=-shape.angle)


def _draw_part(shape: Shape, label: int, generator: np.random.Generator) -> Shape:
    """Return a part of a shape that is another class, with no visible border around it."""
    reach = max(shape.radii)
    angle = float(generator.uniform(0, 2 * math.pi))
    centre = (
        shape.centre[0] + 0.9 * reach * math.sin(angle),
        shape.centre[1] + 0.9 * reach * math.cos(angle),
    )
    part = _draw_shape(generator, label, "superellipse", (reach, reach))
    return replace(part, centre=centre, inside=shape.label)


def _draw_shape(
    generator: np.random.Generator,
    label: int,
    outline: str,
    radii: tuple[float, float],
    spread: float = 0.7,
) -> Shape:
    """Draw a shape whose centre is at most `spread` from the image's middle along each axis."""
    strength = float(generator.uniform(0, 0.25))
    stop = int(generator.integers(3, 8))
    wobble = []
    for frequency in range(2, stop):
        amplitude = strength * float(generator.normal()) / frequency
        phase = float(generator.uniform(0, 2 * math.pi))
        wobble.append((frequency, amplitude, phase))
    centre = generator.uniform(-spread, spread, 2)
    return Shape(
        outline=outline,
        centre=(float(centre[0]), float(centre[1])),
        radii=(float(radii[0]), float(radii[1])),
        angle=float(generator.uniform(0, math.pi)),
        power=2.0 if generator.random() < 0.7 else float(generator.uniform(2.5, 6)),
        thickness=float(generator.uniform(0.08, 0.4)),
        wobble=tuple(wobble),
        label=label,
    )
