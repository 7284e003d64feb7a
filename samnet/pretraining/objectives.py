"""The objectives of the pre-training.

The small backbone learns to outline what a prompt points at, and to tell classes apart in a new
patient.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from samnet.pretraining.anatomies import MAX_CLASSES
from samnet.pretraining.label_maps import OUTSIDE
from samnet.pretraining.network import PretrainingNetwork
from samnet.pretraining.scenes import INDIVIDUALS

# SAM's weights of focal and Dice loss (Kirillov et al. 2023, arXiv 2304.02643, appendix A).
_FOCAL_WEIGHT = 20.0
_FOCAL_POWER = 2.0
_SMOOTH = 1.0
_ABSENT = -1e4  # logit of a class that the other individual lacks
_IGNORED = -100
_FINE_EVERY = 4


def mask_losses(logits: Tensor, masks: Tensor) -> Tensor:
    """Compute the focal and Dice loss of K predicted masks for each of N prompts.

    Args:
        logits: Predicted masks `(N, K, H, W)`.
        masks: True masks `(N, H, W)`, 0 or 1.

    Returns:
        Sums of both losses with SAM's weights, `(N, K)`.
    """
    target = masks[:, None].expand_as(logits).to(logits.dtype)
    entropy = functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
    missed = 1 - torch.exp(-entropy)
    focal = (missed**_FOCAL_POWER * entropy).mean(dim=(2, 3))
    dice = 1 - _soft_dice(logits.sigmoid(), target, dim=(2, 3))
    return _FOCAL_WEIGHT * focal + dice


def _soft_dice(shares: Tensor, target: Tensor, dim: int | tuple[int, ...]) -> Tensor:
    overlap = 2 * (shares * target).sum(dim=dim) + _SMOOTH
    return overlap / (shares.sum(dim=dim) + target.sum(dim=dim) + _SMOOTH)


def mask_iou(logits: Tensor, masks: Tensor) -> Tensor:
    """Compute the intersection over union of predicted and true masks.

    Args:
        logits: Predicted masks `(N, K, H, W)`; above 0 is inside.
        masks: True masks `(N, H, W)`, 0 or 1.

    Returns:
        IoU `(N, K)`, 0 to 1.
    """
    predicted, true = logits > 0, masks[:, None] > 0
    intersection = (predicted & true).sum(dim=(2, 3))
    union = (predicted | true).sum(dim=(2, 3))
    return intersection / union.clamp_min(1)


def prototype_loss(features: Tensor, classes: Tensor, scale: Tensor) -> Tensor:
    """Compute how well the classes of one individual are found in the other by mean features.

    This is segmentation from one example, the task that the backbone is for, in the form of
    prototypical networks (Snell et al. 2017, arXiv 1703.05175): a pixel is assigned to the class
    whose mean, over the pixels of the other individual, is nearest.

    Args:
        features: Features `(N, 2, C, H, W)` of N pairs of individuals.
        classes: Classes `(N, 2, H, W)`; a class has the same number in both individuals.
        scale: Factor on the distances, a scalar.

    Returns:
        Cross-entropy plus Dice loss, a scalar.
    """
    flat_features = features.flatten(3).float()
    flat_classes = classes.flatten(2).long()
    visible = flat_classes != OUTSIDE
    indices = flat_classes.clamp_min(0)  # valid also for pixels outside, which `visible` excludes
    members = functional.one_hot(indices, MAX_CLASSES).to(flat_features.dtype) * visible[..., None]
    logits, known = _prototype_logits(flat_features, members)
    logits = (scale * logits).masked_fill(~known[..., None], _ABSENT).flatten(0, 1)
    # A pixel whose class the other individual lacks has no right answer.
    answerable = known.gather(2, indices) & visible
    target = torch.where(answerable, flat_classes, _IGNORED).flatten(0, 1)
    entropy = functional.cross_entropy(logits, target, ignore_index=_IGNORED)
    shares = logits.softmax(dim=1) * answerable.flatten(0, 1)[:, None]
    truth = (members * answerable[..., None]).flatten(0, 1).transpose(1, 2)
    dice = 1 - _soft_dice(shares, truth, dim=2)
    present = truth.sum(dim=2) > 0
    return entropy + dice[present].sum() / present.sum().clamp_min(1)


def _prototype_logits(features: Tensor, members: Tensor) -> tuple[Tensor, Tensor]:
    """Compare every pixel with the mean features of the classes in the other individual.

    Args:
        features: Features `(N, 2, C, P)` of P pixels.
        members: 1 where a pixel belongs to a class, `(N, 2, P, K)`.

    Returns:
        Logits `(N, 2, K, P)`, and whether the other individual has the class, `(N, 2, K)`.
    """
    sizes = members.sum(dim=2)
    sums = torch.einsum("npcx,npxk->npck", features, members)
    means = sums / sizes.clamp_min(1)[:, :, None]
    means, known = means.flip(1), (sizes > 0).flip(1)
    # Half the negative squared distance, without the term that is equal for all classes.
    products = torch.einsum("npcx,npck->npkx", features, means)
    return products - (means**2).sum(dim=2)[..., None] / 2, known


def scene_losses(
    network: PretrainingNetwork, batch: dict[str, Tensor], step: int
) -> dict[str, Tensor]:
    """Compute all losses of a batch of scenes.

    Args:
        network: The network.
        batch: A batch of `Scenes`.
        step: Number of the optimiser step, from 0.

    Returns:
        Scalars by name: the losses `mask`, `iou` and `prototype`, and, to report, the mean IoU
        reached from a box and from points, `box_iou` and `point_iou`.
    """
    images, embedding = network.embed(batch["image"].flatten(0, 1))
    # The finest features cost as much as all others together; only every fourth step trains them.
    levels = 3 if step % _FINE_EVERY == 0 else 2
    maps = network.upsampling(embedding, images, levels=levels)
    features = maps[-1].unflatten(0, (-1, INDIVIDUALS))
    stride = network.size // features.shape[-1]
    classes = batch["classes"][..., stride // 2 :: stride, stride // 2 :: stride]
    by_box, by_point = _answer_prompts(network, embedding, batch)
    # SAM's first mask is for clear prompts. Of the other three, which are for ambiguous prompts,
    # only the best is trained.
    box_loss = by_box.losses[:, 0].mean()
    point_loss = by_point.losses[:, 1:].min(dim=1).values.mean()
    return {
        "mask": (box_loss + point_loss) / 2,
        "iou": by_box.iou_errors[:, 0].mean() + by_point.iou_errors[:, 1:].mean(),
        "prototype": prototype_loss(features, classes, network.log_scale.exp()),
        "box_iou": by_box.iou[:, 0].mean(),
        "point_iou": by_point.iou[:, 1:].max(dim=1).values.mean(),
    }


@dataclass(frozen=True)
class _Answers:
    """Loss, IoU and squared error of the predicted IoU of K masks for N prompts, `(N, K)` each."""

    losses: Tensor
    iou: Tensor
    iou_errors: Tensor


def _answer_prompts(
    network: PretrainingNetwork, embedding: Tensor, batch: dict[str, Tensor]
) -> tuple[_Answers, _Answers]:
    """Prompt with boxes for the first half of each image's regions, with points for the others."""
    masks, boxes = batch["masks"].flatten(0, 1), batch["boxes"].flatten(0, 1)
    points, labels = batch["points"].flatten(0, 1), batch["point_labels"].flatten(0, 1)
    num_boxes = masks.shape[1] // 2
    by_box = _answer(network, embedding, masks[:, :num_boxes], boxes=boxes[:, :num_boxes])
    point_prompts = (points[:, num_boxes:], labels[:, num_boxes:])
    by_point = _answer(network, embedding, masks[:, num_boxes:], points=point_prompts)
    return by_box, by_point


def _answer(
    network: PretrainingNetwork,
    embedding: Tensor,
    masks: Tensor,
    boxes: Tensor | None = None,
    points: tuple[Tensor, Tensor] | None = None,
) -> _Answers:
    """Score the masks for P boxes or pairs of points an image; true masks `(B, P, H, W)`."""
    sparse, _ = network.prompt_encoder(
        points=None if points is None else (points[0].flatten(0, 1), points[1].flatten(0, 1)),
        boxes=None if boxes is None else boxes.flatten(0, 1),
        masks=None,
    )
    logits, predicted_iou = network.masks(
        embedding.repeat_interleave(masks.shape[1], dim=0), sparse
    )
    target = masks.flatten(0, 1)
    iou = mask_iou(logits, target)
    return _Answers(mask_losses(logits, target), iou, (predicted_iou - iou) ** 2)
