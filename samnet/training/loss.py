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

    logits: `(B, K, H, W)`, background first. target: `(B, H, W)`, 0 .. K - 1, or `ignore` where nothing is known.
    form: of the Dice loss, `samed` (`dice_loss`) or `autosam` (`foreground_dice_loss`).
    """
    if ignore is None:
        known = torch.ones_like(target, dtype=torch.bool)
    else:
        known = target != ignore
        target = torch.where(known, target, 0)
    per_pixel = functional.cross_entropy(logits, target, reduction="none")
    cross_entropy = (per_pixel * known).sum() / known.sum().clamp_min(1)
    dice = _DICE_FORMS[form](logits.softmax(dim=1), target, known)
    return cross_entropy_weight * cross_entropy + dice_weight * dice


def dice_loss(probabilities: Tensor, target: Tensor, known: Tensor) -> Tensor:
    """1 - Dice, averaged over all K classes, background included.

    Over batch and pixels `(2 sum p t + s) / (sum p p + sum t t + s)`, s = 1e-5: the form of SAMed (arXiv 2304.13785),
    with squared denominators. known: `(B, H, W)`, the pixels that count.
    """
    probabilities, one_hot = _masked(probabilities, target, known)
    overlap = (probabilities * one_hot).sum(_ALL_BUT_CLASSES)
    squares = (probabilities * probabilities + one_hot * one_hot).sum(_ALL_BUT_CLASSES)
    return (1 - (2 * overlap + SMOOTH) / (squares + SMOOTH)).mean()


def foreground_dice_loss(probabilities: Tensor, target: Tensor, known: Tensor) -> Tensor:
    """1 - soft Dice, averaged over the foreground classes, each over the whole batch: AutoSAM's (arXiv 2306.13731).

    `(2 sum p t + s) / (sum p + sum t + s)`, s = 1e-5. known: `(B, H, W)`, the pixels that count.
    """
    probabilities, one_hot = _masked(probabilities, target, known)
    overlap = (probabilities * one_hot).sum(_ALL_BUT_CLASSES)[1:]
    sizes = (probabilities + one_hot).sum(_ALL_BUT_CLASSES)[1:]
    return (1 - (2 * overlap + SMOOTH) / (sizes + SMOOTH)).mean()


def _masked(probabilities: Tensor, target: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
    """Probabilities and one-hot target `(B, K, H, W)`, both 0 where nothing is known."""
    one_hot = functional.one_hot(target, probabilities.shape[1]).permute(0, 3, 1, 2).to(probabilities.dtype)
    mask = known[:, None].to(probabilities.dtype)
    return probabilities * mask, one_hot * mask


_ALL_BUT_CLASSES = (0, 2, 3)
_DICE_FORMS = {"samed": dice_loss, "autosam": foreground_dice_loss}
