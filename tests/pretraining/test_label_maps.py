"""Random anatomies and the label maps of their individuals."""

from __future__ import annotations

import functools

import pytest
import torch
from torch import Tensor

from samnet.pretraining.anatomies import (
    BLOB,
    CRESCENT,
    EVERYWHERE,
    MAX_CLASSES,
    PLAIN,
    RING,
    SUPERELLIPSE,
    TUBE,
    Anatomies,
    Shapes,
    draw_anatomies,
)
from samnet.pretraining.draws import Draws
from samnet.pretraining.label_maps import OUTSIDE, LabelMaps, draw_individuals

SIZE = 64
CPU = torch.device("cpu")
COUNT = 40


@functools.cache
def drawn(seed: int = 0) -> tuple[Anatomies, LabelMaps]:
    """Return anatomies, and two individuals of each."""
    draws = Draws([seed], CPU)
    anatomies = draw_anatomies(COUNT, draws)
    return anatomies, draw_individuals(anatomies, 2, SIZE, draws)


def disc(radius: float, **changes: object) -> Shapes:
    shape = Shapes(torch.zeros(1, 20))
    values = {
        "outline": SUPERELLIPSE,
        "radii": radius,
        "power": 2.0,
        "thickness": 0.3,
        "label": 1,
        "inside": EVERYWHERE,
    }
    for name, value in (values | changes).items():
        getattr(shape, name)[:] = torch.as_tensor(value, dtype=torch.float32)
    return shape


def alone(*shapes: Shapes) -> Tensor:
    """Return the classes of an individual of these shapes only, without variation."""
    anatomies = Anatomies(
        tissue_kind=torch.tensor([PLAIN]),
        num_tissues=torch.tensor([1]),
        shapes=Shapes(torch.cat([shape.table for shape in shapes])),
        owner=torch.zeros(len(shapes), dtype=torch.int64),
        num_classes=torch.tensor([MAX_CLASSES]),
        variation=torch.zeros(1),
    )
    for seed in range(50):  # until the field of view is not limited
        labels = draw_individuals(anatomies, 1, SIZE, Draws([seed], CPU))
        if (labels.classes != OUTSIDE).all():
            return labels.classes[0]
    raise AssertionError


def test_label_maps_have_valid_classes_and_regions() -> None:
    anatomies, labels = drawn()
    assert labels.classes.shape == labels.regions.shape == (2 * COUNT, SIZE, SIZE)
    assert int(anatomies.num_classes.max()) <= MAX_CLASSES
    assert int(labels.classes.min()) >= OUTSIDE
    largest = labels.classes.flatten(1).amax(1)
    assert (largest < anatomies.num_classes.repeat_interleave(2)).all()
    assert ((labels.classes == OUTSIDE) == (labels.regions == OUTSIDE)).all()


def test_label_map_region_has_one_class() -> None:
    _, labels = drawn()
    for classes, regions in zip(labels.classes, labels.regions, strict=True):
        for region in regions.unique():
            assert len(classes[regions == region].unique()) == 1


def test_individuals_of_one_anatomy_are_similar_but_not_equal() -> None:
    classes = drawn()[1].classes.unflatten(0, (COUNT, 2))
    first, second = classes[:, 0], classes[:, 1]
    assert (first != second).flatten(1).any(1).all()
    same_anatomy = (first == second).float().mean()
    other_anatomy = (first == second.roll(1, 0)).float().mean()
    assert same_anatomy > other_anatomy + 0.2


def test_label_maps_are_reproducible_by_their_seed() -> None:
    first = drawn()[1].regions
    drawn.cache_clear()
    assert (drawn()[1].regions == first).all()
    assert (drawn(1)[1].regions != first).any()


def test_label_maps_hold_structures_of_very_different_sizes() -> None:
    shares = []
    for regions in drawn()[1].regions:
        shares.append(regions.unique(return_counts=True)[1] / SIZE**2)
    sizes = torch.cat(shares)
    assert sizes.min() < 0.005
    assert sizes.max() > 0.5


def test_anatomies_have_all_kinds_of_tissues_and_outlines() -> None:
    anatomies, _ = drawn()
    assert len(anatomies.tissue_kind.unique()) == 3
    assert len(anatomies.shapes.outline.unique()) == 5
    is_plain = anatomies.tissue_kind == PLAIN
    assert (anatomies.num_tissues[is_plain] == 1).all()
    assert (anatomies.num_tissues[~is_plain] > 1).all()


def test_shapes_come_in_crowds_in_pairs_and_within_others() -> None:
    anatomies, _ = drawn()
    shapes, owner = anatomies.shapes, anatomies.owner
    assert torch.bincount(owner).max() > 10
    assert (shapes.inside != EVERYWHERE).any()
    mirrored = shapes.centre[1:] == shapes.centre[:-1] * torch.tensor([1.0, -1.0])
    assert (mirrored.all(1) & (shapes.label[1:] == shapes.label[:-1])).any()


def test_shape_disc_has_its_area() -> None:
    expected = torch.pi * 0.25 / 4
    assert (alone(disc(0.5)) == 1).float().mean() == pytest.approx(expected, rel=0.03)


def test_shape_of_high_power_is_nearly_a_square() -> None:
    assert (alone(disc(0.5, power=20.0)) == 1).float().mean() == pytest.approx(0.25, rel=0.07)


def test_shape_ring_and_crescent_are_hollow() -> None:
    ring = alone(disc(0.6, outline=RING))
    assert ring[SIZE // 2, SIZE // 2] == 0
    expected = torch.pi * 0.36 * (1 - 0.7**2) / 4
    assert (ring == 1).float().mean() == pytest.approx(expected, rel=0.05)
    crescent = alone(disc(0.6, outline=CRESCENT))
    assert crescent[SIZE // 2 + 6, SIZE // 2 + 6] == 0
    assert crescent[SIZE // 2 - 12, SIZE // 2 - 3] == 1


def test_shape_tube_is_long_and_thin() -> None:
    tube = alone(disc(0.5, outline=TUBE)) == 1
    assert tube.any(1).sum() == pytest.approx(1.4 * SIZE / 2, abs=3)
    assert tube.any(0).sum() == pytest.approx(0.33 * SIZE / 2, abs=2)


def test_shape_blob_has_a_ragged_edge() -> None:
    blob, smooth = alone(disc(0.6, outline=BLOB)), alone(disc(0.6 * 0.85))
    assert (blob != smooth).float().mean() > 0.01
    assert (blob == 1).float().mean() == pytest.approx(float(smooth.float().mean()), rel=0.4)


def test_shape_turns_by_its_angle() -> None:
    bar = {"radii": [0.8, 0.1]}
    assert alone(disc(1, **bar))[8:-8, SIZE // 2].all()
    assert alone(disc(1, angle=torch.pi / 2, **bar))[SIZE // 2, 8:-8].all()


def test_shape_inside_another_stays_in_it() -> None:
    inner = disc(0.4, label=2, centre=[0.5, 0.0], inside=1)
    both, whole = alone(disc(0.5), inner), alone(disc(0.5))
    assert (both == 2).any()
    assert ((both > 0) == (whole > 0)).all()


def test_shapes_cover_earlier_ones() -> None:
    assert alone(disc(0.5), disc(0.2, label=2))[SIZE // 2, SIZE // 2] == 2
    assert alone(disc(0.2, label=2), disc(0.5))[SIZE // 2, SIZE // 2] == 1
