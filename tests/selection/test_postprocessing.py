"""Postprocessing is taken where it is better beyond noise, and only there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from builders.label_maps import write_label_map
from PIL import Image

from samnet.core.errors import SamnetError
from samnet.dataset.label_scheme import LabelScheme
from samnet.postprocessing.rules import StructureRules
from samnet.selection.postprocessing import PostprocessingChoice, choose_postprocessing

SCHEME = LabelScheme({"background": 0, "organ": 1, "lesion": 2})
VOXEL = 6.0  # mm3, of `write_label_map`


def reference(number: int) -> np.ndarray:
    """Return an organ of one part, and lesions of 8 voxels and more of which there are two."""
    labels = np.zeros((8, 20, 20), dtype=np.uint8)
    labels[1:7, 2:9, 2 : 9 + number % 3] = 1
    labels[2:4, 14:16, 2:4] = 2
    labels[2:6, 14:17, 10:13] = 2
    return labels


def choose(tmp_path: Path, predictions: list[np.ndarray]) -> PostprocessingChoice:
    files = {}
    for number, prediction in enumerate(predictions):
        name = f"case_{number}"
        pair = (tmp_path / "preds" / f"{name}.nii.gz", tmp_path / "labels" / f"{name}.nii.gz")
        write_label_map(pair[0], prediction)
        write_label_map(pair[1], reference(number))
        files[name] = pair
    return choose_postprocessing(files, SCHEME, 0, {name: name for name in files})


def test_specks_of_an_organ_and_of_lesions_are_left_out(tmp_path: Path) -> None:
    """The organ keeps its largest part; the lesions, of which there are two, their large parts."""
    predictions = []
    for number in range(6):
        prediction = reference(number)
        prediction[0, 18, 2 * number % 17 :: 5] = 1
        prediction[7, 0, ::4] = 2
        predictions.append(prediction)
    choice = choose(tmp_path, predictions)
    rules = choice.postprocessing.structures
    assert rules["organ"].largest_component or rules["organ"].smallest_size
    assert rules["lesion"] == StructureRules(smallest_size=8 * VOXEL)
    assert list(rules) == ["organ", "lesion"]
    assert choice.postprocessing.size_unit == "mm3"
    assert choice.difference is not None
    assert choice.difference.low > 0
    printed = str(choice)
    assert "lesion: leave out components below 48 mm3" in printed
    assert f"{choice.difference.mean:+.4f}" in printed


def test_holes_are_filled_along_with_another_rule(tmp_path: Path) -> None:
    predictions = []
    for number in range(6):
        prediction = reference(number)
        prediction[3, 4, 4] = 0
        prediction[0, 18, 17] = 1
        predictions.append(prediction)
    rules = choose(tmp_path, predictions).postprocessing.structures
    assert list(rules) == ["organ"]
    assert rules["organ"].fill_holes
    assert rules["organ"].largest_component or rules["organ"].smallest_size


def test_nothing_is_taken_that_one_case_alone_speaks_for(tmp_path: Path) -> None:
    predictions = [reference(number) for number in range(6)]
    predictions[2][0, 18, 2:9] = 1
    choice = choose(tmp_path, predictions)
    assert not choice.postprocessing
    assert max(entry.difference.mean for entry in choice.tried) > 0
    assert "none, as no rule is better beyond noise" in str(choice)


def test_nothing_is_taken_that_removes_true_parts(tmp_path: Path) -> None:
    choice = choose(tmp_path, [reference(number) for number in range(6)])
    assert not choice.postprocessing
    largest = [
        entry
        for entry in choice.tried
        if entry.structure == "lesion" and entry.rules.largest_component
    ]
    assert largest[0].difference.high < 0


def test_what_is_rightly_removed_counts_where_the_structure_is_absent(tmp_path: Path) -> None:
    """Such a case has Dice 0 before and none after, which must not drop out of the comparison."""
    scheme = LabelScheme({"background": 0, "organ": 1})
    files = {}
    for number in range(12):
        name = f"case_{number}"
        truth = np.where(reference(number) == 1, 1, 0).astype(np.uint8)
        prediction = truth.copy()
        if number % 2:
            truth[:], prediction[:] = 0, 0
            prediction[0, 0, 0] = 1
        pair = (tmp_path / "preds" / f"{name}.nii.gz", tmp_path / "labels" / f"{name}.nii.gz")
        write_label_map(pair[0], prediction)
        write_label_map(pair[1], truth)
        files[name] = pair
    choice = choose_postprocessing(files, scheme, 0, {name: name for name in files})
    assert choice.postprocessing.structures["organ"].smallest_size > 0
    assert choice.difference is not None
    assert choice.difference.mean == pytest.approx(0.5)


def test_rules_across_slices_are_taken_where_slices_disagree(tmp_path: Path) -> None:
    """The organ is missed on a slice, and there are lesions on single slices next to true ones."""
    predictions = []
    for number in range(6):
        prediction = reference(number)
        prediction[3][prediction[3] == 1] = 0
        prediction[6, 15, 2 + number :: 4] = 2
        predictions.append(prediction)
    choice = choose(tmp_path, predictions)
    rules = choice.postprocessing.structures
    assert rules["organ"].closed_gap or rules["organ"].smooth_slices
    assert not (rules["organ"].closed_gap and rules["organ"].smooth_slices)
    assert rules["lesion"].is_across_slices or rules["lesion"].smallest_size
    tried = [entry.rules for entry in choice.tried if entry.structure == "lesion"]
    assert {StructureRules(fewest_slices=2), StructureRules(closed_gap=2)} <= set(tried)


def test_slices_of_the_planned_axis_are_looked_at(tmp_path: Path) -> None:
    """Of the gap across X nothing is seen across Z."""
    scheme = LabelScheme({"background": 0, "organ": 1})
    files = {}
    for number in range(6):
        truth = np.where(reference(number) == 1, 1, 0).astype(np.uint8)
        prediction = truth.copy()
        prediction[:, :, 5] = 0
        name = f"case_{number}"
        files[name] = (tmp_path / "preds" / f"{name}.nii.gz", tmp_path / f"{name}.nii.gz")
        write_label_map(files[name][0], prediction)
        write_label_map(files[name][1], truth)
    patients = {name: name for name in files}
    for axis, is_closed in ((0, False), (2, True)):
        chosen = choose_postprocessing(files, scheme, 0, patients, axis).postprocessing
        rules = chosen.structures.get("organ", StructureRules())
        assert rules.is_across_slices == is_closed
        assert chosen.slicing_axis == (axis if is_closed else 0)


def test_images_without_slices_have_no_rules_across_them(tmp_path: Path) -> None:
    files = {}
    for number in range(6):
        name = f"case_{number}"
        files[name] = (tmp_path / "preds" / f"{name}.png", tmp_path / f"{name}.png")
        files[name][0].parent.mkdir(exist_ok=True)
        for file in files[name]:
            Image.fromarray(reference(number)[3]).save(file)
    choice = choose_postprocessing(files, SCHEME, 0, {name: name for name in files})
    assert choice.tried
    assert not any(entry.rules.is_across_slices for entry in choice.tried)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    pair = (tmp_path / "preds.nii.gz", tmp_path / "labels.nii.gz")
    write_label_map(pair[0], reference(0))
    pair[1].write_bytes(b"no image")
    with pytest.raises(SamnetError, match=r"case: .*labels\.nii\.gz"):
        choose_postprocessing({"case": pair}, SCHEME, 0, {"case": "case"})
