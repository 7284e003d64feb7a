"""Taking labels over from several atlases."""

from __future__ import annotations

import numpy as np
import pytest
from builders.phantom import make_phantom, overlap

from samnet.registration.alignment import NotAligned
from samnet.registration.propagation import Atlas, propagate_labels
from samnet.registration.scan import Scan

SPACING = (1.0, 1.0, 1.0)


def atlas(made: tuple[np.ndarray, np.ndarray], factor: int = 1) -> Atlas:
    return Atlas(Scan.of(made[0], SPACING), made[1] * np.uint8(factor))


def test_most_atlases_decide() -> None:
    image, expected = make_phantom(seed=9)
    right = [atlas(make_phantom(seed=seed)) for seed in range(2)]
    wrong = atlas(make_phantom(seed=2), factor=0)
    for order in ([wrong, *right], [*right, wrong]):
        assert overlap(propagate_labels(order, Scan.of(image, SPACING)), expected) > 0.9


def test_of_two_the_more_similar_one_decides() -> None:
    image, expected = make_phantom()
    alike = atlas(make_phantom(seed=1))
    noise = np.random.default_rng(0).random(image.shape, np.float32)
    other = atlas((0.7 * image + 0.3 * noise, make_phantom()[1]), factor=0)
    for order in ([alike, other], [other, alike]):
        assert overlap(propagate_labels(order, Scan.of(image, SPACING)), expected) > 0.9


def test_atlas_that_cannot_be_aligned_leaves_it_to_the_others() -> None:
    image, expected = make_phantom(seed=1)
    flat = atlas(make_phantom(shape=(1, 30, 28)))
    scan = Scan.of(image, SPACING)
    assert overlap(propagate_labels([flat, atlas(make_phantom())], scan), expected) > 0.9
    with pytest.raises(NotAligned, match="2D image"):
        propagate_labels([flat], scan)
    with pytest.raises(NotAligned, match="no labelled scan"):
        propagate_labels([], scan)
