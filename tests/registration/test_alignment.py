"""How one scan lies in another."""

from __future__ import annotations

import numpy as np
import pytest
from builders.phantom import make_phantom, overlap

from samnet.registration.alignment import NotAligned, align_affinely, align_elastically
from samnet.registration.scan import Scan

SPACING = (1.0, 1.0, 1.0)


@pytest.mark.parametrize(
    ("changes", "spacing"),
    [
        ({"shift": (2.0, -3.0, 2.0)}, SPACING),
        ({"shift": (0.0, 2.0, 0.0), "stretch": 1.2}, SPACING),
        ({"shape": (24, 36, 34)}, (1.0, 0.8, 0.8)),
        ({"shift": (2.0, -3.0, 2.0)}, (0.001, 0.001, 0.001)),
    ],
    ids=["moved", "larger", "finer voxels", "micrometres"],
)
def test_labels_come_to_where_their_structure_lies(
    changes: dict, spacing: tuple[float, float, float]
) -> None:
    image, labels = make_phantom()
    other, expected = make_phantom(seed=1, **changes)
    unit = 0.001 if spacing[0] < 0.1 else 1.0
    affine = align_affinely(Scan.of(other, spacing), Scan.of(image, (unit, unit, unit)))
    warped = align_elastically(affine).warp(labels)
    assert warped.shape == expected.shape
    assert overlap(warped, expected) > 0.85
    assert affine.similarity > 0.9


def test_elastic_alignment_follows_a_structure_that_moves_by_itself() -> None:
    image, labels = make_phantom(with_structure=False)
    lower, upper = np.roll(labels, 1, axis=2), np.roll(labels, -1, axis=2)
    fixed, moving = (Scan.of(image + 0.5 * part, SPACING) for part in (lower, upper))
    affine = align_affinely(fixed, moving)
    before, after = (found.warp(upper) for found in (affine, align_elastically(affine)))
    assert overlap(after, lower) > overlap(before, lower) + 0.05
    assert overlap(after, lower) > 0.85


def test_2d_images_are_aligned_and_the_same_each_time() -> None:
    image, labels = make_phantom(shape=(1, 60, 50))
    other, expected = make_phantom(shape=(1, 60, 50), shift=(0.0, 4.0, -3.0), seed=1)
    scans = Scan.of(other, SPACING), Scan.of(image, SPACING)
    warped = [align_elastically(align_affinely(*scans)).warp(labels) for _ in range(2)]
    assert overlap(warped[0], expected) > 0.85
    assert np.array_equal(*warped)


def test_labels_keep_their_values() -> None:
    image, labels = make_phantom()
    scan = Scan.of(image, SPACING)
    labels = labels * np.where(np.indices(labels.shape)[0] < 12, 3, 300).astype(np.uint16)
    warped = align_affinely(scan, scan).warp(labels)
    assert set(np.unique(warped)) == {0, 3, 300}


def test_what_cannot_be_aligned_is_said() -> None:
    flat, volume = (
        Scan.of(make_phantom(shape=shape)[0], SPACING) for shape in [(1, 30, 30), (9, 9, 9)]
    )
    with pytest.raises(NotAligned, match="one is a 2D image and the other a volume"):
        align_affinely(flat, volume)


def test_empty_image_is_not_similar_to_any() -> None:
    image, _ = make_phantom()
    try:
        similarity = align_affinely(
            Scan.of(np.zeros_like(image), SPACING), Scan.of(image, SPACING)
        ).similarity
    except NotAligned:
        similarity = -1.0
    assert similarity == -1.0
