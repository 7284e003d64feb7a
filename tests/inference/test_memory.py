"""Images that no machine could predict are refused before anything is allocated."""

from __future__ import annotations

import re

import numpy as np
import pytest
from builders.tiny import TWO_CLASSES, make_configuration, make_volume, tiny_backbone

from samnet.core.cpu_bfloat16 import VARIABLE
from samnet.core.errors import UserError
from samnet.inference.memory import StackPrediction, estimate_memory, refuse_beyond_memory
from samnet.inference.volume import predict_volume
from samnet.models.network import build_network
from samnet.models.slice_adapter import num_neighbours
from samnet.plan.configuration import Configuration
from samnet.training.dry_run import StorageCount

__all__ = ["tiny_backbone"]
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


def of_stacks(configuration: Configuration, num_slices: int, margin: int = 2) -> float:
    """Return the bytes that are estimated for slices of 64 x 64 pixels which see neighbours."""
    volume = make_volume(np.ones((num_slices, 64, 64), np.float32))
    stacks = StackPrediction(margin, configuration.mirror_at_prediction)
    return estimate_memory(configuration, volume, 3, 2, stacks).gib * 2**30


@pytest.mark.parametrize(
    "changes",
    [
        {"depth_adapters": 2, "mirror_axes": (1, 2), "mirror_at_prediction": True},
        {"zoom": 2.0, "input_size": 64},  # in tiles
    ],
    ids=["mirrored", "tiles"],
)
def test_need_of_stacks_is_what_their_prediction_takes(changes: dict) -> None:
    """Next to the tensors of the network there are the canvases, which numpy makes."""
    values = {"depth": 3, "input_size": 64, "channel_layout": "neighbours"} | changes
    configuration = make_configuration(**values)
    network = build_network(configuration, 1, 3).eval()
    image = np.random.default_rng(0).random((20, 64, 64), dtype=np.float32)
    with StorageCount() as count:
        predict_volume(
            [network],
            configuration,
            make_volume(255 * image),
            mirror=configuration.mirror_at_prediction,
            label_scheme=TWO_CLASSES,
        )
    canvases = 4 * 20 * 3 * (64 * configuration.zoom) ** 2
    estimated = of_stacks(configuration, 20, num_neighbours(network))
    # What four slices take within a block is not counted.
    assert 0.7 < (count.peak + canvases) / estimated < 2


def test_need_of_stacks_grows_with_their_slices_up_to_a_chunk_and_its_margins() -> None:
    configuration = make_configuration(depth=3, input_size=64)
    short, long, longer, longest = (of_stacks(configuration, n) for n in (20, 40, 200, 400))
    assert long == pytest.approx(2 * short, rel=0.05)
    image = 200 * 64 * 64 * 6  # with its label map
    assert longest - longer == pytest.approx(image, rel=0.05)
    assert of_stacks(configuration, 400, margin=9) > 1.05 * longest


def test_need_of_single_slices_has_no_stack() -> None:
    volume = make_volume(np.ones((40, 64, 64), np.float32))
    configuration = make_configuration(input_size=64)
    alone = estimate_memory(configuration, volume, 3, 2).gib * 2**30
    assert of_stacks(configuration, 40) > 5 * alone
