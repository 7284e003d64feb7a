"""The rules of postprocessing, applied to label maps and kept as a file."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from samnet.core.errors import UserError
from samnet.core.geometry import Grid, spacing_affine
from samnet.dataset.label_scheme import LabelScheme
from samnet.postprocessing.rules import (
    POSTPROCESSING_FILE,
    Postprocessing,
    StructureRules,
    load_postprocessing,
)

CLASSES = LabelScheme({"background": 0, "liver": 1, "tumour": 2})
REGIONS = LabelScheme({"background": 0, "whole": (1, 2), "core": 2}, regions_class_order=(1, 2))
LARGEST = StructureRules(largest_component=True)


def grid_of(labels: np.ndarray, has_spacing: bool = True, is_2d: bool = False) -> Grid:
    spacing = (2.0, 1.0, 0.5) if has_spacing else (1.0, 1.0, 1.0)
    return Grid(labels.shape, spacing_affine(spacing), has_spacing, is_2d)


def two_parts(value: int = 1) -> np.ndarray:
    """Return a cube of 27 voxels of the label 1, and another part of 4 voxels of some label."""
    labels = np.zeros((4, 9, 9), dtype=np.uint8)
    labels[:3, :3, :3] = 1
    labels[0, 6:8, 6:8] = value
    return labels


def test_what_is_taken_from_a_class_becomes_background() -> None:
    labels = two_parts()
    labels[3, 8, 8] = 2
    changed = Postprocessing({"liver": LARGEST}).apply(labels, grid_of(labels), CLASSES)
    assert (changed == 1).sum() == 27
    assert changed[3, 8, 8] == 2  # another structure
    assert changed.dtype == labels.dtype
    assert (labels == 1).sum() == 31  # the given array stays


def test_nothing_to_change_gives_the_same_array() -> None:
    labels = two_parts()
    grid = grid_of(labels)
    assert Postprocessing().apply(labels, grid, CLASSES) is labels
    assert Postprocessing({"tumour": LARGEST}).apply(labels, grid, CLASSES) is labels
    assert Postprocessing({"liver": StructureRules()}).apply(labels, grid, CLASSES) is labels


def test_a_hole_is_filled_where_it_is_background_alone() -> None:
    labels = np.ones((5, 5, 5), dtype=np.uint8)
    labels[1, 1, 1], labels[3, 3, 3] = 0, 2
    rules = {"liver": StructureRules(fill_holes=True)}
    changed = Postprocessing(rules).apply(labels, grid_of(labels), CLASSES)
    assert changed[1, 1, 1] == 1
    assert changed[3, 3, 3] == 2


def test_sizes_are_in_the_unit_of_the_image() -> None:
    labels = two_parts()  # a voxel is 1 mm3 large, so the small part is 4 mm3
    for smallest, left in ((4.0, 31), (4.1, 27)):
        rules = {"liver": StructureRules(smallest_size=smallest)}
        changed = Postprocessing(rules, "mm3").apply(labels, grid_of(labels), CLASSES)
        assert (changed == 1).sum() == left
    rules = {"liver": StructureRules(smallest_size=9.0)}
    flat = labels[:1]  # pixels of 0.5 mm2: components of 4.5 and 2 mm2
    changed = Postprocessing(rules, "mm2").apply(flat, grid_of(flat, is_2d=True), CLASSES)
    assert not changed.any()
    with pytest.raises(UserError, match=r"sizes in mm2, and the image's are in voxels"):
        Postprocessing(rules, "mm2").apply(labels, grid_of(labels, has_spacing=False), CLASSES)


def test_what_is_taken_from_a_region_becomes_the_region_around_it() -> None:
    labels = two_parts(value=2)
    labels[1, 1, 1] = 2  # a core of one voxel within, and one of four on its own
    changed = Postprocessing({"core": LARGEST}).apply(labels, grid_of(labels), REGIONS)
    assert changed[1, 1, 1] == 1
    assert (changed == 2).sum() == 4


def test_a_region_is_taken_away_with_the_regions_within_it() -> None:
    labels = two_parts(value=2)
    changed = Postprocessing({"whole": LARGEST}).apply(labels, grid_of(labels), REGIONS)
    assert (changed == 1).sum() == 27
    assert not (changed == 2).any()


ACROSS = [
    StructureRules(closed_gap=2),
    StructureRules(smooth_slices=True),
    StructureRules(fewest_slices=2),
]


def of_slices(text: str) -> np.ndarray:
    """Return labels, the same on all of each slice: 0 for a dot."""
    values = [0 if letter == "." else int(letter) for letter in text]
    return np.tile(np.array(values, np.uint8)[:, None, None], (1, 4, 5))


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        (ACROSS[0], "1111...1211"),
        (ACROSS[1], "1111....2.1"),
        (ACROSS[2], "..11....2.."),
    ],
)
def test_rules_across_slices_change_one_class_and_the_background(
    rules: StructureRules, expected: str
) -> None:
    """What lies on the last slice of the image stands for what would come after it."""
    labels = of_slices("1.11...12.1")
    changed = Postprocessing({"liver": rules}).apply(labels, grid_of(labels), CLASSES)
    assert np.array_equal(changed, of_slices(expected))


def test_smoothing_sees_the_slices_around_the_structure() -> None:
    labels = of_slices("..1..22.")
    rules = {"liver": ACROSS[1], "tumour": ACROSS[1]}
    changed = Postprocessing(rules).apply(labels, grid_of(labels), CLASSES)
    assert np.array_equal(changed, of_slices(".....22."))


@pytest.mark.parametrize("canonical", [0, 1, 2])
def test_slices_lie_across_the_axis_of_the_patient_however_the_file_lies(canonical: int) -> None:
    """The file has its slices Y, X, Z, and the patient's head at the last column."""
    labels = np.zeros((5, 6, 7), dtype=np.uint8)
    file_axis = {0: 2, 1: 0, 2: 1}[canonical]
    np.moveaxis(labels, file_axis, 0)[[1, 3]] = 1
    affine = np.zeros((4, 4))
    affine[2, 0] = affine[0, 1] = affine[1, 2] = affine[3, 3] = 1  # its x is Z, y is X, z is Y
    rules = Postprocessing({"liver": StructureRules(closed_gap=1)}, slicing_axis=canonical)
    changed = rules.apply(labels, Grid(labels.shape, affine), CLASSES)
    planes = np.moveaxis(changed, file_axis, 0)
    assert planes[1:4].all()
    assert not planes[[0, 4]].any()


