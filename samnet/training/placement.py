"""Bringing a slice and its labels to the network's square input.

A `Placement` says where the input lies on the slice. It is drawn apart from its application, so
that any sample can be shown again.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from samnet.dataset.label_scheme import LabelScheme, mask_of
from samnet.training.smooth_fields import draw_coarse_values, spread_field

MAX_BEND = 0.03  # largest standard deviation of a bend, as a share of the input
BEND_WAVES = (2, 8)  # fewest and most waves of a bend along an edge of the input
ONE_HOT_LIMIT = 64  # with more values than this, labels are not interpolated
EDGE_MARGIN = 1 + 1e-6  # normalised coordinates up to which a point lies on the slice
_MAX_SHRINK = 1.3  # slice pixels in an input pixel from which on they are averaged first


@dataclass(frozen=True)
class Placement:
    """Where the network's square input lies on a slice.

    Attributes:
        centre: Position on the slice in pixels (rows, columns).
        matrix: 2 x 2, from input pixels to slice pixels, both (rows, columns).
        bend_seed: Seed of a smooth random displacement of the input's pixels, see `bend`; None for
            no displacement.
    """

    centre: tuple[float, float]
    matrix: np.ndarray
    bend_seed: int | None = None


@dataclass(frozen=True)
class Bend:
    """What determines a smooth displacement: `size` times two smooth fields.

    Attributes:
        size: Standard deviation of the displacement in input pixels.
        along_rows: Coarse values of the field along rows, see `samnet.training.smooth_fields`.
        along_columns: Those of the field along columns.
    """

    size: np.float32
    along_rows: np.ndarray
    along_columns: np.ndarray


def draw_bend(seed: int, input_size: int) -> Bend:
    """Draw a smooth random displacement.

    Its standard deviation is drawn up to 3 % of the input. The finer its waves are, the smaller it
    is, so that space does not fold.

    Args:
        seed: Fixes the draw.
        input_size: Edge of the input in pixels.

    Returns:
        The displacement.
    """
    generator = np.random.default_rng(seed)
    waves = int(generator.integers(*BEND_WAVES, endpoint=True))
    size = generator.uniform(0, MAX_BEND) * input_size * BEND_WAVES[0] / waves
    along_rows = draw_coarse_values(generator, waves)
    return Bend(np.float32(size), along_rows, draw_coarse_values(generator, waves))


def bend(seed: int, input_size: int, num_points: int) -> Tensor:
    """Compute the smooth random displacement of a seed.

    Args:
        seed: Fixes the draw.
        input_size: Edge of the input in pixels.
        num_points: Number of points along each edge. They cover the input evenly.

    Returns:
        Displacements `(2, num_points, num_points)` in input pixels: along rows, along columns.
    """
    drawn = draw_bend(seed, input_size)
    along_rows = spread_field(drawn.along_rows, num_points)
    along_columns = spread_field(drawn.along_columns, num_points)
    return torch.from_numpy(drawn.size * np.stack([along_rows, along_columns]))


def sampling_grid(
    placement: Placement, input_size: int, stride: int, size: tuple[int, int]
) -> Tensor:
    """Return where on a slice each output pixel lies.

    Args:
        placement: Where the network's input lies on the slice.
        input_size: Edge of the input in pixels.
        stride: Input pixels for each output pixel.
        size: Rows and columns of the slice.

    Returns:
        `(1, n, n, 2)` with n = input_size / stride, in the normalised (x, y) coordinates of
        `grid_sample` with `align_corners=False`.
    """
    centres = (torch.arange(input_size // stride, dtype=torch.float32) + 0.5) * stride
    steps = centres - input_size / 2
    rows, columns = torch.meshgrid(steps, steps, indexing="ij")
    if placement.bend_seed is not None:
        displacement = bend(placement.bend_seed, input_size, len(steps))
        rows, columns = rows + displacement[0], columns + displacement[1]
    matrix = placement.matrix
    y = placement.centre[0] + matrix[0, 0] * rows + matrix[0, 1] * columns
    x = placement.centre[1] + matrix[1, 0] * rows + matrix[1, 1] * columns
    return torch.stack([2 * x / size[1] - 1, 2 * y / size[0] - 1], dim=-1)[None]


def place_image(image: Tensor, placement: Placement, input_size: int) -> Tensor:
    """Bring a slice to the network's input.

    Args:
        image: `(C, H, W)` on the slice's own pixels.
        placement: Where the network's input lies on the slice.
        input_size: Edge S of the input in pixels.

    Returns:
        The input `(C, S, S)`; 0 outside the slice.
    """
    rows, columns = image.shape[-2:]
    image = average_pixels(image, averaged_size(placement, (rows, columns)))
    return _sample(image, sampling_grid(placement, input_size, 1, (rows, columns)))


def averaged_size(placement: Placement, size: tuple[int, int]) -> tuple[int, int]:
    """Return the size to which a slice is shrunk before it is sampled.

    Where several slice pixels fall into one of the input, fine structure would become noise without
    averaging.

    Args:
        placement: Where the network's input lies on the slice.
        size: Rows and columns of the slice.

    Returns:
        Rows and columns; those of the slice where nothing has to be averaged.
    """
    shrink = np.linalg.norm(placement.matrix, axis=0).max()
    if shrink <= _MAX_SHRINK:
        return size
    return max(1, round(size[0] / shrink)), max(1, round(size[1] / shrink))


def average_pixels(image: Tensor, size: tuple[int, int]) -> Tensor:
    """Shrink a slice by averaging.

    Args:
        image: `(C, H, W)`.
        size: What `averaged_size` returns.

    Returns:
        The slice `(C, *size)`; the same tensor where it has this size.
    """
    if tuple(image.shape[-2:]) == size:
        return image
    [smaller] = functional.interpolate(image[None], size=size, mode="bilinear", antialias=True)
    return smaller


def _sample(planes: Tensor, grid: Tensor) -> Tensor:
    """Return planes `(C, H, W)` at the points of a grid; 0 beyond the edge of the slice.

    Values do not fall to 0 half a pixel before the edge, as `SliceFrame.to_canvas` has it at
    prediction.
    """
    [values] = functional.grid_sample(
        planes[None], grid, mode="bilinear", padding_mode="border", align_corners=False
    )
    return values * (grid.abs() <= EDGE_MARGIN).all(dim=-1)


def place_labels(labels: np.ndarray, placement: Placement, input_size: int, stride: int) -> Tensor:
    """Bring the labels of a slice to the target of classes.

    Each class is interpolated linearly and the largest wins, which rounds borders where the slice
    is enlarged.

    Args:
        labels: Labels `(H, W)` on the slice's own pixels.
        placement: Where the network's input lies on the slice.
        input_size: Edge S of the input in pixels.
        stride: Input pixels for each pixel of the target.

    Returns:
        Labels `(S / stride, S / stride)`; background outside the slice.
    """
    grid = sampling_grid(placement, input_size, stride, (labels.shape[0], labels.shape[1]))
    values = np.unique(labels)
    values = values[values != 0]
    if has_many_values(labels):
        return _nearest_labels(labels, grid)
    if len(values) == 0:
        return torch.zeros(grid.shape[1:3], dtype=torch.long)
    masks = (labels[None] == values[:, None, None]).astype(np.float32)
    classes = _sample(torch.from_numpy(masks), grid)
    background = (1 - classes.sum(0, keepdim=True)).clamp_min(0)
    winners = torch.cat([background, classes]).argmax(0)
    value_of_winner = np.concatenate([[0], values]).astype(np.int64)
    return torch.from_numpy(value_of_winner)[winners]


def has_many_values(labels: np.ndarray) -> bool:
    """Tell whether labels hold too many values to be interpolated.

    Args:
        labels: Labels `(H, W)`.

    Returns:
        Whether the pixel nearest to each point decides instead.
    """
    # Fewer values than the highest one can be told without sorting.
    if labels.size == 0 or labels.max() < ONE_HOT_LIMIT:
        return False
    return np.count_nonzero(np.unique(labels)) + 1 > ONE_HOT_LIMIT


def _nearest_labels(labels: np.ndarray, grid: Tensor) -> Tensor:
    """Return the label of the pixel nearest to each point of a grid."""
    plane = torch.from_numpy(labels.astype(np.float32))[None, None]
    nearest = functional.grid_sample(plane, grid, mode="nearest", align_corners=False)[0, 0]
    return nearest.round().long()


def place_regions(
    labels: np.ndarray,
    placement: Placement,
    input_size: int,
    stride: int,
    label_scheme: LabelScheme,
) -> Tensor:
    """Bring the labels of a slice to the target of regions.

    Each region is interpolated linearly as a whole. It is where it covers more than half of what is
    known, so its border does not depend on the labels within it.

    Args:
        labels: Labels `(H, W)` on the slice's own pixels.
        placement: Where the network's input lies on the slice.
        input_size: Edge S of the input in pixels.
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
    target = (shares[:-1] > 0.5 * (1 - unknown)).int()
    return target.masked_fill_(unknown > 0.5, ignore_label)
