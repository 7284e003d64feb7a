"""What the rules look at in data sets whose cases differ."""

from __future__ import annotations

from dataclasses import replace

import pytest
from builders.fingerprint import make_fingerprint
from builders.planned import CPU, GPU, plan_all, values

from samnet.fingerprint.records import ChannelStatistics, Fingerprint
from samnet.plan.configuration import IntensityWindow


def with_ranges(fingerprint: Fingerprint, *ranges: tuple[float, float, bool]) -> Fingerprint:
    """Give the first cases a lowest and highest intensity, and whether all are whole numbers."""
    cases = dict(fingerprint.cases)
    for (name, case), (low, high, whole) in zip(list(cases.items()), ranges, strict=False):
        values = (low, low, (low + high) / 2, high, high)
        channel = ChannelStatistics(low, high, whole, values, case.channels[0].foreground)
        cases[name] = replace(case, channels=(channel,) * len(case.channels))
    return replace(fingerprint, cases=cases)


def test_single_slices_are_data_of_which_every_case_is_one() -> None:
    shapes = ((1, 200, 160), (40, 200, 160), (40, 200, 160))
    planned = values(make_fingerprint(shapes=shapes, spacing=(1.0, 1.0, 2.0)))
    assert planned["slicing_axis"] == 2  # the coarsest
    flat = make_fingerprint(shapes=((1, 200, 160), (1, 90, 70)), spacing=(1.0, 1.0, 2.0))
    assert (values(flat)["slicing_axis"], values(flat)["channel_layout"]) == (0, "repeat")


def test_slices_are_those_of_all_views() -> None:
    fingerprint = make_fingerprint(labelled_slices=(20, 60, 60))
    planned = values(fingerprint, views=[0, 1, 2], depth=1)
    assert planned["steps"] == 60 * (20 + 60 + 60) * len(fingerprint.cases) // 16


def test_published_training_passes_through_whole_slices_and_the_last_part_of_a_batch() -> None:
    """Slices without anything but background count as the others, as in the papers' code."""
    fingerprint = make_fingerprint(shape=(41, 200, 160))
    cases = {
        name: replace(case, cropped_shape=(20, 200, 160))
        for name, case in fingerprint.cases.items()
    }
    plan = plan_all(replace(fingerprint, cases=cases), GPU)
    assert plan.configuration("samed").batch_size == 24
    assert plan.configuration("samed").steps == 160 * 11  # 246 slices


def test_values_like_hounsfield_units_may_be_spread_over_cases() -> None:
    fingerprint = make_fingerprint(channels=("scan",), values=(-300, 150), foreground=(-20, 180))
    assert values(fingerprint)["intensity"][0].scheme == "percentiles"
    spread = with_ranges(fingerprint, (-1000, 150, True), (0, 400, True))
    assert values(spread)["intensity"] == (IntensityWindow("fixed", -20.0, 180.0),)


def test_colours_are_whole_numbers_where_those_of_every_image_are() -> None:
    """An image of 0 and 1 alone does not make bytes of images from 0 to 1."""
    fingerprint = make_fingerprint(
        channels=("R", "G", "B"), file_ending=".png", shape=(1, 90, 90), values=(0, 1)
    )
    assert values(fingerprint)["intensity"][0].upper == 255
    mixed = with_ranges(fingerprint, (0, 1, False))
    assert values(mixed)["intensity"][0].upper == 1


def test_three_channels_of_volumes_are_no_colours() -> None:
    planned = values(make_fingerprint(channels=("T1", "T2", "FLAIR")))
    assert [window.scheme for window in planned["intensity"]] == ["percentiles"] * 3


def test_shortest_axis_is_that_of_most_images_without_their_margins() -> None:
    fingerprint = make_fingerprint(spacing=(1.0, 1.0, 1.0), shape=(50, 80, 90))
    assert values(fingerprint)["slicing_axis"] == 0
    narrow = {
        name: replace(case, cropped_shape=(50, 30, 90)) for name, case in fingerprint.cases.items()
    }
    assert values(replace(fingerprint, cases=narrow))["slicing_axis"] == 1
    one = {"a": replace(fingerprint.cases["a"], cropped_shape=(900, 80, 90))}
    assert values(replace(fingerprint, cases=fingerprint.cases | one))["slicing_axis"] == 0


@pytest.mark.parametrize(("edge", "shown"), [(250, 247.5), (270, 200.0)])
def test_zoom_shows_the_largest_slices_where_they_are_hardly_larger(
    edge: int, shown: float
) -> None:
    shapes = ((40, 200, 160),) * 5 + ((40, edge, 160),)
    assert values(make_fingerprint(shapes=shapes))["zoom"] == pytest.approx(224 / shown, abs=1e-3)


@pytest.mark.parametrize(("thickness", "head"), [(10.6, "upsampling"), (10.8, "mask_decoder")])
def test_structure_is_thin_below_three_pixels_of_the_output(thickness: float, head: str) -> None:
    """A slice of 200 pixels fills an input of 224, of which the mask has a quarter."""
    assert values(make_fingerprint(thickness=thickness))["head"] == head


@pytest.mark.parametrize(("zoom", "head"), [(2.9, "upsampling"), (3.0, "upsampling_quarter")])
def test_slices_are_enlarged_from_three_times(zoom: float, head: str) -> None:
    assert values(make_fingerprint(), CPU, zoom=zoom)["head"] == head


def test_values_that_no_data_change() -> None:
    planned = values(make_fingerprint())
    expected = {
        "foreground_share": 0.67,
        "gradient_clip": 1.0,
        "tile_overlap": 0.5,
        "weight_decay": 0.1,
        "decay_power": 0.9,
        "decay_share": 1.0,
        "cross_entropy_weight": 0.2,
        "dice_weight": 0.8,
        "lora_scale": 1.0,
        "pixel_statistics": "sam",
        "mirror_at_prediction": True,
        "augmentation": "planned",
        "slice_order": "random",
        "optimizer": "adamw",
        "schedule": "polynomial",
        "loss": "samed",
    }
    assert {key: planned[key] for key in expected} == expected
