"""Cross-entropy and Dice loss on the logits at the head's own resolution."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

SMOOTH = 1e-5
RELEASED_SMOOTH = 1.0  # in AutoSAM's code
_WITHOUT_BACKGROUND = ("autosam", "autosam_release")
_ALL_BUT_OUTPUTS = (0, 2, 3)  # axes of (B, K, H, W)
_STACK_DIMENSIONS = 5  # of (B, D, K, H, W)


def segmentation_loss(
    logits: Tensor,
    target: Tensor,
    *,
    form: str = "samed",
    cross_entropy_weight: float,
    dice_weight: float,
    ignore: int | None = None,
) -> Tensor:
    """Return the weighted sum of cross-entropy and Dice loss.

    For regions the cross-entropy is the binary one, averaged over regions as over pixels, and
    sigmoids replace the softmax.

    Args:
        logits: `(B, K, H, W)`, of classes with the background first, or of regions; of stacks of D
            slices `(B, D, K, H, W)`, of which every slice counts.
        target: Classes `(B, H, W)` from 0 to K - 1; or regions `(B, K, H, W)`, 1 within each and 0
            elsewhere. With another axis of D slices for stacks.
        form: The form of the Dice loss. `samed`: squared denominators, over all classes, as in the
            code of SAMed (arXiv 2304.13785). `autosam_release`: over all classes except the
            background, as in the code of AutoSAM (arXiv 2306.13731). `autosam`: the same without
            squares, as samnet had it before that code was run.
        cross_entropy_weight: Weight of the cross-entropy.
        dice_weight: Weight of the Dice loss.
        ignore: Value of the target where nothing is known, or None.

    Returns:
        A scalar.
    """
    if logits.ndim == _STACK_DIMENSIONS:
        logits, target = logits.flatten(0, 1), target.flatten(0, 1)
    has_regions = target.ndim == logits.ndim
    known = None if ignore is None else target != ignore
    if known is not None:
        target = torch.where(known, target, 0)
    if has_regions:
        expected, probabilities = target.to(logits.dtype), logits.sigmoid()
        per_pixel = functional.binary_cross_entropy_with_logits(logits, expected, reduction="none")
    else:
        expected = torch.zeros_like(logits, requires_grad=False).scatter_(1, target[:, None], 1)
        probabilities = logits.softmax(dim=1)
        per_pixel = functional.cross_entropy(logits, target, reduction="none")
    if known is None:
        cross_entropy = per_pixel.mean()
    else:
        cross_entropy = (per_pixel * known).sum() / known.sum().clamp_min(1)
        mask = known if has_regions else known[:, None]
        probabilities, expected = probabilities * mask, expected * mask
    dice = _dice_loss(probabilities, expected, form)
    if form in _WITHOUT_BACKGROUND and not has_regions:
        dice = dice[1:]
    return cross_entropy_weight * cross_entropy + dice_weight * _mean(dice, form)


def _mean(dice: Tensor, form: str) -> Tensor:
    """Return the mean of the losses of each output.

    AutoSAM's code leaves out those that are not above 0. Where none is left, its mean is NaN; here
    it is 0.
    """
    if form != "autosam_release":
        return dice.mean()
    is_counted = dice > 0
    return (dice * is_counted).sum() / is_counted.sum().clamp_min(1)


def _dice_loss(probabilities: Tensor, expected: Tensor, form: str) -> Tensor:
    """Return 1 - soft Dice of each of K outputs over the whole batch, `(K,)`.

    With s = 1e-5 the soft Dice is, as `samed`, `(2 sum p t + s) / (sum p p + sum t t + s)`; as
    `autosam` it is `(2 sum p t + s) / (sum p + sum t + s)`; as `autosam_release` it is that of
    `samed` with s = 1. Both arguments are `(B, K, H, W)`, and 0 where nothing is known.
    """
    smooth = RELEASED_SMOOTH if form == "autosam_release" else SMOOTH
    overlap = (probabilities * expected).sum(_ALL_BUT_OUTPUTS)
    if form == "autosam":
        terms = probabilities + expected
    else:
        terms = probabilities * probabilities + expected  # 0 and 1 are their own squares
    return 1 - (2 * overlap + smooth) / (terms.sum(_ALL_BUT_OUTPUTS) + smooth)
