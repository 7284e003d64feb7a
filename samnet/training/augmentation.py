"""What the values of a plan's `augmentation` stand for, and random draws of placements."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

MAX_ROTATION = math.radians(25)
SAMED_ROTATION = math.radians(20)
MAX_SCALE = 1.3
MAX_STRETCH = 0.1  # largest logarithm of the factor by which one axis is stretched
MAX_SHEAR = 0.1
SHIFT = 0.08  # largest shift of a slice that fits the input, as a share of the input
BEND_SHARE = 0.5  # of samples
_QUARTER_TURN = np.array([[0.0, -1.0], [1.0, 0.0]])

# (generator, planned scale, whether rows and columns may be mirrored) -> matrix of a placement.
MatrixDraw = Callable[[np.random.Generator, tuple[float, float], tuple[bool, bool]], np.ndarray]


def draw_bend_seed(generator: np.random.Generator) -> int | None:
    """Decide whether a sample is bent; half of all samples are.

    Args:
        generator: Draws the decision and the seed.

    Returns:
        The seed of a `samnet.training.placement.bend`, or None.
    """
    return int(generator.integers(2**48)) if generator.random() < BEND_SHARE else None


def plain_matrix(scale: tuple[float, float]) -> np.ndarray:
    """Return the matrix of the planned scale alone.

    Args:
        scale: Planned input pixels for each slice pixel along rows and columns.

    Returns:
        2 x 2, from input pixels to slice pixels.
    """
    return np.diag([1 / scale[0], 1 / scale[1]])


def draw_matrix(
    generator: np.random.Generator, scale: tuple[float, float], mirrored: tuple[bool, bool]
) -> np.ndarray:
    """Draw a rotation, a scaling and a shear, in addition to the planned scale and mirrors.

    Args:
        generator: Draws them.
        scale: Planned input pixels for each slice pixel along rows and columns.
        mirrored: Whether rows and columns may be mirrored.

    Returns:
        2 x 2, from input pixels to slice pixels.
    """
    angle, log_zoom, log_stretch, shear = 0.0, 0.0, 0.0, 0.0
    if generator.random() < 0.5:
        angle = generator.uniform(-MAX_ROTATION, MAX_ROTATION)
    if generator.random() < 0.5:
        log_zoom = generator.uniform(-1, 1) * math.log(MAX_SCALE)
    if generator.random() < 0.3:
        log_stretch = generator.uniform(-MAX_STRETCH, MAX_STRETCH)
    if generator.random() < 0.3:
        shear = generator.uniform(-MAX_SHEAR, MAX_SHEAR)
    zoom, stretch = math.exp(log_zoom), math.exp(log_stretch)
    change = _rotation(angle) @ np.array([[zoom * stretch, shear], [0.0, zoom / stretch]])
    for axis, flip in enumerate(mirrored):
        if flip and generator.random() < 0.5:
            change[:, axis] *= -1
    return plain_matrix(scale) @ change


def draw_samed_matrix(
    generator: np.random.Generator, scale: tuple[float, float], mirrored: tuple[bool, bool]
) -> np.ndarray:
    """Draw a change as SAMed does (arXiv 2304.13785).

    In half of all samples it is a turn by quarters and a flip, in a quarter a rotation.

    Args:
        generator: Draws it.
        scale: Planned input pixels for each slice pixel along rows and columns.
        mirrored: Whether a flip may be drawn along rows and columns.

    Returns:
        2 x 2, from input pixels to slice pixels.
    """
    change = np.eye(2)
    if generator.random() < 0.5:
        turns = int(generator.integers(4))
        axis = int(generator.integers(2))
        signs = [1.0, 1.0]
        if mirrored[axis]:
            signs[axis] = -1.0
        change = np.linalg.matrix_power(_QUARTER_TURN, turns) @ np.diag(signs)
    elif generator.random() < 0.5:
        change = _rotation(generator.uniform(-SAMED_ROTATION, SAMED_ROTATION))
    return plain_matrix(scale) @ change


def _draw_plain_matrix(
    generator: np.random.Generator, scale: tuple[float, float], mirrored: tuple[bool, bool]
) -> np.ndarray:
    return plain_matrix(scale)


def _rotation(angle: float) -> np.ndarray:
    cosine, sine = math.cos(angle), math.sin(angle)
    return np.array([[cosine, -sine], [sine, cosine]])


@dataclass(frozen=True)
class Profile:
    """What a value of a plan's `augmentation` stands for.

    Attributes:
        draw_matrix: Draws the matrix of a placement, see `draw_matrix`.
        shift: Largest shift of a slice that fits the input, as a share of the input.
        bends: Whether space is bent, see `samnet.training.placement.bend`.
        intensities: Whether intensities are changed.
        reverses_neighbours: Whether the order of neighbouring slices may be reversed, which mirrors
            across the slices.
    """

    draw_matrix: MatrixDraw
    shift: float = 0.0
    bends: bool = False
    intensities: bool = False
    reverses_neighbours: bool = False


PROFILES = {
    "planned": Profile(
        draw_matrix, shift=SHIFT, bends=True, intensities=True, reverses_neighbours=True
    ),
    "samed": Profile(draw_samed_matrix),
    "none": Profile(_draw_plain_matrix),
}
