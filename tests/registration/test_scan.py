"""Images as they are registered."""

from __future__ import annotations

import numpy as np
import pytest

from samnet.registration.scan import MAX_PIXELS, MAX_VOXELS, Scan


def test_grey_values_are_the_mean_of_the_channels_from_0_to_1() -> None:
    array = np.linspace(0.2, 0.6, 2 * 6 * 7 * 8, dtype=np.float32).reshape(2, 6, 7, 8)
    scan = Scan.of(array, (2.0, 1.0, 0.5))
    assert scan.shape == (6, 7, 8)
    assert scan.grey.GetSize() == (8, 7, 6)
    assert scan.grey.GetSpacing() == (0.5, 1.0, 2.0)
    values = [scan.grey[place] for place in [(0, 0, 0), (4, 3, 3), (7, 6, 5)]]
    assert values[0] == pytest.approx(0)
    assert values[1] == pytest.approx(0.55, abs=0.05)
    assert values[2] == pytest.approx(1)


@pytest.mark.parametrize(
    ("shape", "spacing"),
    [((40, 130, 120), (1.0, 1.0, 1.0)), ((12, 256, 256), (5.0, 0.7, 0.7))],
    ids=["cube", "thick slices"],
)
def test_large_volumes_are_registered_on_a_coarse_grid_of_the_same_extent(
    shape: tuple[int, int, int], spacing: tuple[float, float, float]
) -> None:
    place = np.indices(shape)[2] / shape[2]
    grey = Scan.of(place[None].astype(np.float32), spacing).grey
    assert 0.5 * MAX_VOXELS < grey.GetNumberOfPixels() <= 1.3 * MAX_VOXELS
    extent = [
        number * distance
        for number, distance in zip(grey.GetSize(), grey.GetSpacing(), strict=True)
    ]
    assert extent == pytest.approx([n * d for n, d in zip(shape, spacing, strict=True)][::-1])
    assert min(grey.GetSpacing()) > min(spacing)
    # Positions stay: half of the way along X is half as bright.
    middle = grey.TransformPhysicalPointToIndex((shape[2] * spacing[2] / 2, 5.0, 5.0))
    assert grey[middle] == pytest.approx(0.5, abs=0.05)


def test_large_2d_images_have_fewer_pixels_still() -> None:
    grey = Scan.of(np.random.default_rng(0).random((1, 1, 300, 240)), (1.0, 1.0, 1.0)).grey
    assert 0.8 * MAX_PIXELS < grey.GetNumberOfPixels() <= 1.1 * MAX_PIXELS


def test_single_slice_is_a_2d_image_and_an_even_image_stays_finite() -> None:
    scan = Scan.of(np.full((3, 1, 40, 50), 0.5, np.float32), (1.0, 1.0, 1.0))
    assert scan.grey.GetDimension() == 2
    assert scan.empty().GetSize() == (50, 40)
    assert scan.grey[3, 3] == 0
