"""Synthetic images of label maps: random intensities, textures and imaging artefacts.

The images are of every modality and of none. As in SynthSeg (Billot et al. 2023, arXiv 2107.09559)
the ranges are wider than in reality, so that real images lie within them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import ndimage

from samnet.pretraining.label_maps import OUTSIDE, LabelMap
from samnet.training.smooth_fields import smooth_field

CHANNELS = 3
# Scales of the texture: how many waves fit into the image.
_TEXTURE_CELLS = (6, 16, 40, 90)


@dataclass(frozen=True)
class Appearance:
    """How the classes of one anatomy look, in every individual of it.

    `noise`, `blur`, `coarseness` and `bias` are upper bounds of what is drawn for each image.

    Attributes:
        means: Mean intensities `(classes, 3)`, float32.
        texture: Amplitude of the texture at each scale, `(classes, textures)`, float32.
        layout: `grey` (three equal channels), `neighbours` (three neighbouring slices) or `colour`.
        outline: How much darker the borders of regions are drawn; brighter where negative.
        noise: Standard deviation of the noise.
        blur: Standard deviation of the Gaussian blur in pixels.
        coarseness: Pixels of the image for one pixel of the simulated scan.
        bias: Strength of the uneven sensitivity.
        speckle: Whether noise is multiplied with the image instead of added to it.
    """

    means: np.ndarray
    texture: np.ndarray
    layout: str
    outline: float
    noise: float
    blur: float
    coarseness: float
    bias: float
    speckle: bool


def draw_appearance(num_classes: int, generator: np.random.Generator) -> Appearance:
    """Draw how the classes of one anatomy look.

    Args:
        num_classes: Number of classes of the anatomy.
        generator: Source of randomness.

    Returns:
        The appearance.
    """
    layout = str(generator.choice(["grey", "neighbours", "colour"], p=[0.35, 0.45, 0.2]))
    means = _class_means(num_classes, generator)
    if layout == "colour":
        tints = generator.normal(0, 0.2, (num_classes, CHANNELS)) * generator.random()
        means = means[:, None] + tints
    else:
        means = np.repeat(means[:, None], CHANNELS, axis=1)
    texture = generator.exponential(0.04, (num_classes, len(_TEXTURE_CELLS)))
    texture *= generator.random((num_classes, len(_TEXTURE_CELLS))) < 0.6
    if generator.random() < 0.3:  # classes that differ only in their means
        texture[:] = texture[:1]
    return Appearance(
        means=means.astype(np.float32),
        texture=(texture * generator.uniform(0, 1.5)).astype(np.float32),
        layout=layout,
        outline=float(generator.normal(0, 0.3)) if generator.random() < 0.2 else 0.0,
        noise=float(generator.uniform(0, 0.12)),
        blur=float(generator.uniform(0.3, 3.0)),
        coarseness=float(math.exp(generator.uniform(0, math.log(6)))),
        bias=float(generator.uniform(0, 0.3)),
        speckle=bool(generator.random() < 0.1),
    )


def _class_means(num_classes: int, generator: np.random.Generator) -> np.ndarray:
    means = generator.random(num_classes)
    if generator.random() < 0.4:  # a dark background, as in most scans
        means[0] = generator.uniform(0, 0.08)
    # Soft tissues that hardly differ, with something bright or dark among them.
    if generator.random() < 0.35:
        centre, width = generator.uniform(0.3, 0.7), generator.uniform(0.05, 0.25)
        chosen = generator.random(num_classes) < 0.75
        means[chosen] = centre + width * (generator.random(int(chosen.sum())) - 0.5)
    # Classes that look like another one, so that only shape and position tell them apart.
    for index in range(1, num_classes):
        if generator.random() < 0.15:
            means[index] = means[int(generator.integers(index))] + generator.normal(0, 0.02)
    return means


def render(labels: LabelMap, appearance: Appearance, generator: np.random.Generator) -> np.ndarray:
    """Draw an image of an individual.

    Args:
        labels: Label map of the individual.
        appearance: How its classes look.
        generator: Source of randomness.

    Returns:
        Image `(3, H, W)`, float32 from 0 to 1, and 0 beyond the field of view.
    """
    inside = labels.classes != OUTSIDE
    classes = np.where(inside, labels.classes, 0)
    texture = _draw_texture(classes, appearance, generator)
    means = appearance.means + generator.normal(0, 0.02, appearance.means.shape).astype(np.float32)
    if appearance.layout == "neighbours":
        image = _with_neighbours(means[:, 0][classes] + texture, generator)
    elif appearance.layout == "grey":
        image = (means[:, 0][classes] + texture)[None]
    else:
        image = means.T[:, classes] + texture
    if appearance.outline:
        image = image - np.float32(appearance.outline) * _borders(labels.regions)
    image = _add_artefacts(image, appearance, generator)
    image = _normalise(image, inside, generator)
    return np.repeat(image, CHANNELS, axis=0) if len(image) == 1 else image


def _draw_texture(
    classes: np.ndarray, appearance: Appearance, generator: np.random.Generator
) -> np.ndarray:
    """Return a random texture `(H, W)` whose amplitude depends on the class of each pixel."""
    texture = np.zeros(classes.shape, np.float32)
    for scale, cells in enumerate(_TEXTURE_CELLS):
        amplitude = appearance.texture[:, scale]
        if amplitude.any():
            texture += amplitude[classes] * smooth_field(generator, cells, classes.shape[0])
    return texture


def _with_neighbours(plane: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Return a slice between two neighbours `(3, H, W)` in which everything has moved a little."""
    size = plane.shape[0]
    largest_shift = size * generator.uniform(0, 0.03)
    cells = int(generator.integers(2, 8))
    shift_rows = largest_shift * smooth_field(generator, cells, size)
    shift_columns = largest_shift * smooth_field(generator, cells, size)
    return np.stack(
        [
            _shifted(plane, -shift_rows, -shift_columns),
            plane,
            _shifted(plane, shift_rows, shift_columns),
        ]
    )


