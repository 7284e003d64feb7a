"""What the small backbone is taught: to outline what a prompt points at, and to tell classes apart in a new patient."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from samnet.pretraining.label_maps import MAX_CLASSES, OUTSIDE
from samnet.pretraining.network import PretrainingNetwork
from samnet.pretraining.scenes import INDIVIDUALS

# SAM's weights of focal and Dice loss (Kirillov et al. 2023, arXiv 2304.02643, appendix A).
_FOCAL_WEIGHT = 20.0
_FOCAL_POWER = 2.0
_SMOOTH = 1.0
_ABSENT = -1e4
_FINE_EVERY = 4


def mask_losses(logits: Tensor, masks: Tensor) -> Tensor:
    """Focal and Dice loss of each of several answers: `(N, K)` from logits `(N, K, H, W)` and masks `(N, H, W)`."""
    target = masks[:, None].expand_as(logits).to(logits.dtype)
    entropy = functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
    missed = 1 - torch.exp(-entropy)
    focal = (missed**_FOCAL_POWER * entropy).mean(dim=(2, 3))
    shares = logits.sigmoid()
    overlap = 2 * (shares * target).sum(dim=(2, 3)) + _SMOOTH
    dice = 1 - overlap / (shares.sum(dim=(2, 3)) + target.sum(dim=(2, 3)) + _SMOOTH)
    return _FOCAL_WEIGHT * focal + dice


def mask_iou(logits: Tensor, masks: Tensor) -> Tensor:
    """Intersection over union `(N, K)` of what logits `(N, K, H, W)` say and the masks `(N, H, W)`."""
    found, wanted = logits > 0, masks[:, None] > 0
    return (found & wanted).sum(dim=(2, 3)) / (found | wanted).sum(dim=(2, 3)).clamp_min(1)


def prototype_loss(features: Tensor, classes: Tensor, scale: Tensor) -> Tensor:
    """How well the classes of one individual are found in the other by the mean feature of each class.

    This is segmentation from one example, the task the backbone is for, in the form of prototypical networks (Snell et
    al. 2017, arXiv 1703.05175): a pixel is of the class whose mean, over the other individual's pixels, is nearest.

    features: `(N, 2, C, H, W)`. classes: `(N, 2, H, W)`, the same number for the same class in both. scale: of the
    distances.
    """
    flat = features.flatten(3).float()
    wanted = classes.flatten(2).long()
    members = (
        functional.one_hot(wanted.clamp_min(0), MAX_CLASSES).to(flat.dtype)
        * (wanted != OUTSIDE)[..., None]
    )
    sizes = members.sum(dim=2)
    means = torch.einsum("npcx,npxk->npck", flat, members) / sizes.clamp_min(1)[:, :, None]
    means, known = means.flip(1), (sizes > 0).flip(1)
    logits = torch.einsum("npcx,npck->npkx", flat, means) - (means**2).sum(dim=2)[..., None] / 2
    logits = (scale * logits).masked_fill(~known[..., None], _ABSENT).flatten(0, 1)
    # A pixel whose class the other individual lacks has no right answer.
    answerable = known.gather(2, wanted.clamp_min(0)) & (wanted != OUTSIDE)
    target = torch.where(answerable, wanted, -100).flatten(0, 1)
    entropy = functional.cross_entropy(logits, target, ignore_index=-100)
    shares = logits.softmax(dim=1) * answerable.flatten(0, 1)[:, None]
    truth = (members * answerable[..., None]).flatten(0, 1).transpose(1, 2)
    overlap = 2 * (shares * truth).sum(dim=2) + _SMOOTH
    dice = 1 - overlap / (shares.sum(dim=2) + truth.sum(dim=2) + _SMOOTH)
    present = truth.sum(dim=2) > 0
    return entropy + dice[present].sum() / present.sum().clamp_min(1)


def scene_losses(
    network: PretrainingNetwork, batch: dict[str, Tensor], step: int
) -> dict[str, Tensor]:
    """The losses of a batch of scenes, `mask`, `iou` and `prototype`; and the IoU reached from `box` and `point`."""
    images, embedding = network.embed(batch["image"].flatten(0, 1))
    # The finest features cost as much as all others together; they are learned from every fourth step.
    maps = network.upsampling(embedding, images, levels=3 if step % _FINE_EVERY == 0 else 2)
    features = maps[-1].unflatten(0, (-1, INDIVIDUALS))
    stride = network.size // features.shape[-1]
    classes = batch["classes"][..., stride // 2 :: stride, stride // 2 :: stride]
    masks, points, labels = (
        batch[name].flatten(0, 1) for name in ("masks", "points", "point_labels")
    )
    boxes = batch["boxes"].flatten(0, 1)
    num_boxes = masks.shape[1] // 2
    by_box = _answer(network, embedding, masks[:, :num_boxes], boxes=boxes[:, :num_boxes])
    by_point = _answer(
        network,
        embedding,
        masks[:, num_boxes:],
        points=(points[:, num_boxes:], labels[:, num_boxes:]),
    )
    # SAM's first answer is for clear prompts. Of the other three, for ambiguous ones, the best is taught.
    return {
        "mask": (by_box.losses[:, 0].mean() + by_point.losses[:, 1:].min(dim=1).values.mean()) / 2,
        "iou": by_box.iou_errors[:, 0].mean() + by_point.iou_errors[:, 1:].mean(),
        "prototype": prototype_loss(features, classes, network.log_scale.exp()),
        "box_iou": by_box.iou[:, 0].mean(),
        "point_iou": by_point.iou[:, 1:].max(dim=1).values.mean(),
    }


@dataclass(frozen=True)
class _Answers:
    """Of N prompts and the decoder's K masks each, `(N, K)`: loss, IoU, and the squared error of the expected IoU."""

    losses: Tensor
    iou: Tensor
    iou_errors: Tensor


def _answer(
    network: PretrainingNetwork,
    embedding: Tensor,
    masks: Tensor,
    boxes: Tensor | None = None,
    points: tuple[Tensor, Tensor] | None = None,
) -> _Answers:
    """What the network answers to the boxes or points of each image, whose masks are `(B, P, H, W)`."""
    sparse, _ = network.prompt_encoder(
        points=None if points is None else (points[0].flatten(0, 1), points[1].flatten(0, 1)),
        boxes=None if boxes is None else boxes.flatten(0, 1),
        masks=None,
    )
    logits, expected = network.masks(embedding.repeat_interleave(masks.shape[1], dim=0), sparse)
    target = masks.flatten(0, 1)
    iou = mask_iou(logits, target)
    return _Answers(mask_losses(logits, target), iou, (expected - iou) ** 2)
