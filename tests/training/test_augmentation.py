from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import ndimage

from samnet.dataset.label_scheme import Regions
from samnet.preprocessing.slice_frame import SliceFrame, frame_slice
from samnet.training import augmentation
from samnet.training.augmentation import (
    MAX_BEND,
    ONE_HOT_LIMIT,
    Placement,
    bend,
    change_intensities,
    draw_matrix,
    place_image,
    place_labels,
    place_regions,
    plain_matrix,
)

INPUT = 32


def smooth_slice(size: tuple[int, int], channels: int = 2) -> torch.Tensor:
    noise = np.random.default_rng(0).normal(size=(channels, *size))
    return torch.from_numpy(ndimage.gaussian_filter(noise, (0, 2, 2)).astype(np.float32) * 4 + 1)


def tile(frame: SliceFrame, corner: tuple[int, int]) -> Placement:
    """The placement of the input whose first pixel is at `corner` of the canvas."""
    rows, columns = (
        (corner[axis] + INPUT / 2 - frame.offset(axis)) / frame.scale[axis] for axis in (0, 1)
    )
    return Placement((rows, columns), plain_matrix(frame.scale))


@pytest.mark.parametrize(
    ("size", "spacing", "zoom", "corner", "tolerance"),
    [
        ((20, 24), (1.0, 1.0), 1.0, (0, 0), 1e-4),
        ((7, 8), (1.0, 1.0), 4.0, (0, 0), 1e-4),
        ((10, 20), (2.0, 1.0), 1.5, (0, 0), 1e-4),
        ((34, 20), (1.0, 1.0), 1.0, (0, 0), 0.05),
        ((64, 48), (1.0, 1.0), 0.5, (0, 0), 0.05),
        ((50, 60), (1.0, 1.0), 1.0, (16, 32), 1e-4),
        ((25, 30), (1.0, 1.0), 2.0, (32, 16), 1e-4),
    ],
    ids=["fits", "enlarged", "anisotropic", "squeezed", "shrunk", "tiled", "tiled, enlarged"],
)
def test_training_sees_what_prediction_sees(
    size: tuple[int, int],
    spacing: tuple[float, float],
    zoom: float,
    corner: tuple[int, int],
    tolerance: float,
) -> None:
    """To the last pixel before the edge, and nothing beyond it."""
    image = smooth_slice(size)
    frame = frame_slice(size, spacing, 1.0, zoom, INPUT)
    window = (..., slice(corner[0], corner[0] + INPUT), slice(corner[1], corner[1] + INPUT))
    expected = frame.to_canvas(image)[window]
    placed = place_image(image, tile(frame, corner), INPUT)
    assert placed.shape == expected.shape == (2, INPUT, INPUT)
    assert torch.equal(placed == 0, expected == 0)
    assert (placed - expected).abs().max() < tolerance


@pytest.mark.parametrize("stride", [1, 2, 4])
@pytest.mark.parametrize("flip", [(), (0,), (1,), (0, 1)])
@pytest.mark.parametrize("bend_seed", [None, 7])
def test_image_and_target_lie_on_each_other(
    stride: int, flip: tuple[int, ...], bend_seed: int | None
) -> None:
    labels = np.zeros((40, 36), dtype=np.uint8)
    labels[8:30, 10:16] = labels[24:30, 10:28] = (
        1  # an L, which no mirror or rotation maps onto itself
    )
    generator = np.random.default_rng(stride)
    for _ in range(20):
        matrix = draw_matrix(generator, (1.0, 1.2), (False, False))
        matrix[:, flip] *= -1
        centre = (18 + generator.uniform(-4, 4), 18 + generator.uniform(-4, 4))
        placement = Placement(centre, matrix, bend_seed)
        image = place_image(torch.from_numpy(labels.astype(np.float32))[None], placement, INPUT)
        shown = torch.nn.functional.avg_pool2d(image, stride)[0].numpy() > 0.5
        target = place_labels(labels, placement, INPUT, stride).numpy() == 1
        assert target.any()
        assert (ndimage.binary_dilation(shown) >= target).all()
        assert (ndimage.binary_dilation(target) >= shown).all()


