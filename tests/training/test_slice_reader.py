from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders.numerics import assert_close_to_norm
from builders.tiny import TWO_CLASSES, FakeNetwork, make_case, make_configuration

from samnet.dataset.label_scheme import LabelScheme
from samnet.inference.slices import SlicePredictor
from samnet.plan.configuration import IntensityWindow
from samnet.preprocessing.storage import StoredCase
from samnet.training.placement import place_image, place_labels, place_regions
from samnet.training.slice_reader import SampleSpecification, SliceReader


def make_reader(
    *cases: StoredCase, label_scheme: LabelScheme = TWO_CLASSES, **changes: Any
) -> SliceReader:
    configuration = make_configuration(**changes)
    return SliceReader(cases, SampleSpecification(configuration, label_scheme, 2, 7))


def constant_slices(folder: Path) -> StoredCase:
    """Return a case `(6, 24, 20)` whose slices across Z are 20, 40, ... 120 everywhere."""
    values = np.arange(20, 140, 20)[:, None, None]
    image = np.broadcast_to(values, (6, 24, 20)).astype(np.uint8)
    return make_case(folder, image[None], 0 * image)


def test_slice_reader_sorts_cases_and_names_every_stack(tmp_path: Path) -> None:
    image = np.full((1, 3, 8, 9), 5, np.uint8)
    cases = [
        make_case(tmp_path, image, 0 * image[0], name=name, views=(0, 2)) for name in ("b", "a")
    ]
    reader = make_reader(*cases, views=(0, 2))
    assert [case.identifier for case in reader.cases] == ["a", "b"]
    assert reader.stacks == [(0, 0), (0, 2), (1, 0), (1, 2)]


@pytest.mark.parametrize("index", [0, 3, 5])
@pytest.mark.parametrize("is_reversed", [False, True])
def test_slice_reader_shows_neighbouring_slices_in_order(
    tmp_path: Path, index: int, is_reversed: bool
) -> None:
    """At the end of the volume the last slice is its own neighbour."""
    reader = make_reader(constant_slices(tmp_path), channel_layout="neighbours")
    image = reader.image(0, 0, index, is_reversed=is_reversed)
    expected = [20 * (1 + max(index - 1, 0)), 20 * (1 + index), 20 * (1 + min(index + 1, 5))]
    if is_reversed:
        expected.reverse()
    assert (255 * image[:, 12, 10]).round().tolist() == expected


def test_slice_reader_reverses_neighbouring_slices_only_on_request(tmp_path: Path) -> None:
    reader = make_reader(constant_slices(tmp_path), channel_layout="neighbours")
    assert (255 * reader.image(0, 0, 3)[:, 12, 10]).round().tolist() == [60, 80, 100]


@pytest.mark.parametrize(
    ("augmentation", "mirror_axes", "expected"),
    [
        ("planned", (1, 2), {False}),
        ("planned", (0, 1, 2), {False, True}),
        ("samed", (0, 1, 2), {False}),
        ("none", (0, 1, 2), {False}),
    ],
)
def test_neighbouring_slices_are_reversed_only_where_the_volume_may_be_mirrored_across_them(
    tmp_path: Path, augmentation: str, mirror_axes: tuple[int, ...], expected: set[bool]
) -> None:
    case = constant_slices(tmp_path)
    reader = make_reader(case, augmentation=augmentation, mirror_axes=mirror_axes)
    generator = np.random.default_rng(0)
    assert {reader.draw_reversal(generator, 0) for _ in range(40)} == expected


def large_slice(folder: Path) -> tuple[StoredCase, np.ndarray]:
    """Return a case of one slice of 100 x 100 pixels with class 1 near a corner, and its labels."""
    labels = np.zeros((1, 100, 100), dtype=np.uint8)
    labels[0, 90:94, 5:9] = 1
    image = np.full((1, 1, 100, 100), 9, dtype=np.uint8)
    return make_case(folder, image, labels), labels[0]


def test_placements_cover_a_large_slice_where_no_class_is_wanted(tmp_path: Path) -> None:
    case, labels = large_slice(tmp_path)
    reader = make_reader(case, augmentation="none")
    generator = np.random.default_rng(0)
    centres = [reader.draw_placement(generator, 0, 0, labels, None).centre for _ in range(100)]
    lowest, highest = np.min(centres, axis=0), np.max(centres, axis=0)
    assert ((lowest >= 16) & (lowest < 22)).all()
    assert ((highest <= 84) & (highest > 78)).all()


