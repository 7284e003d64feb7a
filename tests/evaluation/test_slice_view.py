"""The slice that a figure shows: the right one, the right way up, and with useful grey levels."""

from __future__ import annotations

import numpy as np
import pytest

from samnet.core.geometry import Grid
from samnet.evaluation.slice_view import SliceView, intensity_window


def test_slice_view_crosses_the_coarsest_axis_in_true_proportions() -> None:
    labels = np.zeros((7, 20, 30), dtype=np.uint8)
    labels[2:6, 4:9, 3:12] = 1
    labels[4, 10:16, 15:25] = 2
    grid = Grid(labels.shape, np.diag([2.0, 6.0, 3.0, 1.0]))
    view = SliceView(grid, labels, is_2d=False, highest_label=2)
    assert view.cut(labels).shape == (7, 30)
    assert view.aspect == pytest.approx(1.5)


def test_slice_view_leaves_out_rows_and_columns_of_large_slices() -> None:
    labels = np.zeros((1, 1500, 3000), dtype=np.uint8)
    view = SliceView(Grid(labels.shape, np.eye(4)), labels, is_2d=True, highest_label=1)
    assert view.cut(labels).shape == (750, 1000)
    assert view.aspect == pytest.approx(2 / 3)


def test_intensity_window_keeps_organs_apart_in_spite_of_air() -> None:
    channel = np.full((4, 10, 10), -1000.0)
    channel[:, 2:8, 2:8] = np.linspace(0, 100, 36).reshape(6, 6)
    lowest, highest = intensity_window(channel, channel > -500)
    assert lowest > -150
    assert highest <= 100
