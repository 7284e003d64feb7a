from __future__ import annotations

import itertools
import json
import math
from pathlib import Path

import pytest
import torch
from builders.numerics import DOUBLE, assert_close_to_norm
from torch import Tensor

from samnet.training.loss import segmentation_loss

GOLDEN = Path(__file__).parent / "golden"
WEIGHTS = {"cross_entropy_weight": 0.2, "dice_weight": 0.8}


def plain_loss(logits: Tensor, target: Tensor, ignore: int | None) -> Tensor:
    """Compute 0.2 cross-entropy + 0.8 Dice as the papers write it, pixel by pixel."""
    pixels = []
    for b, y, x in itertools.product(*map(range, target.shape)):
        if int(target[b, y, x]) != ignore:
            pixels.append((logits[b, :, y, x], int(target[b, y, x])))
    total = sum(torch.logsumexp(values, 0) - values[label] for values, label in pixels)
    cross_entropy = total / max(1, len(pixels))
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
    logits = 2 * torch.randn(2, classes, 3, 5, generator=generator, dtype=torch.float64)
    return logits.requires_grad_(), torch.randint(0, classes, (2, 3, 5), generator=generator)


@pytest.mark.parametrize(("classes", "ignore"), [(2, None), (9, None), (4, 4), (4, 255)])
def test_loss_of_classes_and_its_gradient_are_those_of_the_formula(
    classes: int, ignore: int | None
) -> None:
    logits, target = draw(classes)
    if ignore is not None:
        target[0, :2] = ignore
    own = segmentation_loss(logits, target, ignore=ignore, **WEIGHTS)
    plain = plain_loss(logits, target, ignore)
    assert own.item() == pytest.approx(plain.item(), rel=DOUBLE)
    gradients = [torch.autograd.grad(value, logits, retain_graph=True)[0] for value in (own, plain)]
    assert_close_to_norm(*gradients)


def test_loss_is_0_for_a_class_that_is_neither_there_nor_predicted() -> None:
    logits = torch.tensor([50.0, -50.0, -50.0]).view(1, 3, 1, 1).expand(1, 3, 4, 4)
    loss = segmentation_loss(logits, torch.zeros(1, 4, 4, dtype=torch.long), **WEIGHTS)
    assert loss.item() == pytest.approx(0, abs=1e-6)


def test_loss_does_not_depend_on_ignored_pixels() -> None:
    logits, target = draw(3)
    target[:, 1] = 3
    before = segmentation_loss(logits, target, ignore=3, **WEIGHTS)
    (gradient,) = torch.autograd.grad(before, logits)
    assert not gradient[:, :, 1].any()
    assert gradient[:, :, 0].any()
    changed = logits.detach().clone()
    changed[:, :, 1] = 7 * torch.randn(2, 3, 5, dtype=torch.float64)
    assert segmentation_loss(changed, target, ignore=3, **WEIGHTS).item() == before.item()


def test_loss_is_0_where_every_pixel_is_ignored() -> None:
    logits, _ = draw(3)
    loss = segmentation_loss(logits, torch.full((2, 3, 5), 3), ignore=3, **WEIGHTS)
    assert loss.item() == 0
    loss.backward()
    assert logits.grad is not None
    assert not logits.grad.any()


def test_loss_of_large_logits_is_finite() -> None:
    logits = torch.tensor([1e4, -1e4]).view(1, 2, 1, 1).expand(1, 2, 2, 2)
    target = torch.ones(1, 2, 2, dtype=torch.long)
    assert math.isfinite(segmentation_loss(logits, target, **WEIGHTS).item())


def plain_region_loss(logits: Tensor, target: Tensor, ignore: int | None) -> Tensor:
    """Compute 0.2 binary cross-entropy + 0.8 Dice, pixel by pixel and region by region."""
    cross_entropies, dice = [], torch.zeros(())
    for k in range(logits.shape[1]):
        overlap, predicted, expected = torch.zeros(()), torch.zeros(()), 0.0
        labels = target[:, k].flatten().tolist()
        for value, label in zip(logits[:, k].flatten(), labels, strict=True):
            if label != ignore:
                probability = 1 / (1 + (-value).exp())
                cross_entropies.append(-(probability if label else 1 - probability).log())
                overlap = overlap + probability * label
                predicted = predicted + probability**2
                expected += label
        dice = dice + 1 - (2 * overlap + 1e-5) / (predicted + expected + 1e-5)
    return 0.2 * torch.stack(cross_entropies).mean() + 0.8 * dice / logits.shape[1]