def test_placements_in_a_large_slice_show_the_wanted_class(tmp_path: Path) -> None:
    case, labels = large_slice(tmp_path)
    reader = make_reader(case, augmentation="none")
    generator = np.random.default_rng(0)
    for _ in range(20):
        placement = reader.draw_placement(generator, 0, 0, labels, 1)
        assert reader.target(labels, placement).any()


def test_placements_of_a_slice_that_fits_stay_near_its_centre(tmp_path: Path) -> None:
    reader = make_reader(constant_slices(tmp_path))
    labels, generator = np.zeros((24, 20), np.uint8), np.random.default_rng(0)
    centres = [reader.draw_placement(generator, 0, 0, labels, None).centre for _ in range(200)]
    distances = np.abs(np.subtract(centres, (12, 10)))
    largest = reader.profile.shift * reader.configuration.input_size
    assert distances.max() <= largest
    assert (distances.max(axis=0) > 0.9 * largest).all()


@pytest.mark.parametrize(
    ("rows", "lowest", "highest"),
    [(32, 16 - 0.08 * 32, 16 + 0.08 * 32), (33, 16, 17), (40, 16, 24)],
)
def test_placements_move_over_what_the_input_leaves_of_a_slice(
    tmp_path: Path, rows: int, lowest: float, highest: float
) -> None:
    """An input of 32 pixels shows nothing beyond the slice, unless all of the slice fits."""
    image = np.full((1, 1, rows, 44), 5, np.uint8)
    reader = make_reader(make_case(tmp_path, image, 0 * image[0]))
    labels, generator = np.zeros((rows, 44), np.uint8), np.random.default_rng(0)
    centres = [reader.draw_placement(generator, 0, 0, labels, None).centre for _ in range(200)]
    limits = np.array([[lowest, highest], [16, 28]])
    found = np.array([np.min(centres, axis=0), np.max(centres, axis=0)]).T
    assert np.array_equal(found, found.clip(limits[:, :1], limits[:, 1:]))
    width = limits[:, 1:] - limits[:, :1]
    assert (np.abs(found - limits) < 0.05 * width).all()


def test_placements_show_the_wanted_pixel_anywhere_in_the_middle_of_the_input(
    tmp_path: Path,
) -> None:
    """The centre lies up to 0.7 halves of the input from the middle of the pixel."""
    labels = np.zeros((1, 100, 120), dtype=np.uint8)
    labels[0, 40, 65] = 1
    reader = make_reader(make_case(tmp_path, labels[None] + 9, labels))
    generator = np.random.default_rng(0)
    centres = [reader.draw_placement(generator, 0, 0, labels[0], 1).centre for _ in range(500)]
    reach = 0.7 * reader.configuration.input_size / 2
    assert np.min(centres, axis=0) == pytest.approx((40.5 - reach, 65.5 - reach), abs=0.3)
    assert np.max(centres, axis=0) == pytest.approx((40.5 + reach, 65.5 + reach), abs=0.3)
    assert (np.abs(np.subtract(centres, (40.5, 65.5))) <= reach).all()


@pytest.mark.parametrize(
    ("augmentation", "is_bent"), [("planned", {False, True}), ("samed", {False}), ("none", {False})]
)
def test_some_placements_of_the_planned_augmentation_are_bent(
    tmp_path: Path, augmentation: str, is_bent: set[bool]
) -> None:
    reader = make_reader(constant_slices(tmp_path), augmentation=augmentation)
    labels, generator = np.zeros((24, 20), np.uint8), np.random.default_rng(0)
    placements = [reader.draw_placement(generator, 0, 0, labels, None) for _ in range(20)]
    assert {placement.bend_seed is not None for placement in placements} == is_bent


