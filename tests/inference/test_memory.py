"""Images that no machine could predict are refused before anything is allocated."""

from __future__ import annotations

import re

import numpy as np
import pytest
from builders.tiny import make_configuration, make_volume

from samnet.core.errors import UserError
from samnet.inference.memory import estimate_memory, refuse_beyond_memory

IMAGE = np.ones((4, 100, 80), np.float32)


def need(spacing: tuple[float, float, float] = (3.0, 1.0, 1.0), **changes: object) -> float:
    volume = make_volume(IMAGE, spacing)
    return estimate_memory(make_configuration(**changes), volume, 3, stride=4).gib


def test_usual_images_need_little() -> None:
    assert need() < 0.01


def test_need_grows_with_the_area_of_a_slice_at_the_resolution_of_the_model() -> None:
    assert 50 < need((3.0, 100.0, 100.0)) / need() < 20_000
    assert need((3.0, 1000.0, 1000.0)) == pytest.approx(100 * need((3.0, 100.0, 100.0)), rel=0.2)
    assert need((300.0, 1.0, 1.0)) == need()  # slices are not resampled across
    assert need((3.0, 100.0, 100.0), zoom=2.0) > 3 * need((3.0, 100.0, 100.0))


def test_need_is_that_of_the_largest_view() -> None:
    thick = (1000.0, 1.0, 1.0)
    assert need(thick, views=(0, 1, 2)) > 10 * need(thick, views=(0,))


def test_image_beyond_the_memory_is_refused_with_numbers_and_remedy() -> None:
    volume = make_volume(IMAGE, (3.0, 1000.0, 1000.0))
    required = estimate_memory(make_configuration(), volume, 3, stride=4)
    refuse_beyond_memory(required, memory=required.gib + 1)
    with pytest.raises(UserError) as caught:
        refuse_beyond_memory(required, memory=16.0)
    message = str(caught.value)
    assert re.search(r"needs [0-9]{3} GiB .* and this machine has 16 GiB", message)
    assert "a slice of 100 x 80 pixels becomes 100,000 x 80,000" in message
    assert "Correct the spacing" in message
