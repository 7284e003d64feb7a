"""Random anatomies and the label maps of their individuals."""

from __future__ import annotations

import numpy as np
import pytest

from samnet.pretraining.anatomies import MAX_CLASSES, Anatomy, Shape, draw_anatomy
from samnet.pretraining.label_maps import OUTSIDE, LabelMap, draw_individual

SIZE = 64


def draw(seed: int, num_individuals: int = 2) -> tuple[Anatomy, list[LabelMap]]:
    generator = np.random.default_rng(seed)
    anatomy = draw_anatomy(generator)
    return anatomy, [draw_individual(anatomy, generator, SIZE) for _ in range(num_individuals)]


def disc(radius: float, **changes: object) -> Shape:
    values = {
        "outline": "superellipse",
        "centre": (0.0, 0.0),
        "radii": (radius, radius),
        "angle": 0.0,
        "power": 2.0,
        "thickness": 0.3,
        "wobble": ((2, 0.0, 0.0),),
        "label": 1,
    }
    return Shape(**(values | changes))  # type: ignore[arg-type]


def alone(*shapes: Shape) -> LabelMap:
    """Return an individual of these shapes only, without variation."""
    num_classes = 1 + max(shape.label for shape in shapes)
    anatomy = Anatomy(np.zeros((1, 1), np.int8), shapes, num_classes, variation=0.0)
    for seed in range(50):  # until the field of view is not limited
        labels = draw_individual(anatomy, np.random.default_rng(seed), SIZE)
        if (labels.classes != OUTSIDE).all():
            return labels
    raise AssertionError


@pytest.mark.parametrize("seed", range(40))
def test_label_map_has_valid_classes_and_regions(seed: int) -> None:
    anatomy, individuals = draw(seed)
    assert anatomy.num_classes <= MAX_CLASSES
    for labels in individuals:
        assert labels.classes.shape == labels.regions.shape == (SIZE, SIZE)
        assert labels.classes.min() >= OUTSIDE
        assert labels.classes.max() < anatomy.num_classes
        assert ((labels.classes == OUTSIDE) == (labels.regions == OUTSIDE)).all()


@pytest.mark.parametrize("seed", range(10))
def test_label_map_region_has_one_class(seed: int) -> None:
    _, individuals = draw(seed)
    for labels in individuals:
        for region in np.unique(labels.regions):
            assert len(np.unique(labels.classes[labels.regions == region])) == 1


def test_individuals_of_one_anatomy_are_similar_but_not_equal() -> None:
    same_anatomy, other_anatomy = [], []
    for seed in range(30):
        _, (first, second) = draw(seed)
        _, (stranger,) = draw(seed + 1000, 1)
        same_anatomy.append((first.classes == second.classes).mean())
        other_anatomy.append((first.classes == stranger.classes).mean())
        assert (first.classes != second.classes).any()
    assert np.mean(same_anatomy) > np.mean(other_anatomy) + 0.2


def test_label_maps_are_reproducible_by_their_seed() -> None:
    first, second = draw(7)[1], draw(7)[1]
    assert all((one.regions == two.regions).all() for one, two in zip(first, second, strict=True))


def test_label_maps_hold_structures_of_very_different_sizes() -> None:
    shares = []
    for seed in range(60):
        _, individuals = draw(seed, 1)
        _, counts = np.unique(individuals[0].regions, return_counts=True)
        shares.extend(counts / SIZE**2)
    assert min(shares) < 0.005
    assert max(shares) > 0.5


def test_shape_disc_has_its_area() -> None:
    labels = alone(disc(0.5))
    assert (labels.classes == 1).mean() == pytest.approx(np.pi * 0.25 / 4, rel=0.03)


def test_shape_ring_is_hollow() -> None:
    labels = alone(disc(0.6, outline="ring"))
    assert labels.classes[SIZE // 2, SIZE // 2] == 0
    assert (labels.classes == 1).any()


def test_shape_inside_another_stays_in_it() -> None:
    inner = disc(0.4, label=2, centre=(0.5, 0.0), inside=1)
    labels = alone(disc(0.5), inner)
    whole = alone(disc(0.5))
    assert (labels.classes == 2).any()
    assert ((labels.classes > 0) == (whole.classes > 0)).all()


def test_shapes_cover_earlier_ones() -> None:
    labels = alone(disc(0.5), disc(0.2, label=2))
    assert labels.classes[SIZE // 2, SIZE // 2] == 2