@pytest.mark.parametrize("ignore", [None, 4])
def test_loss_of_regions_and_its_gradient_are_those_of_the_formula(ignore: int | None) -> None:
    logits, _ = draw(3)
    generator = torch.Generator().manual_seed(1)
    target = torch.randint(0, 2, logits.shape, generator=generator, dtype=torch.int32)
    if ignore is not None:
        target[0, :, :2] = ignore
    own = segmentation_loss(logits, target, ignore=ignore, **WEIGHTS)
    plain = plain_region_loss(logits, target, ignore)
    assert own.item() == pytest.approx(plain.item(), rel=DOUBLE)
    own_gradient, plain_gradient = (
        torch.autograd.grad(value, logits, retain_graph=True)[0] for value in (own, plain)
    )
    assert_close_to_norm(own_gradient, plain_gradient)
    assert bool(own_gradient[0, :, :2].any()) == (ignore is None)


RELEASED = json.loads((GOLDEN / "autosam_loss.json").read_text(encoding="utf-8"))["cases"]


@pytest.mark.parametrize("figures", RELEASED, ids=lambda figures: figures["case"])
def test_loss_autosam_release_equals_the_figures_of_autosams_code(figures: dict) -> None:
    """The figures were computed in single precision and are written with six digits."""
    logits = torch.tensor(figures["logits"], dtype=torch.float64, requires_grad=True)
    target = torch.tensor(figures["target"])

    def loss(cross_entropy: float, dice: float) -> Tensor:
        return segmentation_loss(
            logits,
            target,
            form="autosam_release",
            cross_entropy_weight=cross_entropy,
            dice_weight=dice,
        )

    assert loss(1, 0).item() == pytest.approx(figures["cross_entropy"], rel=1e-5)
    assert loss(0, 1).item() == pytest.approx(figures["dice"], rel=1e-5)
    assert loss(1, 1).item() == pytest.approx(figures["total"], rel=1e-5)
    (gradient,) = torch.autograd.grad(loss(0, 1), logits)
    expected = torch.tensor(figures["gradient_of_dice"], dtype=torch.float64)
    assert_close_to_norm(gradient, expected, 1e-4)


def test_loss_autosam_release_leaves_out_classes_whose_loss_is_0() -> None:
    """A class without a pixel, in prediction or target, would halve the loss of the other one."""
    logits, target = torch.zeros(1, 3, 4, 4), torch.zeros(1, 4, 4, dtype=torch.long)
    logits[:, 2] = -1e4
    target[0, :2] = 1
    options = {"form": "autosam_release", "cross_entropy_weight": 0, "dice_weight": 1}
    # p is a half everywhere: 8 pixels of class 1 overlap by 4; squares sum to 4 and 8.
    expected = 1 - (2 * 4 + 1) / (4 + 8 + 1)
    assert segmentation_loss(logits, target, **options).item() == pytest.approx(expected)
    certain = 1e4 * torch.nn.functional.one_hot(target, 3).permute(0, 3, 1, 2).float()
    assert segmentation_loss(certain, target, **options).item() == 0


def test_loss_of_a_single_region_is_that_of_a_class_against_background() -> None:
    """AutoSAM's form leaves the background's Dice out, so that nothing else differs."""
    logits, target = draw(2)
    region = (logits[:, 1:] - logits[:, :1]).detach()
    target[0, 0] = 7
    as_classes = segmentation_loss(logits, target, form="autosam", ignore=7, **WEIGHTS)
    as_region = segmentation_loss(
        region, target[:, None].int(), form="autosam", ignore=7, **WEIGHTS
    )
    assert as_region.item() == pytest.approx(as_classes.item(), rel=DOUBLE)


def test_loss_of_regions_is_0_where_every_pixel_is_ignored() -> None:
    logits, _ = draw(3)
    assert segmentation_loss(logits, torch.full(logits.shape, 4), ignore=4, **WEIGHTS).item() == 0


def test_loss_autosam_has_plain_sums_below_and_leaves_out_the_background() -> None:
    logits, target = draw(3)
    options = {"cross_entropy_weight": 0, "dice_weight": 1}
    found = segmentation_loss(logits, target, form="autosam", **options)
    probabilities = logits.softmax(1)
    losses = []
    for label in (1, 2):
        expected = (target == label).double()
        overlap = (probabilities[:, label] * expected).sum()
        sums = probabilities[:, label].sum() + expected.sum()
        losses.append(1 - (2 * overlap + 1e-5) / (sums + 1e-5))
    assert found.item() == pytest.approx(sum(losses).item() / 2, rel=DOUBLE)
    assert found.item() != pytest.approx(segmentation_loss(logits, target, **options).item())


def test_loss_of_a_single_known_pixel_is_that_of_the_pixel() -> None:
    logits, target = draw(3)
    known = target[0, 0, 0].item()
    only_one = torch.full_like(target, 7)
    only_one[0, 0, 0] = known
    options = {"cross_entropy_weight": 1, "dice_weight": 0}
    found = segmentation_loss(logits, only_one, ignore=7, **options)
    expected = -logits[0, :, 0, 0].log_softmax(0)[known]
    assert found.item() == pytest.approx(expected.item(), rel=DOUBLE)
