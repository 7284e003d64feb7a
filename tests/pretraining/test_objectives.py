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


def test_a_right_mask_costs_nothing_and_a_wrong_one_much() -> None:
    mask = square(1)
    logits = torch.stack([40 * (2 * mask - 1), -40 * (2 * mask - 1)], dim=1)
    right, wrong = mask_losses(logits, mask)[0]
    assert right == pytest.approx(0, abs=1e-4)
    assert wrong > 100


def test_mask_loss_by_hand() -> None:
    """Logits of 0: entropy log 2 and half missed everywhere; Dice of 16 pixels in 64 at one half."""
    loss = mask_losses(torch.zeros(1, 1, 8, 8), square(0))[0, 0]
    focal = 0.25 * math.log(2)
    dice = 1 - (2 * 8 + 1) / (32 + 16 + 1)
    assert loss == pytest.approx(20 * focal + dice, rel=1e-5)


def test_iou() -> None:
    logits = torch.stack([2 * square(0) - 1, 2 * square(2) - 1], dim=1)
    assert mask_iou(logits, square(0)).tolist() == [[1.0, pytest.approx(4 / 28)]]


def pair(features: Tensor) -> tuple[Tensor, Tensor]:
    """Two individuals, the second the first upside down; features: `(C, 8, 8)` of the first."""
    classes = torch.zeros(8, 8, dtype=torch.int8)
    classes[:3] = 1
    return torch.stack([features, features.flip(1)])[None], torch.stack([classes, classes.flip(0)])[
        None
    ]


def test_features_that_tell_the_class_cost_less_than_those_that_tell_the_place() -> None:
    by_class = torch.zeros(2, 8, 8)
    by_class[0, :3], by_class[1, 3:] = 4, 4
    features, classes = pair(by_class)
    one = torch.tensor(1.0)
    assert prototype_loss(features, classes, one) < 0.1
    by_place = torch.linspace(-1, 1, 8)[:, None].expand(1, 8, 8)
    _, classes = pair(by_place)
    assert prototype_loss(torch.stack([by_place, by_place])[None], classes, one) > 1


def test_what_the_other_lacks_or_lies_outside_is_not_asked() -> None:
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
def test_every_part_of_the_network_learns(step: int) -> None:
    torch.manual_seed(0)
    network = PretrainingNetwork(BACKBONES["small"], 64)
    batch = torch.utils.data.default_collate([Scenes(0, 64, 4)[index] for index in range(2)])
    losses = scene_losses(network, batch, step)
    sum(losses[name] for name in ("mask", "iou", "prototype")).backward()
    still = {
        name
        for name, weight in network.named_parameters()
        if weight.grad is None or not weight.grad.any()
    }
    # Masks as prompts are not practised. Of three answers to a point the best learns, of points only those that occur.
    allowed = [
        "prompt_encoder.mask_downscaling",
        "prompt_encoder.point_embeddings",
        "prompt_encoder.not_a_point",
    ]
    allowed += [f"mask_decoder.output_hypernetworks_mlps.{answer}" for answer in (1, 2, 3)]
    if step:
        allowed.append("upsampling.fuse.2")  # the finest features, in every fourth step
    assert [name for name in still if not name.startswith(tuple(allowed))] == []
