"""Slices of any size are covered by inputs, and lie within their canvas."""

from __future__ import annotations

import numpy as np
import torch
from builders.properties import for_any_input
from hypothesis import given
from hypothesis import strategies as st

from samnet.plan.backbones import PATCH
from samnet.preprocessing.slice_frame import frame_slice, tile_starts, tile_weights

INPUTS = st.integers(1, 12).map(lambda patches: patches * PATCH)
PIXELS = st.integers(1, 300)
SPACINGS = st.floats(0.1, 5)


@for_any_input(80)
@given(st.integers(1, 60), INPUTS, st.floats(0, 0.9), st.sampled_from((1, 2, 4)))
def test_tiles_cover_a_canvas_of_any_length_with_positive_weight(
    patches: int, size: int, overlap: float, stride: int
) -> None:
    length = max(size, patches * PATCH)  # as `frame_slice` makes it
    starts = tile_starts(length, size, overlap)
    total = np.zeros(length // stride)
    weights = tile_weights(size // stride).numpy()
    for start in starts:
        assert start % PATCH == 0
        total[start // stride : (start + size) // stride] += weights[len(weights) // 2]
    assert (starts[0], starts[-1]) == (0, length - size)
    assert (weights > 0).all()
    assert (total > 0).all()
    # Their overlap is as large as planned, except for rounding to whole patches.
    assert (np.diff(starts) <= size * (1 - overlap) + PATCH).all()


@for_any_input(40)
@given(PIXELS, PIXELS, SPACINGS, SPACINGS, st.floats(0.1, 4), INPUTS)
def test_slice_of_any_size_lies_on_its_canvas_and_comes_back(
    rows: int, columns: int, down: float, along: float, zoom: float, size: int
) -> None:
    frame = frame_slice(
        (rows, columns), (down, along), 1.0, min(zoom, 900 / max(rows, columns)), size
    )
    for axis, length in enumerate((rows, columns)):
        assert frame.canvas[axis] >= size
        assert frame.canvas[axis] % PATCH == 0
        assert frame.offset(axis) >= -1e-6
        assert frame.offset(axis) + length * frame.scale[axis] <= frame.canvas[axis] + 1e-6
    ones = torch.ones(rows, columns)
    assert torch.allclose(frame.from_canvas(torch.ones(frame.canvas), 1), ones, atol=1e-5)
    on_canvas = frame.to_canvas(ones)
    assert torch.isclose(on_canvas, on_canvas.round(), atol=1e-5).all()