@pytest.mark.parametrize("rules", ACROSS)
def test_nothing_is_done_across_slices_where_there_are_too_few(rules: StructureRules) -> None:
    lone = of_slices("1.")
    assert Postprocessing({"liver": rules}).apply(lone, grid_of(lone), CLASSES) is lone
    flat = two_parts()[:1]
    image = grid_of(flat, is_2d=True)
    assert Postprocessing({"liver": rules}).apply(flat, image, CLASSES) is flat


def test_what_a_region_has_on_a_single_slice_becomes_the_region_around_it() -> None:
    labels = of_slices("1112.111")
    changed = Postprocessing({"core": ACROSS[2]}).apply(labels, grid_of(labels), REGIONS)
    assert np.array_equal(changed, of_slices("1111.111"))
    filled = Postprocessing({"whole": ACROSS[0]}).apply(changed, grid_of(labels), REGIONS)
    assert np.array_equal(filled, of_slices("11111111"))


def test_rules_come_back_from_their_file(tmp_path: Path) -> None:
    rules = {
        "liver": StructureRules(fill_holes=True, largest_component=True),
        "tumour": StructureRules(smallest_size=12.5, closed_gap=2, smooth_slices=True),
    }
    written = Postprocessing(rules, "mm3", slicing_axis=2)
    written.save(tmp_path)
    assert load_postprocessing(tmp_path, CLASSES) == written
    assert written.describe() == [
        "liver: fill holes, keep the largest component",
        "tumour: close gaps of up to 2 slices, smooth across slices, leave out components below "
        "12.5 mm3",
    ]
    Postprocessing().save(tmp_path)
    assert not (tmp_path / POSTPROCESSING_FILE).exists()
    assert not load_postprocessing(tmp_path, CLASSES)


def test_rules_of_older_models_are_read(tmp_path: Path) -> None:
    content = '{"structures": {"liver": {"largest_component": true}}, "size_unit": "mm3"}'
    (tmp_path / POSTPROCESSING_FILE).write_text(content)
    assert load_postprocessing(tmp_path, CLASSES) == Postprocessing({"liver": LARGEST})
    rewritten = tmp_path / "again"
    Postprocessing({"liver": LARGEST}).save(rewritten)
    assert json.loads((rewritten / POSTPROCESSING_FILE).read_text()) == json.loads(content)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"structures": {"liver": {"closed_gap": -1}}}, "closed_gap of 'liver' is negative"),
        ({"structures": {}, "slicing_axis": 3}, r"slicing_axis is 3; it has to be 0 \(Z\), 1"),
        ({"structures": {"spleen": {}}}, "has rules for 'spleen', the model finds liver, tumour"),
        ({"structures": {"liver": {"smallest_size": -1}}}, "smallest_size of 'liver' is negative"),
        ({"structures": {"liver": {"largest": True}}}, "unknown key 'largest'"),
        ([], "expected an object"),
    ],
)
def test_a_damaged_file_is_refused(tmp_path: Path, content: object, message: str) -> None:
    (tmp_path / POSTPROCESSING_FILE).write_text(json.dumps(content))
    with pytest.raises(UserError, match=message):
        load_postprocessing(tmp_path, CLASSES)
