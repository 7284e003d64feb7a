"""Taking labels over from several atlases."""

from __future__ import annotations

import numpy as np
import pytest
from builders.phantom import make_phantom, overlap
from scipy import ndimage

from samnet.registration.alignment import NotAligned
from samnet.registration.propagation import Atlas, choose_atlases, propagate_labels
from samnet.registration.scan import Scan

SPACING = (1.0, 1.0, 1.0)


def atlas(made: tuple[np.ndarray, np.ndarray], factor: int = 1) -> Atlas:
    return Atlas(Scan.of(made[0], SPACING), made[1] * np.uint8(factor))


def test_most_atlases_decide() -> None:
    image, expected = make_phantom(seed=9)
    right = [atlas(make_phantom(seed=seed)) for seed in range(2)]
    wrong = atlas(make_phantom(seed=2), factor=0)
    for order in ([wrong, *right], [*right, wrong]):
        assert overlap(propagate_labels(order, Scan.of(image, SPACING)).labels, expected) > 0.9


def test_of_two_the_first_one_decides() -> None:
    image, expected = make_phantom()
    right, wrong = atlas(make_phantom(seed=1)), atlas(make_phantom(seed=2), factor=0)
    scan = Scan.of(image, SPACING)
    assert overlap(propagate_labels([right, wrong], scan).labels, expected) > 0.9
    assert not propagate_labels([wrong, right], scan).labels.any()


def test_atlases_that_are_most_alike_near_the_structures_are_chosen() -> None:
    image, labels = make_phantom()
    noise = np.random.default_rng(0).random(image.shape, np.float32)
    near = ndimage.binary_dilation(labels, iterations=3)
    spoilt = [np.where(near == place, noise, image).astype(np.float32) for place in (True, False)]
    others = [atlas((made, labels)) for made in spoilt]  # noise near the structure, or elsewhere
    alike = [atlas(make_phantom(seed=seed)) for seed in (1, 2)]
    choice = choose_atlases([others[0], alike[0], others[1], alike[1]], Scan.of(image, SPACING))
    assert set(choice.indices) == {1, 2, 3}
    assert choice.similarity > 0.8


def test_atlas_that_cannot_be_aligned_leaves_it_to_the_others() -> None:
    image, expected = make_phantom(seed=1)
    flat = atlas(make_phantom(shape=(1, 30, 28)))
    scan, order = Scan.of(image, SPACING), [flat, atlas(make_phantom())]
    assert overlap(propagate_labels(order, scan).labels, expected) > 0.9
    assert choose_atlases(order, scan).indices == (1,)
    for function in (propagate_labels, choose_atlases):
        with pytest.raises(NotAligned, match="2D image"):
            function([flat], scan)
        with pytest.raises(NotAligned, match="no labelled scan"):
            function([], scan)


def test_similarity_is_the_mean_of_the_atlases() -> None:
    scan = Scan.of(make_phantom()[0], SPACING)
    alike, other = atlas(make_phantom(seed=1)), atlas(make_phantom(seed=1, with_structure=False))
    for measure in (propagate_labels, choose_atlases):
        one, two, both = (
            measure(order, scan).similarity for order in ([alike], [other], [alike, other])
        )
        assert one > 0.9 > two
        assert both == pytest.approx((one + two) / 2)
