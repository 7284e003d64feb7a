from __future__ import annotations

import numpy as np

from samnet.training.augmentation import PROFILES, draw_matrix


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


def test_profile_none_keeps_the_planned_scale() -> None:
    matrix = PROFILES["none"].draw_matrix(np.random.default_rng(0), (2.0, 4.0), (True, True))
    assert np.array_equal(matrix, np.diag([0.5, 0.25]))
