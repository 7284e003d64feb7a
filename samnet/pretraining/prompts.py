"""Points and boxes on synthetic regions, as a user of SAM would give them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

MIN_PIXELS = 32
# SAM's labels of points: on the object, off the object, and no point at all.
ON, OFF, NONE = 1, 0, -1
_BOX_JITTER = 0.05  # standard deviation, as a share of the box's side
_MAX_JITTER = 10.0  # pixels


@dataclass(frozen=True)
class Prompts:
    """P regions of an image with their prompts.

    Attributes:
        masks: Masks of the regions `(P, H / stride, W / stride)`, uint8.
        boxes: Left, top, right and bottom `(P, 4)` in pixels, float32.
        points: Two points each `(P, 2, 2)`, `(x, y)` in pixels, float32.
        point_labels: `ON`, `OFF` or `NONE` for each point, `(P, 2)`, int64.
    """

    masks: np.ndarray
    boxes: np.ndarray
    points: np.ndarray
    point_labels: np.ndarray


def draw_prompts(
    regions: np.ndarray, count: int, stride: int, generator: np.random.Generator
) -> Prompts:
    """Draw regions, each with a box and two points.

    Large regions are no more likely than small ones. Regions under `MIN_PIXELS` pixels are left
    out, unless there are no others.

    Args:
        regions: Numbers of regions `(H, W)`, negative beyond the field of view.
        count: Number of regions to draw.
        stride: Pixels of the image for one pixel of the masks, along each axis.
        generator: Source of randomness.

    Returns:
        The prompts.
    """
    numbers, sizes = np.unique(regions[regions >= 0], return_counts=True)
    large = numbers[sizes >= MIN_PIXELS]
    candidates = large if len(large) else numbers
    chosen = generator.choice(candidates, count, replace=len(large) < count)
    half = stride // 2
    masks, boxes, points, labels = [], [], [], []
    for number in chosen:
        mask = regions == number
        masks.append(mask[half::stride, half::stride])
        boxes.append(_jittered_box(mask, generator))
        region_points, region_labels = _draw_points(mask, generator)
        points.append(region_points)
        labels.append(region_labels)
    return Prompts(
        np.array(masks, np.uint8),
        np.array(boxes, np.float32),
        np.array(points, np.float32),
        np.array(labels, np.int64),
    )


def _jittered_box(mask: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Return the bounding box of a mask, enlarged by a random amount on every side."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    box = np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], float)
    sides = np.tile(box[2:] - box[:2], 2)
    jitter = np.minimum(np.abs(generator.normal(0, _BOX_JITTER, 4)) * sides, _MAX_JITTER)
    outwards = [-1, -1, 1, 1]
    return box + jitter * outwards


def _draw_points(mask: np.ndarray, generator: np.random.Generator) -> tuple[np.ndarray, list[int]]:
    """Draw one point on the object, and then another one on it, one off it, or none."""
    inside = np.flatnonzero(mask)
    first, second = generator.choice(inside, 2)
    label = int(generator.choice([ON, OFF, NONE]))
    if label == OFF:
        candidates = generator.integers(mask.size, size=8)
        outside = candidates[~mask.ravel()[candidates]]
        if len(outside):
            second = outside[0]
        else:
            label = NONE
    indices = np.array([first, second])
    width = mask.shape[1]
    points = np.stack([indices % width + 0.5, indices // width + 0.5], axis=1)
    return points, [ON, label]
