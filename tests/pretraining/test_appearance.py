"""The appearance of synthetic images."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from samnet.pretraining.anatomies import draw_anatomy
from samnet.pretraining.appearance import Appearance, draw_appearance, render
from samnet.pretraining.label_maps import OUTSIDE, LabelMap, draw_individual

SIZE = 64
CLEAN = Appearance(
    means=np.array([[0.2] * 3, [0.8] * 3], np.float32),
    texture=np.zeros((2, 4), np.float32),
    layout="grey",
    outline=0.0,
    noise=0.0,
    blur=0.3,
    coarseness=1.0,
    bias=0.0,
    speckle=False,
)


def halves() -> LabelMap:
    """Return a label map with class 0 on the left and class 1 on the right."""
    classes = np.zeros((SIZE, SIZE), np.int8)
    classes[:, SIZE // 2 :] = 1
    return LabelMap(classes, classes.astype(np.int16))


def contrast(image: np.ndarray) -> float:
    """Return the difference of the mean intensities of the two halves, away from their border."""
    left = image[:, :, : SIZE // 2 - 4].mean()
    right = image[:, :, SIZE // 2 + 4 :].mean()
    return abs(float(right - left))


@pytest.mark.parametrize("seed", range(40))
def test_render_gives_finite_images_from_0_to_1(seed: int) -> None:
    generator = np.random.default_rng(seed)
    anatomy = draw_anatomy(generator)
    labels = draw_individual(anatomy, generator, SIZE)
    image = render(labels, draw_appearance(anatomy.num_classes, generator), generator)
    assert image.shape == (3, SIZE, SIZE)
    assert image.dtype == np.float32
    assert np.isfinite(image).all()
    assert image.min() >= 0
    assert image.max() <= 1
    assert (image[:, labels.classes == OUTSIDE] == 0).all()


def test_render_separates_classes_by_their_means() -> None:
    assert contrast(render(halves(), CLEAN, np.random.default_rng(0))) > 0.9


@pytest.mark.parametrize(
    "artefact",
    [
        {"noise": 0.3},
        {"blur": 6.0},
        {"coarseness": 8.0},
        {"bias": 1.0},
        {"outline": 1.0},
        {"speckle": True, "noise": 0.2},
    ],
)
def test_render_keeps_classes_apart_under_each_artefact(
    artefact: dict[str, float],
) -> None:
    changed = replace(CLEAN, **artefact)
    plain = render(halves(), CLEAN, np.random.default_rng(1))
    image = render(halves(), changed, np.random.default_rng(1))
    assert np.abs(image - plain).mean() > 0.003
    assert contrast(image) > 0.15


def test_render_follows_the_channel_layout() -> None:
    grey = render(halves(), CLEAN, np.random.default_rng(2))
    assert (grey[0] == grey[1]).all()
    assert (grey[0] == grey[2]).all()
    neighbours = render(halves(), replace(CLEAN, layout="neighbours"), np.random.default_rng(5))
    assert (neighbours[0] != neighbours[2]).any()
    coloured = replace(
        CLEAN, layout="colour", means=np.array([[0.2, 0.5, 0.1], [0.8, 0.1, 0.9]], np.float32)
    )
    colour = render(halves(), coloured, np.random.default_rng(2))
    assert colour[0].mean() != pytest.approx(colour[1].mean(), abs=0.01)


def test_render_is_reproducible_by_its_seed() -> None:
    images = []
    for _ in range(2):
        generator = np.random.default_rng(3)
        images.append(render(halves(), draw_appearance(2, generator), generator))
    assert (images[0] == images[1]).all()
