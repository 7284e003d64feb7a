"""Spacings of TIFF files that are turned, in inches, or next to a JSON file of another program."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile

from samnet.dataset.images import read_image

STACK = np.random.default_rng(0).integers(0, 200, (7, 5, 6)).astype(np.uint8)


def test_json_file_next_to_a_2d_image_is_that_of_another_program(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", STACK[0])
    (tmp_path / "a.json").write_text('{"shapes": []}')
    assert read_image([tmp_path / "a.tif"]).grid.unit == "pixels"


def test_spacing_of_a_turned_image_is_that_of_the_axes_as_shown(tmp_path: Path) -> None:
    tifffile.imwrite(
        tmp_path / "a.tif",
        STACK[0],
        resolution=(40000, 20000),
        resolutionunit="CENTIMETER",
        extratags=[(274, 3, 1, 6, True)],
    )
    grid = read_image([tmp_path / "a.tif"]).grid
    assert grid.shape == (1, 6, 5)
    assert grid.spacing[1:] == pytest.approx((2.5e-4, 5e-4))


@pytest.mark.parametrize("distance", [0.1, -0.1])
def test_stack_of_imagej_may_be_in_inches_and_count_slices_downwards(
    tmp_path: Path, distance: float
) -> None:
    metadata = {"axes": "ZYX", "spacing": distance, "unit": "inch"}
    tifffile.imwrite(tmp_path / "a.tif", STACK, imagej=True, resolution=(50, 25), metadata=metadata)
    grid = read_image([tmp_path / "a.tif"]).grid
    assert grid.spacing == pytest.approx((2.54, 1.016, 0.508), rel=1e-5)
