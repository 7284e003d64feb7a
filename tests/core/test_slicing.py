"""The axis across which slices lie."""

from __future__ import annotations

import pytest

from samnet.core.slicing import find_slicing_axis


@pytest.mark.parametrize(
    ("spacing", "lengths", "axis"),
    [
        ((1.0, 3.0, 1.0), (10.0, 90.0, 20.0), 1),  # the coarsest, though not the shortest
        ((1.5, 1.0, 1.0), (90.0, 30.0, 20.0), 2),  # 1.5 times is not coarser
        ((1.0, 1.0, 1.0), (40.0, 40.0, 40.0), 0),
    ],
)
def test_slices_lie_across_the_coarsest_or_the_shortest_axis(
    spacing: tuple[float, ...], lengths: tuple[float, ...], axis: int
) -> None:
    assert find_slicing_axis(spacing, lengths) == axis
