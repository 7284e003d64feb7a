"""The objectives of the pre-training."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from samnet.plan.backbones import BACKBONES
from samnet.pretraining.label_maps import OUTSIDE
from samnet.pretraining.network import PretrainingNetwork
from samnet.pretraining.objectives import mask_iou, mask_losses, prototype_loss, scene_losses
from samnet.pretraining.scenes import Scenes


def square(start: int) -> Tensor:
    mask = torch.zeros(1, 8, 8)
    mask[0, start : start + 4, start : start + 4] = 1
    return mask


def test_mask_losses_are_zero_for_a_right_mask_and_large_for_a_wrong_one() -> None:
    mask = square(1)
    logits = torch.stack([40 * (2 * mask - 1), -40 * (2 * mask - 1)], dim=1)
    right, wrong = mask_losses(logits, mask)[0]
    assert right == pytest.approx(0, abs=1e-4)
    assert wrong > 100


def test_mask_losses_equal_a_calculation_by_hand() -> None:
    """With logits of 0 the entropy is log 2, and half is missed; 16 of 64 pixels are inside."""
    loss = mask_losses(torch.zeros(1, 1, 8, 8), square(0))[0, 0]
    focal = 0.25 * math.log(2)
    dice = 1 - (2 * 8 + 1) / (32 + 16 + 1)
    assert loss == pytest.approx(20 * focal + dice, rel=1e-5)


def test_mask_iou_equals_a_calculation_by_hand() -> None:
    logits = torch.stack([2 * square(0) - 1, 2 * square(2) - 1], dim=1)
    assert mask_iou(logits, square(0)).tolist() == [[1.0, pytest.approx(4 / 28)]]


def pair(features: Tensor) -> tuple[Tensor, Tensor]:
    """Return features and classes of two individuals, the second one the first upside down.

    Args:
        features: Features `(C, 8, 8)` of the first individual.
    """
    classes = torch.zeros(8, 8, dtype=torch.int8)
    classes[:3] = 1
    both_features = torch.stack([features, features.flip(1)])[None]
    both_classes = torch.stack([classes, classes.flip(0)])[None]
    return both_features, both_classes


def test_prototype_loss_is_smaller_for_class_features_than_for_position_features() -> None:
    by_class = torch.zeros(2, 8, 8)
    by_class[0, :3], by_class[1, 3:] = 4, 4
    features, classes = pair(by_class)
    one = torch.tensor(1.0)
    assert prototype_loss(features, classes, one) < 0.1
    by_position = torch.linspace(-1, 1, 8)[:, None].expand(1, 8, 8)
    _, classes = pair(by_position)
    assert prototype_loss(torch.stack([by_position, by_position])[None], classes, one) > 1


def test_prototype_loss_ignores_pixels_outside_and_classes_that_the_other_lacks() -> None:
    by_class = torch.zeros(2, 8, 8)
    by_class[0, :3], by_class[1, 3:] = 4, 4
    features, classes = pair(by_class)
    one = torch.tensor(1.0)
    plain = prototype_loss(features, classes, one)
    features = features.clone()
    features[0, 0, :, 7, 7] = torch.tensor([-4.0, -4.0])  # looks like neither class
    assert prototype_loss(features, classes, one) > plain
    for value in (OUTSIDE, 5):
        hidden = classes.clone()
        hidden[0, 0, 7, 7] = value
        assert prototype_loss(features, hidden, one) == pytest.approx(float(plain), abs=1e-4)


@pytest.mark.parametrize("step", [0, 1])
def test_scene_losses_train_every_part_of_the_network(step: int) -> None:
    torch.manual_seed(0)
    network = PretrainingNetwork(BACKBONES["small"], 64)
    batch = batch_of(0, 1)
    losses = scene_losses(network, batch, step)
    sum(losses[name] for name in ("mask", "iou", "prototype")).backward()
    untrained = {
        name
        for name, weight in network.named_parameters()
        if weight.grad is None or not weight.grad.any()
    }
    # The pre-training uses no masks as prompts. Of the three masks for a point only the best one is
    # trained, and of the point embeddings only those that occur.
    allowed = [
        "prompt_encoder.mask_downscaling",
        "prompt_encoder.point_embeddings",
        "prompt_encoder.not_a_point",
    ]
    allowed += [f"mask_decoder.output_hypernetworks_mlps.{answer}" for answer in (1, 2, 3)]
    if step:
        allowed.append("upsampling.fuse.2")  # the finest features, trained in every fourth step
    assert [name for name in untrained if not name.startswith(tuple(allowed))] == []


def batch_of(*scenes: int) -> dict[str, Tensor]:
    batch = Scenes(0, 64, 4, 2)[0][0]
    return {name: value[list(scenes)] for name, value in batch.items()}


def test_scene_losses_of_a_batch_are_the_means_over_its_scenes() -> None:
    """Each prompt is answered on its own image."""
    torch.manual_seed(0)
    network = PretrainingNetwork(BACKBONES["small"], 64).eval()
    torch.nn.init.normal_(network.image_encoder.pos_embed)
    with torch.no_grad():
        both, first, second = (
            scene_losses(network, batch_of(*scenes), 1) for scenes in ((0, 1), (0,), (1,))
        )
    for name in ("mask", "iou", "box_iou", "point_iou"):
        assert float(first[name]) != pytest.approx(float(second[name]), rel=1e-3)
        expected = float(first[name] + second[name]) / 2
        assert float(both[name]) == pytest.approx(expected, rel=1e-4)


def test_first_mask_answers_a_box_and_the_best_of_the_others_answers_points() -> None:
    network, batch = PretrainingNetwork(BACKBONES["small"], 64), batch_of(0)
    right = batch["masks"].flatten(0, 1).float() * 80 - 40
    by_box, by_point = right[:, :2].flatten(0, 1), right[:, 2:].flatten(0, 1)
    answers = [
        torch.stack([by_box, -by_box, -by_box, -by_box], dim=1),
        torch.stack([-by_point, -by_point, by_point, -by_point], dim=1),
    ]

    def answer(embedding: Tensor, sparse: Tensor) -> tuple[Tensor, Tensor]:
        logits = answers.pop(0)
        return logits, torch.tensor([0.8, 0.1, 0.6, 0.3]).expand(logits.shape[:2])

    network.masks = answer  # type: ignore[method-assign]
    losses = scene_losses(network, batch, 1)
    assert float(losses["mask"]) == pytest.approx(0, abs=1e-3)
    assert float(losses["box_iou"]) == float(losses["point_iou"]) == 1
    # The true IoU is 1 for the first mask of boxes and the second last of points, and else 0.
    assert float(losses["iou"]) == pytest.approx(0.2**2 + (0.1**2 + 0.4**2 + 0.3**2) / 3)
