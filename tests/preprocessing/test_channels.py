"""From the channels of a data set to those of the network's input."""

from __future__ import annotations

import numpy as np
import pytest

from samnet.preprocessing.channels import compose_channels, num_input_channels, slice_indices


@pytest.mark.parametrize(
    ("layout", "num_channels", "expected"),
    [
        ("neighbours", 1, [[1], [2], [3]]),
        ("repeat", 1, [[2], [2], [2]]),
        ("pair_mean", 2, [[2], [12], [7]]),
        ("as_is", 3, [[2], [12], [22]]),
        ("stem", 5, [[2], [12], [22], [32], [42]]),
    ],
)
def test_compose_channels_of_each_layout(layout: str, num_channels: int, expected: list) -> None:
    """Slice i of channel c holds i + 10 c everywhere."""
    volume = (np.arange(5.0)[:, None] + 10 * np.arange(num_channels))[:, :, None, None]
    image = compose_channels(volume[slice_indices(layout, 2, 5)], layout)
    assert image[:, :, 0].tolist() == expected
    assert len(image) == num_input_channels(layout, num_channels)


@pytest.mark.parametrize(("index", "expected"), [(0, [0, 0, 1]), (2, [1, 2, 3]), (4, [3, 4, 4])])
def test_slice_indices_repeat_the_outermost_slice_at_the_ends(
    index: int, expected: list[int]
) -> None:
    assert slice_indices("neighbours", index, 5) == expected
    assert slice_indices("neighbours", 0, 1) == [0, 0, 0]
