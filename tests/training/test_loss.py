from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from samnet.training.loss import segmentation_loss

WEIGHTS = {"cross_entropy_weight": 0.2, "dice_weight": 0.8}


def plain_loss(logits: Tensor, target: Tensor, ignore: int | None) -> Tensor:
    """0.2 cross-entropy + 0.8 Dice as the papers write it, pixel by pixel and class by class."""
    pixels = [
        (logits[b, :, y, x], int(target[b, y, x]))
        for b in range(len(target))
        for y in range(target.shape[1])
        for x in range(target.shape[2])
        if int(target[b, y, x]) != ignore
    ]
    cross_entropy = sum(
        torch.logsumexp(values, 0) - values[label] for values, label in pixels
    ) / max(1, len(pixels))
    dice = torch.zeros(())
    for k in range(logits.shape[1]):
        overlap, predicted, expected = torch.zeros(()), torch.zeros(()), 0.0
        for values, label in pixels:
            probability = values.exp()[k] / values.exp().sum()
            overlap = overlap + probability * (label == k)
            predicted = predicted + probability**2
            expected += float(label == k)
        dice = dice + 1 - (2 * overlap + 1e-5) / (predicted + expected + 1e-5)
    return 0.2 * cross_entropy + 0.8 * dice / logits.shape[1]


def draw(classes: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = (2 * torch.randn(2, classes, 3, 5, generator=generator)).requires_grad_()
    return logits, torch.randint(0, classes, (2, 3, 5), generator=generator)


@pytest.mark.parametrize(("classes", "ignore"), [(2, None), (9, None), (4, 4), (4, 255)])
def test_value_and_gradient_are_those_of_the_formula(classes: int, ignore: int | None) -> None:
    logits, target = draw(classes)
    if ignore is not None:
        target[0, :2] = ignore
    own = segmentation_loss(logits, target, ignore=ignore, **WEIGHTS)
    plain = plain_loss(logits, target, ignore)
    assert own.item() == pytest.approx(plain.item(), abs=1e-6)
    gradients = [torch.autograd.grad(value, logits, retain_graph=True)[0] for value in (own, plain)]
    assert torch.allclose(*gradients, atol=1e-6)


def test_a_class_that_is_neither_there_nor_predicted_counts_as_right() -> None:
    logits = torch.tensor([50.0, -50.0, -50.0]).view(1, 3, 1, 1).expand(1, 3, 4, 4)
    loss = segmentation_loss(logits, torch.zeros(1, 4, 4, dtype=torch.long), **WEIGHTS)
    assert loss.item() == pytest.approx(0, abs=1e-6)


def test_ignored_pixels_have_no_influence() -> None:
    logits, target = draw(3)
    target[:, 1] = 3
    before = segmentation_loss(logits, target, ignore=3, **WEIGHTS)
    (gradient,) = torch.autograd.grad(before, logits)
    assert not gradient[:, :, 1].any()
    assert gradient[:, :, 0].any()
    changed = logits.detach().clone()
    changed[:, :, 1] = 7 * torch.randn(2, 3, 5)
    assert segmentation_loss(changed, target, ignore=3, **WEIGHTS).item() == before.item()


def test_nothing_known_costs_nothing() -> None:
    logits, _ = draw(3)
    loss = segmentation_loss(logits, torch.full((2, 3, 5), 3), ignore=3, **WEIGHTS)
    assert loss.item() == 0
    loss.backward()
    assert logits.grad is not None
    assert not logits.grad.any()


def test_large_logits_stay_finite() -> None:
    logits = torch.tensor([1e4, -1e4]).view(1, 2, 1, 1).expand(1, 2, 2, 2)
    assert math.isfinite(
        segmentation_loss(logits, torch.ones(1, 2, 2, dtype=torch.long), **WEIGHTS).item()
    )


def plain_region_loss(logits: Tensor, target: Tensor, ignore: int | None) -> Tensor:
    """0.2 binary cross-entropy + 0.8 Dice, pixel by pixel and region by region."""
    cross_entropies, dice = [], torch.zeros(())
    for k in range(logits.shape[1]):
        overlap, predicted, expected = torch.zeros(()), torch.zeros(()), 0.0
        for value, label in zip(
            logits[:, k].flatten(), target[:, k].flatten().tolist(), strict=True
        ):
            if label != ignore:
                probability = 1 / (1 + (-value).exp())
                cross_entropies.append(-(probability if label else 1 - probability).log())
                overlap = overlap + probability * label
                predicted = predicted + probability**2
                expected += label
        dice = dice + 1 - (2 * overlap + 1e-5) / (predicted + expected + 1e-5)
    return 0.2 * torch.stack(cross_entropies).mean() + 0.8 * dice / logits.shape[1]


@pytest.mark.parametrize("ignore", [None, 4])
def test_regions_may_overlap_and_each_counts_alike(ignore: int | None) -> None:
    logits, _ = draw(3)
    target = torch.randint(
        0, 2, logits.shape, generator=torch.Generator().manual_seed(1), dtype=torch.int32
    )
    if ignore is not None:
        target[0, :, :2] = ignore
    own = segmentation_loss(logits, target, ignore=ignore, **WEIGHTS)
    plain = plain_region_loss(logits, target, ignore)
    assert own.item() == pytest.approx(plain.item(), abs=1e-6)
    own_gradient, plain_gradient = (
        torch.autograd.grad(value, logits, retain_graph=True)[0] for value in (own, plain)
    )
    assert torch.allclose(own_gradient, plain_gradient, atol=1e-6)
    assert bool(own_gradient[0, :, :2].any()) == (ignore is None)


def test_a_single_region_is_a_class_against_background() -> None:
    """AutoSAM's form leaves the background's Dice out, so that nothing else differs."""
    logits, target = draw(2)
    region = (logits[:, 1:] - logits[:, :1]).detach()
    target[0, 0] = 7
    as_classes = segmentation_loss(logits, target, form="autosam", ignore=7, **WEIGHTS)
    as_region = segmentation_loss(
        region, target[:, None].int(), form="autosam", ignore=7, **WEIGHTS
    )
    assert as_region.item() == pytest.approx(as_classes.item(), abs=1e-6)


def test_unknown_regions_cost_nothing() -> None:
    logits, _ = draw(3)
    assert segmentation_loss(logits, torch.full(logits.shape, 4), ignore=4, **WEIGHTS).item() == 0
