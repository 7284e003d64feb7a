"""Cross-entropy and Dice on the logits at the head's own resolution."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

SMOOTH = 1e-5


def segmentation_loss(
    logits: Tensor,
    target: Tensor,
    *,
    form: str = "samed",
    cross_entropy_weight: float,
    dice_weight: float,
    ignore: int | None = None,
) -> Tensor:
    """The weighted sum of cross-entropy and Dice loss, a scalar.

    logits: `(B, K, H, W)`, of classes, background first, or of regions.
    target: of classes `(B, H, W)`, 0 .. K - 1; of regions `(B, K, H, W)`, 1 within each and 0 elsewhere. Then the
        cross-entropy is the binary one, averaged over regions as over pixels, and sigmoids take the softmax's place.
        `ignore` where nothing is known.
    form: of the Dice loss, `samed` or `autosam`, see `_dice_loss`.
    """
    has_regions = target.ndim == logits.ndim
    if ignore is None:
        known = torch.ones_like(target, dtype=torch.bool)
    else:
        known = target != ignore
        target = torch.where(known, target, 0)
    if has_regions:
        expected = target.to(logits.dtype)
        per_pixel = functional.binary_cross_entropy_with_logits(logits, expected, reduction="none")
        probabilities, mask = logits.sigmoid(), known
    else:
        expected = functional.one_hot(target, logits.shape[1]).permute(0, 3, 1, 2).to(logits.dtype)
        per_pixel = functional.cross_entropy(logits, target, reduction="none")
        probabilities, mask = logits.softmax(dim=1), known[:, None]
    cross_entropy = (per_pixel * known).sum() / known.sum().clamp_min(1)
    dice = _dice_loss(probabilities * mask, expected * mask, form)
    if form == "autosam" and not has_regions:
        dice = dice[1:]
    return cross_entropy_weight * cross_entropy + dice_weight * dice.mean()


def _dice_loss(probabilities: Tensor, expected: Tensor, form: str) -> Tensor:
    """1 - soft Dice of each of K outputs over the whole batch, `(K,)`, with s = 1e-5.

    `samed`: `(2 sum p t + s) / (sum p p + sum t t + s)`, squared denominators (arXiv 2304.13785); it is averaged over
    all classes. `autosam`: `(2 sum p t + s) / (sum p + sum t + s)` (arXiv 2306.13731), over all but the background.

    probabilities, expected: `(B, K, H, W)`, both 0 where nothing is known.
    """
    overlap = (probabilities * expected).sum(_ALL_BUT_OUTPUTS)
    terms = (
        probabilities + expected
        if form == "autosam"
        else probabilities * probabilities + expected * expected
    )
    return 1 - (2 * overlap + SMOOTH) / (terms.sum(_ALL_BUT_OUTPUTS) + SMOOTH)


_ALL_BUT_OUTPUTS = (0, 2, 3)
