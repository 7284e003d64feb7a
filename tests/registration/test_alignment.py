"""How one scan lies in another."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK
from builders.phantom import make_phantom, overlap

from samnet.registration.alignment import (
    Alignment,
    NotAligned,
    align_affinely,
    align_elastically,
)
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


@pytest.mark.parametrize(
    ("shape", "spacing", "value"),
    [
        ((24, 30, 28), SPACING, 1),
        ((1, 60, 50), SPACING, 3),
        ((24, 120, 112), (2.0, 0.5, 0.5), 300),  # registered on a coarser grid
    ],
    ids=["volume", "2D", "fine voxels"],
)
def test_labels_are_resampled_near_structures_alone_with_the_same_result(
    shape: tuple[int, int, int], spacing: tuple[float, float, float], value: int
) -> None:
    image, labels = make_phantom(shape=shape)
    other, _ = make_phantom(shape=shape, shift=(0.0, 1.0, -1.0), seed=1)
    labels = labels.astype(np.uint16) * value
    labels[0, -3, -4] = value  # a single voxel, far away
    found = align_elastically(align_affinely(Scan.of(other, spacing), Scan.of(image, spacing)))
    everywhere = SimpleITK.Resample(
        found.moving.image_of(labels),
        found.fixed.empty(),
        found.transform,
        SimpleITK.sitkLabelGaussian,
    )
    warped = found.warp(labels)
    assert warped.dtype == np.uint16
    assert np.array_equal(warped, SimpleITK.GetArrayFromImage(everywhere).reshape(shape))
    assert warped.any()
    assert not found.warp(np.zeros_like(labels)).any()


def test_labels_that_leave_the_image_are_gone() -> None:
    image, labels = make_phantom()
    scan = Scan.of(image, SPACING)
    away = Alignment(scan, scan, SimpleITK.TranslationTransform(3, (500.0, 0.0, 0.0)), 1.0)
    assert not away.warp(labels).any()


def test_similarity_is_that_near_the_structures() -> None:
    image, labels = make_phantom()
    far = np.zeros_like(labels)
    far[:, :4, :4] = 1
    for place, is_near in ((labels, True), (far, False)):
        spoilt = np.where(place > 0, np.random.default_rng(0).random(image.shape), image)
        found = align_affinely(Scan.of(image, SPACING), Scan.of(spoilt.astype(np.float32), SPACING))
        assert (found.similarity_near(labels) < 0.8) == is_near
    whole = found.similarity_near(np.zeros_like(labels))
    assert whole == pytest.approx(found.similarity)


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
