"""Points and boxes on made regions, as a user of SAM would give them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

MIN_PIXELS = 32
# SAM's labels of points: on the object, off it, and no point at all.
ON, OFF, NONE = 1, 0, -1
_BOX_JITTER = 0.05
_MAX_JITTER = 10.0


@dataclass(frozen=True)
class Prompts:
    """masks: `(P, H / stride, W / stride)` uint8. boxes: `(P, 4)`: left, top, right, bottom in pixels, float32.

    points: `(P, 2, 2)`, (x, y) in pixels, float32. point_labels: `(P, 2)`, `ON`, `OFF` or `NONE`.
    """

    masks: np.ndarray
    boxes: np.ndarray
    points: np.ndarray
    point_labels: np.ndarray


def draw_prompts(
    regions: np.ndarray, count: int, stride: int, generator: np.random.Generator
) -> Prompts:
    """A box and two points for each of `count` regions, larger ones no likelier than small ones.

    regions: `(H, W)`, numbers of regions, negative beyond the field of view.
    """
    numbers, sizes = np.unique(regions[regions >= 0], return_counts=True)
    large = numbers[sizes >= MIN_PIXELS]
    chosen = generator.choice(large if len(large) else numbers, count, replace=len(large) < count)
    half = stride // 2
    masks, boxes, points, labels = [], [], [], []
    for number in chosen:
        mask = regions == number
        masks.append(mask[half::stride, half::stride])
        boxes.append(_jittered_box(mask, generator))
        places, kinds = _draw_points(mask, generator)
        points.append(places)
        labels.append(kinds)
    return Prompts(
        np.array(masks, np.uint8),
        np.array(boxes, np.float32),
        np.array(points, np.float32),
        np.array(labels, np.int64),
    )


def _jittered_box(mask: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    box = np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], float)
    sides = np.tile(box[2:] - box[:2], 2)
    return box + np.minimum(np.abs(generator.normal(0, _BOX_JITTER, 4)) * sides, _MAX_JITTER) * [
        -1,
        -1,
        1,
        1,
    ]


def _draw_points(mask: np.ndarray, generator: np.random.Generator) -> tuple[np.ndarray, list[int]]:
    """One point on the object; then another on it, one off it, or none."""
    inside = np.flatnonzero(mask)
    width = mask.shape[1]
    first, second = generator.choice(inside, 2)
    kind = int(generator.choice([ON, OFF, NONE]))
    if kind == OFF:
        candidates = generator.integers(mask.size, size=8)
        off = candidates[~mask.ravel()[candidates]]
        if len(off):
            second = off[0]
        else:
            kind = NONE
    at = np.array([first, second])
    return np.stack([at % width + 0.5, at // width + 0.5], axis=1), [ON, kind]
