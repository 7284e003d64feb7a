"""Random draws of placements, and what the values of a plan's `augmentation` stand for."""

from __future__ import annotations

import math

import numpy as np
import pytest

from samnet.training.augmentation import PROFILES, draw_bend_seed, draw_matrix

QUARTERS = [np.linalg.matrix_power(np.array([[0, -1], [1, 0]]), turns) for turns in range(4)]


def test_draw_matrix_mirrors_the_allowed_axes_alone() -> None:
    generator = np.random.default_rng(0)
    for mirrored in [(False, False), (True, False), (False, True), (True, True)]:
        matrices = [draw_matrix(generator, (2.0, 2.0), mirrored) for _ in range(100)]
        signs = {tuple(np.sign(matrix.diagonal()).astype(int)) for matrix in matrices}
        rows, columns = ((1, -1) if may_flip else (1,) for may_flip in mirrored)
        assert signs == {(row, column) for row in rows for column in columns}


def test_draw_matrix_stays_near_the_planned_scale() -> None:
    generator = np.random.default_rng(0)
    matrices = [draw_matrix(generator, (2.0, 4.0), (True, True)) for _ in range(300)]
    areas = [abs(np.linalg.det(matrix)) * 2 * 4 for matrix in matrices]
    assert 1 / 1.8 < min(areas) < 0.8 < 1.25 < max(areas) < 1.8
    assert any(np.allclose(np.abs(matrix), np.diag([0.5, 0.25])) for matrix in matrices)


def parts_of(matrix: np.ndarray) -> tuple[float, float, float, float]:
    """Return the angle in degrees, the logarithms of zoom and stretch, and the shear of a draw.

    The draw is a rotation times [[zoom * stretch, shear], [0, zoom / stretch]].
    """
    angle = math.atan2(matrix[1, 0], matrix[0, 0])
    cosine, sine = math.cos(angle), math.sin(angle)
    [[first, shear], [_, second]] = np.array([[cosine, sine], [-sine, cosine]]) @ matrix
    stretch = math.log(first / second) / 2
    return math.degrees(angle), math.log(first * second) / 2, stretch, shear


def test_draw_matrix_draws_each_change_as_often_and_as_far_as_it_says() -> None:
    generator = np.random.default_rng(0)
    matrices = [draw_matrix(generator, (1.0, 1.0), (False, False)) for _ in range(2000)]
    parts = np.array([parts_of(matrix) for matrix in matrices])
    limits = (25, math.log(1.3), 0.1, 0.1)
    for values, limit, share in zip(parts.T, limits, (0.5, 0.5, 0.3, 0.3), strict=True):
        assert (np.abs(values) > 1e-9).mean() == pytest.approx(share, abs=0.05)
        assert -1.0001 * limit <= values.min() < -0.95 * limit
        assert 0.95 * limit < values.max() <= 1.0001 * limit
    # Each is drawn apart from the others: they are not correlated, in size and in being drawn.
    for of_parts in (parts, np.abs(parts) > 1e-9):
        correlations = np.corrcoef(of_parts.astype(float), rowvar=False)
        assert np.abs(correlations - np.eye(4)).max() < 0.1


def test_draw_matrix_mirrors_each_axis_in_half_of_the_samples() -> None:
    generator = np.random.default_rng(0)
    matrices = [draw_matrix(generator, (1.0, 1.0), (True, True)) for _ in range(1000)]
    signs = np.array([matrix.diagonal() > 0 for matrix in matrices])
    assert signs.mean(axis=0) == pytest.approx([0.5, 0.5], abs=0.06)
    assert (signs[:, 0] == signs[:, 1]).mean() == pytest.approx(0.5, abs=0.06)


@pytest.mark.parametrize("name", PROFILES)
def test_changes_are_those_of_the_input_not_of_the_slice(name: str) -> None:
    """A rotation of the input turns it on a slice whose pixels are scaled differently."""
    scale = np.array([2.0, 4.0])
    for seed in range(20):
        square, oblong = (
            PROFILES[name].draw_matrix(np.random.default_rng(seed), planned, (True, True))
            for planned in ((1.0, 1.0), (2.0, 4.0))
        )
        assert np.allclose(oblong, square / scale[:, None])


def test_half_of_all_samples_are_bent_each_in_its_own_way() -> None:
    generator = np.random.default_rng(0)
    seeds = [draw_bend_seed(generator) for _ in range(1000)]
    drawn = [seed for seed in seeds if seed is not None]
    assert len(drawn) == pytest.approx(500, abs=50)
    assert len(set(drawn)) == len(drawn)
    assert min(drawn) >= 0
    assert 2**47 < max(drawn) < 2**48


def test_profile_samed_turns_by_quarters_in_half_of_all_samples() -> None:
    generator = np.random.default_rng(0)
    draw = PROFILES["samed"].draw_matrix
    matrices = [draw(generator, (1.0, 1.0), (False, False)) for _ in range(1000)]
    by_quarters = [matrix for matrix in matrices if np.isin(matrix.round(9), (-1, 0, 1)).all()]
    # Half of the samples are turned by quarters, a quarter of these by none; another quarter of the
    # samples is left as it was.
    unchanged = [matrix for matrix in by_quarters if np.array_equal(matrix, np.eye(2))]
    assert abs(len(by_quarters) - 750) < 60
    assert abs(len(unchanged) - (250 + 125)) < 60
    assert all(np.linalg.det(matrix) > 0 for matrix in matrices)  # nothing is mirrored


def test_profile_samed_flips_and_turns_alike_often() -> None:
    generator = np.random.default_rng(0)
    draw = PROFILES["samed"].draw_matrix
    matrices = [draw(generator, (1.0, 1.0), (True, True)) for _ in range(2000)]
    # A flip along rows and a half turn more is one along columns: each of the four mirrored
    # positions has two ways, of eight.
    for quarter in QUARTERS:
        mirrored = [np.allclose(matrix, quarter @ np.diag([-1, 1])) for matrix in matrices]
        assert np.mean(mirrored) == pytest.approx(1 / 8, abs=0.03)
    degrees = np.array([math.degrees(math.atan2(one[1, 0], one[0, 0])) for one in matrices])
    rotations = degrees[np.abs(degrees % 90) > 1e-9]
    assert len(rotations) / 2000 == pytest.approx(1 / 4, abs=0.04)
    assert -20 <= rotations.min() < -19.5
    assert 19.5 < rotations.max() <= 20


@pytest.mark.parametrize("mirrored", [(True, False), (False, True)])
def test_profile_samed_flips_half_as_often_where_one_axis_may_be(
    mirrored: tuple[bool, bool],
) -> None:
    generator = np.random.default_rng(0)
    draw = PROFILES["samed"].draw_matrix
    determinants = [np.linalg.det(draw(generator, (1.0, 1.0), mirrored)) for _ in range(1000)]
    assert np.mean(np.less(determinants, 0)) == pytest.approx(1 / 4, abs=0.05)


def test_profiles_change_what_they_say() -> None:
    planned, samed, none = (PROFILES[name] for name in ("planned", "samed", "none"))
    assert planned.shift == 0.08
    assert planned.bends
    assert planned.intensities
    assert planned.reverses_neighbours
    for profile in (samed, none):
        assert profile.shift == 0
        assert not any((profile.bends, profile.intensities, profile.reverses_neighbours))


def test_profile_none_keeps_the_planned_scale() -> None:
    matrix = PROFILES["none"].draw_matrix(np.random.default_rng(0), (2.0, 4.0), (True, True))
    assert np.array_equal(matrix, np.diag([0.5, 0.25]))
