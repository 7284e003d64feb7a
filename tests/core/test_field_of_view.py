"""What of an image is outside the field of view, on synthetic scans of the kinds that exist."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from samnet.core.field_of_view import amid_blank, blank_limits, find_outside

SHAPE = (4, 40, 48)


def find(array: np.ndarray, axis: int = 0) -> np.ndarray:
    """Return the voxels `(Z, Y, X)` of an image `(C, Z, Y, X)` that are outside."""
    lowest, highest = array.min((1, 2, 3)), np.percentile(array, 99.5, axis=(1, 2, 3))
    return find_outside(array, blank_limits(lowest, highest), axis)


def ellipse(rows: float, columns: float) -> np.ndarray:
    """Return booleans `(Z, Y, X)` within an ellipse around the middle of each slice."""
    _, y, x = np.indices(SHAPE)
    return ((y - 20) / rows) ** 2 + ((x - 24) / columns) ** 2 < 1


BODY, LUNG, GAS = ellipse(15, 18), ellipse(8, 10), ellipse(3, 4)


@pytest.fixture
def scan() -> np.ndarray:
    """Return noisy HU `(1, Z, Y, X)` of a body with a lung and a bubble of gas in noisy air."""
    generator = np.random.default_rng(0)
    array = np.where(BODY, 40.0, -1000.0)
    array[LUNG], array[GAS] = -850, -1000
    return (array + generator.normal(0, 10, SHAPE))[None]


def test_air_around_a_body_is_outside_and_gas_within_is_not(scan: np.ndarray) -> None:
    cut_off = np.maximum(scan, -990)
    outside = find(cut_off)
    assert outside[0, 0, 0]
    assert not (outside & BODY).any()
    # Only a rim of one pixel is left, and what rises above the noise.
    assert outside[~ndimage.binary_dilation(BODY[0])[None].repeat(4, 0)].mean() > 0.5


def test_noisy_air_is_not_outside_but_padding_around_the_scan_is(scan: np.ndarray) -> None:
    assert not find(scan).any()
    circle = ellipse(19, 19)
    padded = np.where(circle, scan, -2000.0)
    assert np.array_equal(find(padded), amid_blank(~circle))


def test_a_lung_that_is_cut_by_the_border_is_not_outside(scan: np.ndarray) -> None:
    cropped = np.maximum(scan, -990)[..., 8:-8, 16:32]
    lung = LUNG[:, 8:-8, 16:32] & ~GAS[:, 8:-8, 16:32]
    assert lung[0, :, 0].any()
    assert not (find(cropped) & lung).any()


def test_zeros_of_a_masked_mr_image_are_outside_and_dark_spots_are_not() -> None:
    image = np.where(BODY, 300 + np.arange(48), 0)[None]
    image[0, GAS] = 0
    assert np.array_equal(find(image), amid_blank(~BODY))
    # Small values, as after an interpolation, are zeros too.
    ringing = image + np.random.default_rng(0).integers(0, 3, image.shape)
    assert np.array_equal(find(ringing), find(image))


def test_a_blank_spot_is_not_outside_where_nothing_blank_reaches_the_border() -> None:
    image = np.where(GAS, 0, 300)[None]
    assert amid_blank(image[0] == 0).any()
    assert not find(image).any()


def test_all_channels_have_to_be_at_their_lowest() -> None:
    one, other = np.where(BODY, 200, 0), np.where(ellipse(5, 23), 90, 7)
    both = find(np.stack([one, other]))
    assert np.array_equal(both, amid_blank(~BODY & ~ellipse(5, 23)))


@pytest.mark.parametrize("value", [0, -1024, 255])
def test_nothing_is_outside_where_a_channel_is_missing_or_all_is_the_same(value: int) -> None:
    missing = np.full(SHAPE, value)
    assert not find(missing[None]).any()
    assert not find(np.stack([np.where(BODY, 200, 0), missing])).any()


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_slices_are_looked_at_across_the_given_axis(axis: int) -> None:
    image = np.where(BODY, 200, 0)[None]
    turned = np.moveaxis(image, 1, axis + 1)
    assert np.array_equal(np.moveaxis(find(turned, axis), axis, 0), find(image))
    # Across another axis, a bubble that is closed in slices reaches the border at the ends.
    image[0, GAS] = 0
    assert find(image, 1)[0, 20, 24]
    assert not find(image, 0)[0, 20, 24]


def test_a_line_of_pixels_has_nothing_outside() -> None:
    image = np.where(BODY[:1], 200, 0)[None]
    assert find(image).any()
    assert not find(image, 1).any()
    assert not find(image, 2).any()