def _shifted(plane: np.ndarray, shift_rows: np.ndarray, shift_columns: np.ndarray) -> np.ndarray:
    """Return a plane with every pixel taken from another place, shifted by whole pixels."""
    size = plane.shape[0]
    positions = np.arange(size, dtype=np.float32)
    rows = np.clip(np.rint(positions[:, None] + shift_rows), 0, size - 1).astype(np.intp)
    columns = np.clip(np.rint(positions[None] + shift_columns), 0, size - 1).astype(np.intp)
    return plane[rows, columns]


def _borders(regions: np.ndarray) -> np.ndarray:
    """Return 1 `(H, W)` where a pixel differs from the one above or on its left, else 0."""
    borders = np.zeros(regions.shape, np.float32)
    borders[1:] += regions[1:] != regions[:-1]
    borders[:, 1:] += regions[:, 1:] != regions[:, :-1]
    return np.minimum(borders, 1)


def _add_artefacts(
    image: np.ndarray, appearance: Appearance, generator: np.random.Generator
) -> np.ndarray:
    """Add what a scanner adds: blur, uneven sensitivity, noise, low resolution."""
    size = image.shape[-1]
    sigma = generator.uniform(0.2, appearance.blur)
    if sigma > 0.4:
        image = ndimage.gaussian_filter(image, (0, sigma, sigma), truncate=2.5)
    if appearance.bias:
        field = smooth_field(generator, int(generator.integers(1, 4)), size)
        image = image * np.exp(np.float32(appearance.bias * generator.random()) * field)
    noise = np.float32(appearance.noise * generator.random())
    coarseness = generator.uniform(1, appearance.coarseness)
    # Scanned with fewer pixels and enlarged, as images with a small field of view are.
    if coarseness > 1.3:
        coarse_size = max(24, round(size / coarseness))
        weights = _linear_weights(coarse_size, size)
        shrink = (weights / weights.sum(axis=0)).T
        coarse = shrink @ image @ shrink.T
        coarse += noise * generator.standard_normal(coarse.shape, dtype=np.float32)
        return weights @ coarse @ weights.T
    grain = generator.standard_normal(image.shape, dtype=np.float32)
    return image * (1 + 2 * noise * grain) if appearance.speckle else image + noise * grain


@lru_cache(maxsize=256)
def _linear_weights(num_samples: int, num_pixels: int) -> np.ndarray:
    """Return the matrix `(num_pixels, num_samples)` of a linear interpolation along one axis."""
    positions = (np.arange(num_pixels) + 0.5) * num_samples / num_pixels - 0.5
    positions = np.clip(positions, 0, num_samples - 1)
    distances = np.abs(positions[:, None] - np.arange(num_samples)[None])
    return np.maximum(1 - distances, 0).astype(np.float32)


def _normalise(image: np.ndarray, inside: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Map intensities to 0 to 1 about as a plan would, sometimes followed by a gamma curve."""
    values = image[:, ::4, ::4][:, inside[::4, ::4]]
    percentiles = float(generator.uniform(0, 2)), float(generator.uniform(98, 100))
    low, high = np.percentile(values, percentiles)
    image = np.clip((image - low) / max(float(high - low), 1e-3), 0, 1)
    if generator.random() < 0.3:
        gamma = np.float32(math.exp(generator.uniform(-0.5, 0.5)))
        image = np.exp(np.log(np.maximum(image, 1e-4)) * gamma)
    return (image * inside).astype(np.float32)