def test_mirrors_are_drawn_for_the_allowed_axes_alone() -> None:
    generator = np.random.default_rng(0)
    for mirrored in [(False, False), (True, False), (False, True), (True, True)]:
        matrices = [draw_matrix(generator, (2.0, 2.0), mirrored) for _ in range(100)]
        signs = {tuple(np.sign(matrix.diagonal()).astype(int)) for matrix in matrices}
        assert signs == {
            (row, column)
            for row in (1, -1)[: 1 + mirrored[0]]
            for column in (1, -1)[: 1 + mirrored[1]]
        }


def test_a_drawn_matrix_stays_near_the_planned_scale() -> None:
    generator = np.random.default_rng(0)
    matrices = [draw_matrix(generator, (2.0, 4.0), (True, True)) for _ in range(300)]
    areas = [abs(np.linalg.det(matrix)) * 2 * 4 for matrix in matrices]
    assert 1 / 1.8 < min(areas) < 0.8 < 1.25 < max(areas) < 1.8
    assert any(np.allclose(np.abs(matrix), np.diag([0.5, 0.25])) for matrix in matrices)


def test_a_bend_is_smooth_and_folds_nothing() -> None:
    for seed in range(100):
        displacement = bend(seed, 200, 50)  # at every fourth pixel
        assert displacement.abs().max() < 5 * MAX_BEND * 200
        rows, columns = displacement.diff(dim=1) / 4, displacement.diff(dim=2) / 4
        area = (1 + rows[0, :, :-1]) * (1 + columns[1, :-1]) - rows[1, :, :-1] * columns[0, :-1]
        assert area.min() > 0
        coarse = bend(seed, 200, 25)  # the same field, for a head of half the resolution
        assert (torch.nn.functional.avg_pool2d(displacement, 2) - coarse).abs().max() < 0.3


@pytest.mark.parametrize("count", [3, ONE_HOT_LIMIT + 20])
def test_labels_keep_their_values(count: int) -> None:
    """Also many, and also the ignore label: any value is only moved."""
    labels = np.zeros((INPUT, INPUT), dtype=np.uint16)
    labels[4:-4, 4:-4] = (
        np.linspace(1, 300, count).astype(np.uint16)[np.arange(24 * 24) % count].reshape(24, 24)
    )
    placed = place_labels(labels, Placement((16, 16), plain_matrix((1, 1))), INPUT, 1)
    assert placed.dtype == torch.int64
    assert np.array_equal(placed.numpy(), labels)


def test_beyond_the_slice_is_background() -> None:
    labels = np.full((8, 8), 2, dtype=np.uint8)
    target = place_labels(labels, Placement((4, 4), plain_matrix((1, 1))), INPUT, 1).numpy()
    assert (target[12:20, 12:20] == 2).all()
    assert target.sum() == 2 * 64
    assert not place_labels(0 * labels, Placement((4, 4), plain_matrix((1, 1))), INPUT, 2).any()


def test_intensities_change_but_stay_from_0_to_1() -> None:
    image = np.clip(smooth_slice((INPUT, INPUT), 3).numpy() / 4, 0, 1)
    changed = [change_intensities(image.copy(), np.random.default_rng(seed)) for seed in range(60)]
    assert all(one.dtype == np.float32 and one.shape == image.shape for one in changed)
    assert all(one.min() >= 0 and one.max() <= 1 for one in changed)
    differences = np.array([np.abs(one - image).max() for one in changed])
    assert 5 < (differences == 0).sum() < 40
    assert np.median(differences[differences > 0]) > 0.02


