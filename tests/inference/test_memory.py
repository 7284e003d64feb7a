"""Images that no machine could predict are refused before anything is allocated."""

from __future__ import annotations

import re

import numpy as np
import pytest
from builders.tiny import make_configuration, make_volume

from samnet.core.cpu_bfloat16 import VARIABLE
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


def test_memory_of_this_machine_is_found_without_looking_at_its_devices(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An impossible value of this variable ends any look at the CPU's units."""
    monkeypatch.setenv(VARIABLE, "neither")
    volume = make_volume(IMAGE, (3.0, 1.0, 1.0))
    refuse_beyond_memory(estimate_memory(make_configuration(), volume, 3, stride=4))


@pytest.mark.parametrize(
    ("changes", "resampled", "shrink"),
    [
        ({"channel_layout": "repeat"}, 1 + 3, 4**2),
        ({"channel_layout": "neighbours"}, 3 + 3, 4**2),
        ({"channel_layout": "repeat", "frame": "splines"}, 1 + 3, 1),  # logits are enlarged
    ],
    ids=["one slice", "three slices", "as SAMed"],
)
def test_need_is_the_sum_of_what_is_in_memory(changes: dict, resampled: int, shrink: int) -> None:
    """The image, the label map, the matrices and planes of one slice, and the maps."""
    configuration = make_configuration(**changes)
    need = estimate_memory(configuration, make_volume(IMAGE, (3.0, 1.0, 1.0)), 5, stride=4)
    height, width = need.frame.canvas
    expected = IMAGE.size * (4 + 2) + 8 * (height * 100 + width * 80)
    expected += 4 * height * width * resampled + 4 * 5 * height * width // shrink
    assert need.gib * 2**30 == pytest.approx(expected)


def test_need_of_a_view_has_what_was_cropped_of_its_slices() -> None:
    image = np.zeros((10, 100, 80), np.float32)
    image[2:7, 20:90, 5:60] = 1
    volume = make_volume(image)
    configuration = make_configuration(views=(1,), frame="stretch")
    frame = estimate_memory(configuration, volume, 3, 4).frame
    assert frame.size == (5, 55)
    assert frame.margins == volume.margins(1) == ((2, 3), (5, 20))
