"""Random changes of training images: the draw apart from its application, so that any sample can be replayed."""

from __future__ import annotations

import contextlib
import math
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from batchgenerators.augmentations.color_augmentations import (
    augment_brightness_multiplicative,
    augment_contrast,
    augment_gamma,
)
from batchgenerators.augmentations.noise_augmentations import (
    augment_gaussian_blur,
    augment_gaussian_noise,
)
from batchgenerators.augmentations.resample_augmentations import augment_linear_downsampling_scipy
from scipy.interpolate import PchipInterpolator
from torch import Tensor
from torch.nn import functional

from samnet.dataset.label_scheme import LabelScheme, mask_of
from samnet.training.smooth_fields import smooth_field

MAX_ROTATION = math.radians(25)
SAMED_ROTATION = math.radians(20)
MAX_SCALE = 1.3
MAX_SHEAR = 0.1
SHIFT = 0.08
MAX_BEND = 0.03
BEND_SHARE = 0.5
BEND_WAVES = (2, 8)
CURVE_SHARE = 0.5
CURVE_KNOTS = 6
CURVE_MOVE = 0.15
CURVE_VALUES = 1024
UNEVEN_SHARE = 0.5
MAX_UNEVENNESS = 0.25
OTHER_SHARES = (
    0.15,
    0.1,
    0.2,
    0.2,
    0.1,
    0.25,
)  # noise, blur, brightness, contrast, low resolution, gamma
ONE_HOT_LIMIT = 64


@dataclass(frozen=True)
class Placement:
    """Where the network's square input lies on a slice.

    centre: position on the slice in pixels (rows, columns). matrix: 2 x 2, from input pixels to slice pixels.
    bend_seed: of a smooth random displacement of the input's pixels, see `bend`; None for none.
    """

    centre: tuple[float, float]
    matrix: np.ndarray
    bend_seed: int | None = None


def draw_bend_seed(generator: np.random.Generator) -> int | None:
    """Half of all samples are bent."""
    return int(generator.integers(2**48)) if generator.random() < BEND_SHARE else None


def bend(seed: int, input_size: int, num_points: int) -> Tensor:
    """A smooth random displacement `(2, n, n)` in input pixels (rows, columns), at n x n points that cover the input.

    Its standard deviation is drawn up to 3 % of the input, and less the finer its waves are, so that space does not
    fold.
    """
    generator = np.random.default_rng(seed)
    waves = int(generator.integers(*BEND_WAVES, endpoint=True))
    size = generator.uniform(0, MAX_BEND) * input_size * BEND_WAVES[0] / waves
    fields = [smooth_field(generator, waves, num_points) for _ in ("rows", "columns")]
    return torch.from_numpy(np.float32(size) * np.stack(fields))


def draw_matrix(
    generator: np.random.Generator, scale: tuple[float, float], mirrored: tuple[bool, bool]
) -> np.ndarray:
    """A random rotation, scaling and shear, after the planned scale and mirrors.

    scale: planned input pixels for each slice pixel. mirrored: rows, columns.
    """
    angle = generator.uniform(-MAX_ROTATION, MAX_ROTATION) if generator.random() < 0.5 else 0.0
    zoom = (
        math.exp(generator.uniform(-1, 1) * math.log(MAX_SCALE))
        if generator.random() < 0.5
        else 1.0
    )
    stretch = math.exp(generator.uniform(-0.1, 0.1)) if generator.random() < 0.3 else 1.0
    shear = generator.uniform(-MAX_SHEAR, MAX_SHEAR) if generator.random() < 0.3 else 0.0
    rotation = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    change = rotation @ np.array([[zoom * stretch, shear], [0.0, zoom / stretch]])
    for axis, flip in enumerate(mirrored):
        if flip and generator.random() < 0.5:
            change[:, axis] *= -1
    return plain_matrix(scale) @ change


def draw_samed_matrix(
    generator: np.random.Generator, scale: tuple[float, float], mirrored: tuple[bool, bool]
) -> np.ndarray:
    """SAMed's changes (arXiv 2304.13785): in half of all samples a quarter turn and a flip, in a quarter a rotation.

    mirrored: the directions, rows and columns, along which a flip may be drawn.
    """
    change = np.eye(2)
    if generator.random() < 0.5:
        turned = np.linalg.matrix_power(
            np.array([[0.0, -1.0], [1.0, 0.0]]), int(generator.integers(4))
        )
        axis = int(generator.integers(2))
        change = turned @ np.diag(
            [-1.0 if mirrored[axis] and axis == row else 1.0 for row in (0, 1)]
        )
    elif generator.random() < 0.5:
        angle = generator.uniform(-SAMED_ROTATION, SAMED_ROTATION)
        change = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    return plain_matrix(scale) @ change