def test_grey_values_move_alike_everywhere_and_sensitivity_does_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    flat = (
        np.repeat([0.0, 0.3, 0.3, 1.0], INPUT // 4)
        .astype(np.float32)[None, None]
        .repeat(INPUT, axis=1)
    )
    monkeypatch.setattr(augmentation, "CURVE_SHARE", 1.0)
    monkeypatch.setattr(augmentation, "UNEVEN_SHARE", 0.0)
    monkeypatch.setattr(augmentation, "OTHER_SHARES", (0.0,) * 6)
    curved = [change_intensities(flat, np.random.default_rng(seed)) for seed in range(20)]
    assert all(
        len(np.unique(image)) <= 3 and image.min() >= 0 and image.max() <= 1 for image in curved
    )
    assert np.std([image[0, 0, INPUT // 2] for image in curved]) > 0.05
    monkeypatch.setattr(augmentation, "CURVE_SHARE", 0.0)
    monkeypatch.setattr(augmentation, "UNEVEN_SHARE", 1.0)
    uneven = [change_intensities(flat, np.random.default_rng(seed)) for seed in range(20)]
    assert all((image[flat == 0] == 0).all() and image.max() <= 1 for image in uneven)
    assert max(image[flat == np.float32(0.3)].std() for image in uneven) > 0.02


def test_noise_can_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its strength is a standard deviation, which batchgenerators calls a variance."""
    grey = np.full((3, INPUT, INPUT), 0.5, dtype=np.float32)
    monkeypatch.setattr(augmentation, "UNEVEN_SHARE", 0.0)
    spread = [
        change_intensities(grey.copy(), np.random.default_rng(seed)).std() for seed in range(100)
    ]
    assert 0.015 < max(spread) < 0.05
    assert not math.isnan(sum(spread))


TURNED = np.array([[0.8, 0.3], [-0.25, 0.7]])


def nested_labels() -> np.ndarray:
    """A thin rim of 1 around 2, with 3 in its middle, `(H, W)`."""
    rows, columns = np.ogrid[:32, :32]
    distance = np.hypot(rows - 15.5, columns - 15.5)
    return np.select([distance < 3, distance < 7, distance < 8.5], [3, 2, 1], 0).astype(np.uint8)


@pytest.mark.parametrize("stride", [1, 2, 4])
def test_a_region_is_placed_as_if_it_were_a_class_of_its_own(stride: int) -> None:
    labels, placement = nested_labels(), Placement((15, 17), TURNED)
    regions = Regions(((1, 2, 3), (2, 3), (3,)), (1, 2, 3))
    target = place_regions(labels, placement, INPUT, stride, regions, None)
    assert (target.dtype, target.shape) == (torch.int32, (3, INPUT // stride, INPUT // stride))
    for number, values in enumerate(regions.label_sets):
        alone = np.isin(labels, values).astype(np.uint8)
        assert torch.equal(target[number].long(), place_labels(alone, placement, INPUT, stride))
        assert target[number].any()
    assert (target[0] >= target[1]).all()
    assert (target[1] >= target[2]).all()


def test_what_is_not_known_of_regions_is_marked_in_each() -> None:
    labels = nested_labels()
    labels[:, 18:] = 4
    regions = Regions(((1, 2, 3), (2, 3)), (1, 2))
    placement = Placement((15.3, 17.4), plain_matrix((1, 1)))  # no pixel lies half on one side
    target = place_regions(labels, placement, INPUT, 2, regions, 4)
    plain = place_labels(labels, placement, INPUT, 2)
    assert torch.equal(target == 4, (plain == 4).expand(2, -1, -1))
    assert set(target.unique().tolist()) == {0, 1, 4}
    # Half of a pixel is unknown, and half of the rest within the region: what is known decides.
    half = np.array([[4, 4, 1, 1]], dtype=np.uint8).repeat(4, axis=0)
    middle = place_regions(half, Placement((2, 2), np.eye(2)), 2, 2, Regions(((1, 2),), (1,)), 4)
    assert middle.tolist() == [[[1]]]
