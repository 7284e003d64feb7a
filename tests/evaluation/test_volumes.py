"""Volumes and their units."""

from __future__ import annotations

import math

import pytest

from samnet.core.geometry import Grid, spacing_affine
from samnet.evaluation.volumes import common_unit, volume_scores, volume_unit, voxel_volume

SPACING = (5.0, 2.0, 0.5)


@pytest.mark.parametrize(
    ("shape", "has_spacing", "unit", "volume"),
    [
        ((4, 5, 6), True, "mL", 0.005),
        ((1, 5, 6), True, "mm2", 1.0),
        ((4, 5, 1), True, "mm2", 10.0),
        ((4, 5, 6), False, "voxels", 1.0),
        ((1, 5, 6), False, "pixels", 1.0),
    ],
)
def test_volume_has_a_unit_that_the_image_supports(
    shape: tuple[int, int, int], has_spacing: bool, unit: str, volume: float
) -> None:
    grid = Grid(shape, spacing_affine(SPACING), has_spacing)
    assert volume_unit(grid) == unit
    assert voxel_volume(shape, SPACING, unit) == pytest.approx(volume)


def test_volumes_of_different_units_are_compared_in_voxels() -> None:
    assert common_unit(["mm2", "mm2"]) == "mm2"
    assert common_unit(["mL", "mm2"]) == "voxels"
    assert common_unit([]) == "mL"


def test_volume_error_is_prediction_minus_reference() -> None:
    scores = volume_scores(150, 200, 0.002)
    assert scores == pytest.approx(
        {
            "volume_pred": 0.3,
            "volume_ref": 0.4,
            "volume_error": -0.1,
            "volume_error_relative": -0.25,
        }
    )


def test_volume_error_relative_is_unknown_without_a_reference() -> None:
    scores = volume_scores(10, 0, 0.5)
    assert (scores["volume_error"], scores["volume_ref"]) == (5.0, 0.0)
    assert math.isnan(scores["volume_error_relative"])
    assert volume_scores(0, 0, 0.5)["volume_error"] == 0.0
