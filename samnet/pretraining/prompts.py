"""Points and boxes on synthetic regions, as a user of SAM would give them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from samnet.pretraining.draws import Draws
from samnet.pretraining.label_maps import MAX_REGIONS

MIN_PIXELS = 32
# SAM's labels of points: on the object, off the object, and no point at all.
ON, OFF, NONE = 1, 0, -1
# Regions are looked at on every second row and column.
_STEP = 2
_BOX_JITTER = 0.05  # standard deviation, as a share of the box's side
_MAX_JITTER = 10.0  # pixels
_TRIES = 8  # to find a point off the object


@dataclass(frozen=True)
class Prompts:
    """P regions of each of I images with their prompts.

    Attributes:
        masks: Masks of the regions `(I, P, H / stride, W / stride)`, uint8.
        boxes: Left, top, right and bottom `(I, P, 4)` in pixels, float32.
        points: Two points each `(I, P, 2, 2)`, `(x, y)` in pixels, float32.
        point_labels: `ON`, `OFF` or `NONE` for each point, `(I, P, 2)`, int64.
    """

    masks: Tensor
    boxes: Tensor
    points: Tensor
    point_labels: Tensor


def draw_prompts(regions: Tensor, count: int, stride: int, draws: Draws) -> Prompts:
    """Draw regions, each with a box and two points.

    Large regions are no more likely than small ones. Regions under `MIN_PIXELS` pixels are left
    out, unless there are no others. A region is drawn twice only where there are too few.

    Args:
        regions: Numbers of regions `(I, S, S)`, negative beyond the field of view.
        count: Number of regions to draw, P.
        stride: Pixels of the image for one pixel of the masks, along each axis; a multiple of 4.
        draws: Source of randomness.

    Returns:
        The prompts.
    """
    seen = regions[:, ::_STEP, ::_STEP]
    chosen = _choose_regions(seen, count, draws)
    masks = (seen[:, None] == chosen[..., None, None].to(seen.dtype)).view(torch.uint8)
    half, step = stride // (2 * _STEP), stride // _STEP
    points, labels = _draw_points(masks, draws)
    return Prompts(
        masks=masks[..., half::step, half::step].contiguous(),
        boxes=_jittered_boxes(masks, regions.shape[-1], draws),
        points=points,
        point_labels=labels,
    )


def _choose_regions(seen: Tensor, count: int, draws: Draws) -> Tensor:
    """Return the numbers of the chosen regions, `(I, P)`, int64."""
    images = len(seen)
    # The first of the bins is for what is outside.
    bins = (torch.arange(images, device=seen.device) * (MAX_REGIONS + 1) + 1)[:, None]
    numbers = seen.flatten(1).long() + bins
    sizes = torch.bincount(numbers.view(-1), minlength=images * (MAX_REGIONS + 1))
    sizes = sizes.view(images, -1)[:, 1:]
    is_large = sizes >= MIN_PIXELS / _STEP**2
    is_candidate = torch.where(is_large.any(1, keepdim=True), is_large, sizes > 0)
    keys = draws.shares(images, MAX_REGIONS) + is_candidate.float()
    order = keys.topk(count, dim=1).indices
    available = is_candidate.sum(1, keepdim=True)
    again = (draws.shares(images, count) * available.clamp_max(count)).long()
    return torch.where(available < count, order.gather(1, again), order)


def _jittered_boxes(masks: Tensor, size: int, draws: Draws) -> Tensor:
    """Return the boxes around masks, each side moved outwards by a random amount."""
    edges = []
    for axis in (-2, -1):  # over rows for left and right, over columns for top and bottom
        is_hit = masks.amax(axis)
        # Rows and columns between those that were looked at may belong to the region.
        first = is_hit.int().argmax(-1) * _STEP - (_STEP - 1)
        last = size - is_hit.flip(-1).int().argmax(-1) * _STEP
        edges.append(torch.stack([first.clamp_min(0), last], dim=-1))
    boxes = torch.stack(edges, dim=-1).flatten(-2).float()
    sides = (boxes[..., 2:] - boxes[..., :2]).repeat(1, 1, 2)
    jitter = draws.values(*boxes.shape).mul_(_BOX_JITTER).abs_().mul_(sides).clamp_(max=_MAX_JITTER)
    jitter[..., :2].neg_()
    return boxes + jitter


def _draw_points(masks: Tensor, draws: Draws) -> tuple[Tensor, Tensor]:
    """Draw one point on each object, and then another one on it, one off it, or none."""
    images, count, _, width = masks.shape
    in_row = masks.sum(-1, dtype=torch.int32).cumsum(-1)
    total = in_row[..., -1:]
    rank = (draws.shares(images, count, 2) * total).to(in_row.dtype)
    row = torch.searchsorted(in_row, rank, right=True)
    before = in_row.gather(2, (row - 1).clamp_min(0)) * (row > 0)
    line = masks.gather(2, row[..., None].expand(-1, -1, -1, width)).cumsum(-1)
    column = torch.searchsorted(line, (rank - before)[..., None], right=True)[..., 0]
    label = (draws.shares(images, count) * 3).long() - 1  # NONE, OFF or ON
    tries = (draws.shares(images, count, _TRIES) * width**2).long()
    is_off = masks.flatten(2).gather(2, tries) == 0
    first_off = tries.gather(2, is_off.int().argmax(-1, keepdim=True))[..., 0]
    label = torch.where((label == OFF) & ~is_off.any(-1), NONE, label)
    off = label == OFF
    row[..., 1] = torch.where(off, first_off // width, row[..., 1])
    column[..., 1] = torch.where(off, first_off % width, column[..., 1])
    points = torch.stack([column, row], dim=-1) * _STEP + 0.5
    return points, torch.stack([torch.full_like(label, ON), label], dim=-1)