def plain_matrix(scale: tuple[float, float]) -> np.ndarray:
    """The planned scale alone."""
    return np.diag([1 / scale[0], 1 / scale[1]])


def _draw_plain_matrix(
    generator: np.random.Generator, scale: tuple[float, float], mirrored: tuple[bool, bool]
) -> np.ndarray:
    return plain_matrix(scale)


@dataclass(frozen=True)
class Profile:
    """What a configuration's `augmentation` stands for.

    draw_matrix: see `draw_matrix`. shift: largest, as a share of the input. bends: whether space is bent, see `bend`.
    intensities: whether they are changed.
    reverses_neighbours: whether the order of neighbouring slices may be turned round, which mirrors across the slices.
    """

    draw_matrix: Callable[[np.random.Generator, tuple[float, float], tuple[bool, bool]], np.ndarray]
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


def sampling_grid(
    placement: Placement, input_size: int, stride: int, size: tuple[int, int]
) -> Tensor:
    """Where to look on a slice of `size` for each output pixel: `(1, n, n, 2)` with n = input_size / stride.

    In the normalised (x, y) coordinates of `grid_sample` with `align_corners=False`.
    """
    steps = (
        torch.arange(input_size // stride, dtype=torch.float32) + 0.5
    ) * stride - input_size / 2
    rows, columns = torch.meshgrid(steps, steps, indexing="ij")
    if placement.bend_seed is not None:
        displacement = bend(placement.bend_seed, input_size, len(steps))
        rows, columns = rows + displacement[0], columns + displacement[1]
    matrix = placement.matrix
    y = placement.centre[0] + matrix[0, 0] * rows + matrix[0, 1] * columns
    x = placement.centre[1] + matrix[1, 0] * rows + matrix[1, 1] * columns
    return torch.stack([2 * x / size[1] - 1, 2 * y / size[0] - 1], dim=-1)[None]


def place_image(image: Tensor, placement: Placement, input_size: int) -> Tensor:
    """The network's input `(C, S, S)` from a slice `(C, H, W)`; outside the slice it is 0."""
    shrink = np.linalg.norm(placement.matrix, axis=0).max()
    size = image.shape[-2:]
    if (
        shrink > 1.3
    ):  # several slice pixels in one: average them first, or fine structure turns into noise
        smaller = [max(1, round(length / shrink)) for length in size]
        image = functional.interpolate(image[None], size=smaller, mode="bilinear", antialias=True)[
            0
        ]
    return _sample(image, sampling_grid(placement, input_size, 1, (size[0], size[1])))


def _sample(planes: Tensor, grid: Tensor) -> Tensor:
    """Planes `(C, H, W)` at the places of a grid; 0 beyond the edge, not already half a pixel before it.

    The same as `SliceFrame.to_canvas` does at prediction.
    """
    values = functional.grid_sample(
        planes[None], grid, mode="bilinear", padding_mode="border", align_corners=False
    )[0]
    return values * (grid.abs() <= 1 + 1e-6).all(dim=-1)


def place_labels(labels: np.ndarray, placement: Placement, input_size: int, stride: int) -> Tensor:
    """The target `(S / stride, S / stride)` from a slice's labels `(H, W)`; outside the slice it is background.

    Each class is interpolated linearly and the largest wins, which rounds borders where the slice is enlarged.
    """
    grid = sampling_grid(placement, input_size, stride, (labels.shape[0], labels.shape[1]))
    values = np.unique(labels)
    values = np.concatenate([[0], values[values != 0]])
    if len(values) > ONE_HOT_LIMIT:
        plane = torch.from_numpy(labels.astype(np.float32))[None, None]
        return (
            functional.grid_sample(plane, grid, mode="nearest", align_corners=False)[0, 0]
            .round()
            .long()
        )
    if len(values) == 1:
        return torch.zeros(grid.shape[1:3], dtype=torch.long)
    classes = _sample(
        torch.from_numpy((labels[None] == values[1:, None, None]).astype(np.float32)), grid
    )
    background = (1 - classes.sum(0, keepdim=True)).clamp_min(0)
    winners = torch.cat([background, classes]).argmax(0)
    return torch.from_numpy(values.astype(np.int64))[winners]


def place_regions(
    labels: np.ndarray,
    placement: Placement,
    input_size: int,
    stride: int,
    label_scheme: LabelScheme,
) -> Tensor:
    """Bring the labels of a slice to the target of regions.

    Each region is interpolated linearly as a whole, and is where it covers more than half of what
    is known: its border does not depend on the labels within it.

    Args:
        labels: Labels `(H, W)` on the slice's own pixels.
        placement: Where the network's input lies on the slice.
        input_size: Edge of the input in pixels.
        stride: Input pixels for each pixel of the target.
        label_scheme: The regions, and the ignore label.

    Returns:
        `(R, S / stride, S / stride)`: 1 within a region, 0 elsewhere, and the ignore label in all
        regions where most is unknown.
    """
    grid = sampling_grid(placement, input_size, stride, (labels.shape[0], labels.shape[1]))
    ignore_label = label_scheme.ignore_label
    label_sets = list(label_scheme.label_sets)
    if ignore_label is not None:
        label_sets.append((ignore_label,))
    masks = np.stack([mask_of(labels, values) for values in label_sets])
    shares = _sample(torch.from_numpy(masks).float(), grid)
    if ignore_label is None:
        return (shares > 0.5).int()
    unknown = shares[-1]
    return (shares[:-1] > 0.5 * (1 - unknown)).int().masked_fill_(unknown > 0.5, ignore_label)


def change_intensities(image: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """What scanners and their settings change, each now and then. image: `(C, S, S)`, 0 to 1, and so is the result.

    Grey values along a random curve, uneven sensitivity, noise, blur, brightness, contrast, low resolution, gamma.
    """
    chosen = generator.random(6) < OTHER_SHARES
    if generator.random() < CURVE_SHARE:
        image = _along_curve(image, generator)
    if generator.random() < UNEVEN_SHARE:
        image = _unevenly(image, generator)
    with _seeded(generator):
        if chosen[0]:
            image = augment_gaussian_noise(
                image, noise_variance=(0, 0.03)
            )  # standard deviations, despite the name
        if chosen[1]:
            image = augment_gaussian_blur(image, (0.5, 1.5), per_channel=False)
        if chosen[2]:
            image = augment_brightness_multiplicative(image, (0.75, 1.25), per_channel=False)
        if chosen[3]:
            image = augment_contrast(image, (0.75, 1.25), per_channel=False)
        if chosen[4]:
            image = augment_linear_downsampling_scipy(image, zoom_range=(0.5, 1), per_channel=False)
        if chosen[5]:
            image = augment_gamma(image, (0.7, 1.5), retain_stats=False)
    return np.clip(image, 0, 1).astype(np.float32)


def _along_curve(image: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Another grey value for each: a smooth curve through knots that were moved, alike for all channels."""
    knots = np.linspace(0, 1, CURVE_KNOTS)
    moved = np.clip(knots + generator.normal(0, CURVE_MOVE, CURVE_KNOTS), 0, 1)
    table = PchipInterpolator(knots, moved)(np.linspace(0, 1, CURVE_VALUES)).astype(np.float32)
    return table[(image * (CURVE_VALUES - 1) + 0.5).astype(np.int32)]


def _unevenly(image: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """As if the scanner were more sensitive here than there, alike for all channels."""
    field = smooth_field(generator, int(generator.integers(1, 3, endpoint=True)), image.shape[-1])
    return np.clip(image * np.exp(np.float32(generator.uniform(0, MAX_UNEVENNESS)) * field), 0, 1)


@contextlib.contextmanager
def _seeded(generator: np.random.Generator) -> Iterator[None]:
    """batchgenerators draws from the global generators: lend them this sample's randomness, and give theirs back."""
    numpy_state, python_state = np.random.get_state(), random.getstate()
    seed = int(generator.integers(2**32))
    np.random.seed(seed)
    random.seed(seed)
    try:
        yield
    finally:
        np.random.set_state(numpy_state)
        random.setstate(python_state)
