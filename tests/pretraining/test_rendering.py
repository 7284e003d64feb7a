"""The appearance of synthetic images."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from samnet.pretraining.anatomies import MAX_CLASSES, draw_anatomies
from samnet.pretraining.appearance import (
    COLOUR,
    GREY,
    NEIGHBOURS,
    Appearances,
    draw_appearances,
)
from samnet.pretraining.draws import Draws
from samnet.pretraining.label_maps import OUTSIDE, LabelMaps, draw_individuals
from samnet.pretraining.rendering import render

SIZE = 64
CPU = torch.device("cpu")


def halves(count: int) -> LabelMaps:
    """Return label maps with class 0 on the left and class 1 on the right."""
    classes = torch.zeros(count, SIZE, SIZE, dtype=torch.int8)
    classes[..., SIZE // 2 :] = 1
    return LabelMaps(classes, classes.short(), torch.zeros(count, 2, dtype=torch.int64))


def clean(count: int) -> Appearances:
    means = torch.zeros(count, MAX_CLASSES, 3)
    means[:, 0], means[:, 1] = 0.2, 0.8
    zeros = torch.zeros(count)
    return Appearances(
        means=means,
        texture=torch.zeros(count, MAX_CLASSES, 4),
        layout=torch.full((count,), GREY),
        outline=zeros,
        noise=zeros,
        blur=zeros + 0.3,
        bias=zeros,
        speckle=zeros > 0,
    )


def contrast(images: Tensor) -> Tensor:
    """Return the differences of the mean intensities of the two halves, away from their border."""
    left = images[..., : SIZE // 2 - 4].mean(dim=(1, 2, 3))
    right = images[..., SIZE // 2 + 4 :].mean(dim=(1, 2, 3))
    return (right - left).abs()


def shown(looks: Appearances, seed: int = 0) -> Tensor:
    return render(halves(len(looks.layout)), looks, Draws([seed], CPU))


def test_render_gives_finite_images_from_0_to_1() -> None:
    draws = Draws([0], CPU)
    labels = draw_individuals(draw_anatomies(30, draws), 1, SIZE, draws)
    images = render(labels, draw_appearances(30, draws), draws)
    assert images.shape == (30, 3, SIZE, SIZE)
    assert images.dtype == torch.float32
    assert images.isfinite().all()
    assert images.min() >= 0
    assert images.max() <= 1
    is_outside = (labels.classes == OUTSIDE)[:, None].expand_as(images)
    assert is_outside.any()
    assert (images[is_outside] == 0).all()
    assert (images.flatten(1).std(1) > 0.01).all()


def test_render_separates_classes_by_their_means() -> None:
    assert (contrast(shown(clean(8))) > 0.9).all()


@pytest.mark.parametrize(
    "artefact",
    [
        {"noise": 0.3},
        {"blur": 6.0},
        {"bias": 1.0},
        {"outline": 1.0},
        {"speckle": True, "noise": 0.2},
        {"texture": 0.1},
    ],
)
def test_render_keeps_classes_apart_under_each_artefact(artefact: dict[str, float]) -> None:
    plain = clean(8)
    values = {
        name: torch.full_like(getattr(plain, name), value) for name, value in artefact.items()
    }
    images = shown(replace(plain, **values))
    assert (images - shown(plain)).abs().mean() > 0.003
    assert (contrast(images) > 0.15).all()


def test_render_draws_scans_of_several_resolutions() -> None:
    """White noise that is enlarged differs less from pixel to pixel."""
    looks = replace(clean(16), noise=torch.full((16,), 0.3))
    left = shown(looks)[:, 0, :, : SIZE // 2 - 4]
    roughness = left.diff(dim=2).std(dim=(1, 2)) / left.std(dim=(1, 2))
    assert roughness.max() > 1.2
    assert roughness.min() < 0.9


def test_render_follows_the_channel_layout() -> None:
    grey = shown(clean(4))
    assert (grey == grey[:, :1]).all()
    neighbours = shown(replace(clean(4), layout=torch.full((4,), NEIGHBOURS)))
    assert (neighbours[:, 0] != neighbours[:, 2]).flatten(1).any(1).all()
    coloured = replace(clean(4), layout=torch.full((4,), COLOUR))
    coloured.means[:, 0] = torch.tensor([0.2, 0.5, 0.1])
    coloured.means[:, 1] = torch.tensor([0.8, 0.1, 0.9])
    colour = shown(coloured).mean(dim=(2, 3))
    assert ((colour[:, 0] - colour[:, 1]).abs() > 0.01).all()


def test_render_finds_the_window_within_the_field_of_view() -> None:
    """Noise fills the range of intensities, although something much darker lies outside."""
    looks = replace(clean(4), noise=torch.full((4,), 0.1))
    looks.means[:, 0] = -100.0
    classes = torch.ones(4, SIZE, SIZE, dtype=torch.int8)
    classes[..., :4] = classes[..., -4:] = 0
    middle = slice(SIZE // 2 - 8, SIZE // 2 + 8)
    for margin, is_wide in ((SIZE // 4, True), (0, False)):
        labels = LabelMaps(classes, classes.short(), torch.tensor([[0, margin]] * 4))
        images = render(labels, looks, Draws([0], CPU))
        assert ((images[..., middle].flatten(1).std(1) > 0.1) == is_wide).all()


def test_render_is_reproducible_by_its_seed() -> None:
    looks = draw_appearances(8, Draws([3], CPU))
    assert (shown(looks) == shown(looks)).all()
    assert (shown(looks) != shown(looks, seed=1)).any()


def test_appearances_spread_with_their_factor() -> None:
    narrow, wide = (draw_appearances(50, Draws([3], CPU), spread) for spread in (1.0, 3.0))
    torch.testing.assert_close(wide.noise, 3 * narrow.noise)
    assert wide.blur.mean() > 2 * narrow.blur.mean()
