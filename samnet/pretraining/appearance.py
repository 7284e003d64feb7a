"""Images of label maps: random intensities, textures and faults of imaging, of every modality and of none.

As in SynthSeg (Billot et al. 2023, arXiv 2107.09559) the ranges are wider than reality, so that real images lie within.
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
_TEXTURE_CELLS = (6, 16, 40, 90)


@dataclass(frozen=True)
class Appearance:
    """How the classes of one anatomy look, in every individual of it.

    means: `(classes, 3)`. texture: `(classes, textures)`, amplitude of each scale. layout: `grey` (three equal
    channels), `neighbours` (three slices on top of each other) or `colour`. outline: how dark borders are drawn.
    noise, blur (pixels), coarseness (pixels in one), bias: upper bounds of what each image draws.
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
    layout = str(generator.choice(["grey", "neighbours", "colour"], p=[0.35, 0.45, 0.2]))
    means = _class_means(num_classes, generator)
    if layout == "colour":
        means = (
            means[:, None] + generator.normal(0, 0.2, (num_classes, CHANNELS)) * generator.random()
        )
    else:
        means = np.repeat(means[:, None], CHANNELS, axis=1)
    texture = generator.exponential(0.04, (num_classes, len(_TEXTURE_CELLS)))
    texture *= generator.random((num_classes, len(_TEXTURE_CELLS))) < 0.6
    if generator.random() < 0.3:  # all alike but in their means
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
    if generator.random() < 0.4:  # a dark background, as of most scanners
        means[0] = generator.uniform(0, 0.08)
    if (
        generator.random() < 0.35
    ):  # soft tissues that hardly differ, with something bright or dark among them
        centre, width = generator.uniform(0.3, 0.7), generator.uniform(0.05, 0.25)
        chosen = generator.random(num_classes) < 0.75
        means[chosen] = centre + width * (generator.random(int(chosen.sum())) - 0.5)
    for index in range(1, num_classes):  # some look like another, and are told by shape and place
        if generator.random() < 0.15:
            means[index] = means[int(generator.integers(index))] + generator.normal(0, 0.02)
    return means


def render(labels: LabelMap, appearance: Appearance, generator: np.random.Generator) -> np.ndarray:
    """An image `(3, H, W)`, float32 from 0 to 1; 0 beyond the field of view."""
    classes = labels.classes
    size = classes.shape[0]
    inside = classes != OUTSIDE
    index = np.where(inside, classes, 0)
    plane = _textured(index, appearance, generator, size)
    means = appearance.means + generator.normal(0, 0.02, appearance.means.shape).astype(np.float32)
    if appearance.layout == "neighbours":
        image = _with_neighbours(means[:, 0][index] + plane, generator)
    elif appearance.layout == "grey":
        image = (means[:, 0][index] + plane)[None]
    else:
        image = means.T[:, index] + plane
    if appearance.outline:
        image = image - np.float32(appearance.outline) * _borders(labels.regions)
    image = _as_scanned(image, appearance, generator)
    image = _stretch(image, inside, generator)
    return np.repeat(image, CHANNELS, axis=0) if len(image) == 1 else image


def _textured(
    index: np.ndarray, appearance: Appearance, generator: np.random.Generator, size: int
) -> np.ndarray:
    plane = np.zeros(index.shape, np.float32)
    for scale, cells in enumerate(_TEXTURE_CELLS):
        amplitude = appearance.texture[:, scale]
        if amplitude.any():
            plane += amplitude[index] * smooth_field(generator, cells, size)
    return plane


def _with_neighbours(plane: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """The slice between two others, in which everything has moved a little."""
    size = plane.shape[0]
    reach = size * generator.uniform(0, 0.03)
    cells = int(generator.integers(2, 8))
    rows = np.arange(size, dtype=np.float32)
    shift_rows, shift_columns = (reach * smooth_field(generator, cells, size) for _ in range(2))
    slices = []
    for sign in (-1, 0, 1):
        if sign == 0:
            slices.append(plane)
            continue
        at_rows = np.clip(np.rint(rows[:, None] + sign * shift_rows), 0, size - 1).astype(np.intp)
        at_columns = np.clip(np.rint(rows[None] + sign * shift_columns), 0, size - 1).astype(
            np.intp
        )
        slices.append(plane[at_rows, at_columns])
    return np.stack(slices)


def _borders(regions: np.ndarray) -> np.ndarray:
    borders = np.zeros(regions.shape, np.float32)
    borders[1:] += regions[1:] != regions[:-1]
    borders[:, 1:] += regions[:, 1:] != regions[:, :-1]
    return np.minimum(borders, 1)


def _as_scanned(
    image: np.ndarray, appearance: Appearance, generator: np.random.Generator
) -> np.ndarray:
    """Blur, uneven sensitivity, noise, low resolution."""
    size = image.shape[-1]
    sigma = generator.uniform(0.2, appearance.blur)
    if sigma > 0.4:
        image = ndimage.gaussian_filter(image, (0, sigma, sigma), truncate=2.5)
    if appearance.bias:
        field = smooth_field(generator, int(generator.integers(1, 4)), size)
        image = image * np.exp(np.float32(appearance.bias * generator.random()) * field)
    noise = np.float32(appearance.noise * generator.random())
    coarse = generator.uniform(1, appearance.coarseness)
    if coarse > 1.3:  # scanned with fewer pixels and enlarged, as small fields of view are
        few = max(24, round(size / coarse))
        weights = _linear_weights(few, size)
        shrink = (weights / weights.sum(axis=0)).T
        small = shrink @ image @ shrink.T
        small += noise * generator.standard_normal(small.shape, dtype=np.float32)
        return weights @ small @ weights.T
    grain = generator.standard_normal(image.shape, dtype=np.float32)
    return image * (1 + 2 * noise * grain) if appearance.speckle else image + noise * grain


@lru_cache(maxsize=256)
def _linear_weights(few: int, many: int) -> np.ndarray:
    """`(many, few)`: from a few samples along an axis to many between them, linearly."""
    at = np.clip((np.arange(many) + 0.5) * few / many - 0.5, 0, few - 1)
    return np.maximum(1 - np.abs(at[:, None] - np.arange(few)[None]), 0).astype(np.float32)


def _stretch(image: np.ndarray, inside: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """The window a plan would choose, not quite; now and then a gamma curve or the negative."""
    values = image[:, ::4, ::4][:, inside[::4, ::4]]
    low, high = np.percentile(
        values, (float(generator.uniform(0, 2)), float(generator.uniform(98, 100)))
    )
    image = np.clip((image - low) / max(float(high - low), 1e-3), 0, 1)
    if generator.random() < 0.3:
        image = np.exp(
            np.log(np.maximum(image, 1e-4)) * np.float32(math.exp(generator.uniform(-0.5, 0.5)))
        )
    return (image * inside).astype(np.float32)
