"""From raw intensities to numbers from 0 to 1."""

from __future__ import annotations

import numpy as np
import pytest

from samnet.plan.configuration import IntensityWindow
from samnet.preprocessing import intensity
from samnet.preprocessing.intensity import (
    MAX_SAMPLED_VOXELS,
    QUANTILE_POINTS,
    apply_window,
    channel_quantiles,
    window_bounds,
    without_nan,
)


def quantiles_of(*channels: np.ndarray) -> np.ndarray:
    return np.stack([channel_quantiles(channel) for channel in channels])


def test_without_nan_replaces_what_is_not_finite_in_a_copy() -> None:
    array = np.array([[-2.5, np.nan, 3.0], [np.inf, -np.inf, 0.5]], np.float32)
    before = array.copy()
    cleaned = without_nan(array)
    assert cleaned.tolist() == [[-2.5, 0.0, 3.0], [0.0, 0.0, 0.5]]
    assert cleaned.dtype == np.float32
    assert np.array_equal(array, before, equal_nan=True)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32, np.float64])
def test_without_nan_copies_no_finite_array(dtype: type) -> None:
    array = np.arange(6, dtype=dtype)
    assert without_nan(array) is array


def test_channel_quantiles_are_those_of_non_zero_voxels() -> None:
    values = np.random.default_rng(0).normal(100, 20, 5000).astype(np.float32)
    channel = np.concatenate([values, np.zeros(3000, np.float32)]).reshape(8, 10, 100)
    table = channel_quantiles(channel)
    assert table.shape == QUANTILE_POINTS.shape == (201,)
    assert table == pytest.approx(np.percentile(values.astype(np.float64), QUANTILE_POINTS))
    assert (np.diff(table) >= 0).all()


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.float32])
@pytest.mark.parametrize("count", [1, 2, 3, 1000, 4321])
def test_channel_quantiles_equal_those_of_numpy_in_double_precision(
    count: int, dtype: type
) -> None:
    values = np.random.default_rng(count).uniform(1, 255, count).astype(dtype)
    assert np.array_equal(
        channel_quantiles(values), np.percentile(values.astype(np.float64), QUANTILE_POINTS)
    )


@pytest.mark.parametrize("seed", range(10))
def test_channel_quantiles_equal_those_of_numpy_in_the_last_digit(seed: int) -> None:
    values = np.random.default_rng(seed).uniform(0.001, 255, 2) ** 3
    assert np.array_equal(channel_quantiles(values), np.percentile(values, QUANTILE_POINTS))