def test_frame_of_a_stack_has_the_planned_scale(tmp_path: Path) -> None:
    image = np.full((1, 6, 24, 20), 5, np.uint8)
    case = make_case(tmp_path, image, 0 * image[0], views=(1,), spacing=(3.0, 1.0, 0.5))
    frame = make_reader(case, views=(1,), slicing_axis=1, zoom=1.25).frame(0, 1)
    assert frame.size == (6, 20)
    assert frame.scale == pytest.approx((3.0 * 1.25, 0.5 * 1.25), rel=0.1)


@pytest.mark.parametrize("rows", [24, 93, 99])  # 93 / 2 is more than the rounded half of an input
def test_placements_of_a_stretched_slice_are_shifted_as_those_of_one_that_fits(
    tmp_path: Path, rows: int
) -> None:
    image = np.full((1, 1, rows, 40), 9, np.uint8)
    reader = make_reader(make_case(tmp_path, image, 0 * image[0]), frame="stretch")
    labels, generator = np.zeros((rows, 40), np.uint8), np.random.default_rng(0)
    centres = [reader.draw_placement(generator, 0, 0, labels, None).centre for _ in range(200)]
    shares = np.abs(np.subtract(centres, (rows / 2, 20))) / (rows, 40)
    assert (shares.max(axis=0) <= reader.profile.shift).all()
    assert (shares.max(axis=0) > 0.9 * reader.profile.shift).all()


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_stretched_slices_are_shown_with_their_margins_as_in_prediction(
    tmp_path: Path, axis: int
) -> None:
    """A window that does not begin at 0 tells what was cropped from what lies outside."""
    image = np.zeros((1, 8, 18, 24), np.float32)
    image[:, 1:7, 3:16, 5:20] = np.random.default_rng(0).uniform(50, 250, (6, 13, 15))
    labels = (image[0] > 150).astype(np.uint8)
    case = make_case(tmp_path, image, labels, views=(axis,))
    values = {
        "frame": "stretch",
        "slicing_axis": axis,
        "views": (axis,),
        "augmentation": "none",
        "intensity": (IntensityWindow("fixed", -50, 300),),
    }
    reader = make_reader(case, **values)
    frame = reader.frame(0, axis)
    assert frame.size == tuple(np.delete((8, 18, 24), axis))
    shown, drawn = reader.image(0, axis, 2), reader.labels(0, axis, 2)
    assert drawn.shape == frame.size
    placement = reader.draw_placement(np.random.default_rng(0), 0, axis, drawn, None)
    placed = place_image(shown, placement, 32)
    predictor = SlicePredictor(
        [FakeNetwork(2, lambda images: images)],
        reader.configuration,
        case.volume(),
        axis,
        mirror=False,
        label_scheme=TWO_CLASSES,
    )
    assert_close_to_norm(placed, predictor.canvases(2, 3)[0], 1e-5)
    whole = make_reader(case, **values | {"frame": "scale"}).labels(0, axis, 2)
    down, along = case.margins(axis)
    inner = drawn[down[0] : drawn.shape[0] - down[1], along[0] : drawn.shape[1] - along[1]]
    assert np.array_equal(inner, whole)
    assert drawn.sum() == whole.sum() > 0


def test_target_has_classes_or_a_mask_of_each_region(tmp_path: Path) -> None:
    case, labels = large_slice(tmp_path)
    regions = LabelScheme({"background": 0, "whole": (1, 2), "core": 2}, regions_class_order=(1, 2))
    plain, nested = make_reader(case), make_reader(case, label_scheme=regions)
    placement = plain.draw_placement(np.random.default_rng(0), 0, 0, labels, 1)
    size = plain.configuration.input_size
    assert plain.target(labels, placement).equal(place_labels(labels, placement, size, 2))
    expected = place_regions(labels, placement, size, 2, regions)
    assert nested.target(labels, placement).equal(expected)
    assert expected.shape == (2, size // 2, size // 2)


def test_half_of_the_planned_placements_are_bent(tmp_path: Path) -> None:
    case, labels = large_slice(tmp_path)
    for augmentation, share in (("planned", 0.5), ("samed", 0.0), ("none", 0.0)):
        reader, generator = make_reader(case, augmentation=augmentation), np.random.default_rng(0)
        placements = [reader.draw_placement(generator, 0, 0, labels, None) for _ in range(300)]
        bent = [placement.bend_seed is not None for placement in placements]
        assert np.mean(bent) == pytest.approx(share, abs=0.1)