def test_channel_quantiles_of_many_voxels_are_those_of_every_kth_non_zero_voxel(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(intensity, "MAX_SAMPLED_VOXELS", 4)
    channel = np.array([1, 90, 0, 2, 90, 0, 3, 90, 4, 90, 5])
    assert channel_quantiles(channel)[[0, 50, 100, 200]].tolist() == [1, 2, 3, 5]
    assert channel_quantiles(channel[:-2])[200] == 90  # fewer than twice as many


def test_channel_quantiles_of_sampled_voxels_are_nearly_those_of_all() -> None:
    channel = np.random.default_rng(0).integers(1, 1000, 2 * MAX_SAMPLED_VOXELS, np.int16)
    assert channel_quantiles(channel) == pytest.approx(
        np.percentile(channel, QUANTILE_POINTS), abs=2
    )


@pytest.mark.parametrize(
    ("window", "bounds"),
    [
        (IntensityWindow("fixed", -100.0, 300.0), (-100, 300)),
        (IntensityWindow("percentiles", 0.0, 100.0), (1, 101)),
        (IntensityWindow("percentiles", 0.5, 99.5), (1.5, 100.5)),
        (IntensityWindow("percentiles", 25.3, 50.0), (26.3, 51)),
    ],
)
def test_window_bounds_of_each_scheme(window: IntensityWindow, bounds: tuple[float, float]) -> None:
    table = quantiles_of(np.linspace(1, 101, 1001))
    assert window_bounds([window], table)[0] == pytest.approx(bounds)


def test_window_bounds_of_several_channels_are_in_double_precision() -> None:
    windows = [
        IntensityWindow("fixed", -100, 300),
        IntensityWindow("slice_range", 0, 0),
        IntensityWindow("percentiles", 0.0, 50.0),
    ]
    bounds = window_bounds(windows, quantiles_of(*np.full((2, 3), 7.0), np.linspace(1, 101, 1001)))
    assert np.array_equal(bounds, [(-100, 300), (np.nan, np.nan), (1, 51)], equal_nan=True)
    assert window_bounds(windows[:1], bounds[:1]).dtype == np.float64


def test_window_of_a_constant_channel_is_one_wide() -> None:
    bounds = window_bounds([IntensityWindow("percentiles", 0.5, 99.5)], np.full((1, 201), 5.0))
    assert bounds.tolist() == [[5.0, 6.0]]


@pytest.mark.parametrize("channel", [np.zeros(9), np.full(9, 5.0)], ids=["empty", "constant"])
def test_apply_window_gives_finite_numbers_without_contrast(channel: np.ndarray) -> None:
    bounds = window_bounds([IntensityWindow("percentiles", 0.5, 99.5)], quantiles_of(channel))
    scaled = apply_window(channel.reshape(1, 3, 3), bounds)
    assert np.isfinite(scaled).all()
    assert scaled.max() <= 1


def test_apply_window_clips_and_scales_each_channel_by_itself() -> None:
    array = np.array([[[-1000, 0, 50, 100, 3000]], [[0, 10, 20, 30, 40]]], np.int16)[None]
    windows = [IntensityWindow("fixed", 0.0, 100.0), IntensityWindow("fixed", 10.0, 30.0)]
    scaled = apply_window(array, window_bounds(windows, quantiles_of(*array[0])))
    assert scaled.dtype == np.float32
    assert scaled.shape == array.shape
    assert scaled[0, 0, 0] == pytest.approx([0, 0, 0.5, 1, 1])
    assert scaled[0, 1, 0] == pytest.approx([0, 0, 0.5, 1, 1])


def test_apply_window_scales_each_slice_by_its_own_range_where_bounds_are_nan() -> None:
    """The other channel has a window for all slices."""
    slices = np.array(
        [
            [[[1, 2, 3], [3, 4, 5]], [[0, 10, 20], [5, 10, 15]]],
            [[[7, 9, 7], [8, 11, 7]], [[20, 0, 0], [5, 30, 15]]],
        ]
    )
    bounds = np.array([[np.nan, np.nan], [0.0, 20.0]])
    expected = [
        [[[0, 0.25, 0.5], [0.5, 0.75, 1]], [[0, 0.5, 1], [0.25, 0.5, 0.75]]],
        [[[0, 0.5, 0], [0.25, 1, 0]], [[1, 0, 0], [0.25, 1, 0.75]]],
    ]
    assert apply_window(slices, bounds).tolist() == expected
    assert apply_window(slices[1], bounds).tolist() == expected[1]
    assert slices.max() == 30


def test_apply_window_gives_zeros_for_a_slice_without_range() -> None:
    assert not apply_window(np.full((1, 2, 3), 9), np.array([[np.nan, np.nan]])).any()


def test_apply_window_does_not_wrap_unsigned_numbers_below_the_window() -> None:
    scaled = apply_window(np.array([[[0, 10]]], np.uint8), np.array([[5.0, 15.0]]))
    assert scaled[0, 0] == pytest.approx([0, 0.5])


def test_range_of_a_slice_is_that_of_each_channel() -> None:
    slices = np.stack([np.array([[2, 4], [6, 10]]), np.array([[100, 200], [300, 500]])])
    scaled = apply_window(slices, np.full((2, 2), np.nan))
    expected = np.array([[0, 0.25], [0.5, 1]])
    assert np.allclose(scaled, [expected, expected])


def test_window_of_a_channel_of_one_value_has_a_width_of_one() -> None:
    """Without a width, the faintest noise of another slice would be black and white."""
    windows = [IntensityWindow("percentiles", 0.5, 99.5)]
    assert window_bounds(windows, np.full((1, 201), 5.0)).tolist() == [[5.0, 6.0]]
