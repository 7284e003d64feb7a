"""One mask for each class: finding the masks of a case, and merging them."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest
from builders.folders import convert, converted, labels_of, rows, save_image, save_mask
from PIL import Image

SUFFIXES = ("--class-suffixes", "_liver", "_tumour")


@pytest.mark.parametrize(
    "mask",
    [
        "{0}_{1}.png",
        "{0}_{1}_mask.png",
        "mask_{0}-{1}.png",
        "{1}_{0}.png",
        "{1}/{0}.png",
        "{1}/{0}_{1}.png",
        "{0}/{1}.png",
        "{0}/segmentations/{1}.png",
    ],
)
def test_masks_of_a_class_are_found_by_name_or_folder(
    tmp_path: Path, folders: dict[str, Path], mask: str
) -> None:
    for name in ("a1", "a2"):
        save_image(tmp_path / "images" / f"{name}.png")
        save_mask(tmp_path / "masks" / mask.format(name, "tumour"), "bottom", 255)
        save_mask(tmp_path / "masks" / mask.format(name, "liver"), "top")
    assert convert(tmp_path / "images", tmp_path / "masks", *SUFFIXES) == 0
    dataset = converted()
    assert dataset.description.labels == {"background": 0, "liver": 1, "tumour": 2}
    assert labels_of(dataset) == dict.fromkeys(("a1", "a2"), rows(top=1, bottom=2))


def test_a_folder_for_each_case_as_of_totalsegmentator(
    tmp_path: Path, folders: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("s0001", "s0002"):
        save_image(tmp_path / name / "ct.nii.gz")
        for organ, band in (("liver", "top"), ("liver_vessels", ""), ("spleen", "bottom")):
            save_mask(tmp_path / name / "segmentations" / f"{organ}.nii.gz", band)
    options = ("--class-suffixes", "spleen", "liver", "--labels", "Milz", "Leber")
    assert convert(tmp_path, tmp_path, *options) == 0
    dataset = converted()
    assert dataset.description.labels == {"background": 0, "Milz": 1, "Leber": 2}
    assert labels_of(dataset) == dict.fromkeys(("s0001_ct", "s0002_ct"), rows(top=2, bottom=1))
    file = tmp_path / "s0001" / "segmentations" / "liver_vessels.nii.gz"
    assert f"left out: {file}: mask of no class that is named" in capsys.readouterr().out


def test_images_and_masks_of_classes_lie_in_one_folder(
    tmp_path: Path, folders: dict[str, Path]
) -> None:
    for name in ("a1", "a2"):
        save_image(tmp_path / "data" / f"{name}.png")
        save_mask(tmp_path / "data" / f"{name}_liver.png", "top")
        save_mask(tmp_path / "data" / f"{name}_tumour.png", "bottom")
    assert convert(tmp_path / "data", tmp_path / "data", *SUFFIXES) == 0
    assert labels_of(converted())["a2"] == rows(top=1, bottom=2)


def write_cases(tmp_path: Path, *, liver: str = "top", value: int = 1) -> tuple[Path, Path]:
    for name in ("a", "b"):
        save_image(tmp_path / "images" / f"{name}.png")
        save_mask(tmp_path / "masks" / f"{name}_liver.png", liver, value)
        save_mask(tmp_path / "masks" / f"{name}_tumour.png", "middle")
    return tmp_path / "images", tmp_path / "masks"


def test_overlapping_masks_are_refused_with_count_and_files(
    tmp_path: Path, folders: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    images, masks = write_cases(tmp_path)
    assert convert(images, masks, *SUFFIXES) == 2
    error = capsys.readouterr().err
    for name in "ab":
        liver, tumour = (masks / f"{name}_{organ}.png" for organ in ("liver", "tumour"))
        assert f"{tumour}: overlaps in 32 voxels with {liver}" in error
    assert "--overlap last" in error


@pytest.mark.parametrize(
    ("overlap", "expected"),
    [("first", rows(middle=2, top=1)), ("last", rows(top=1, middle=2))],
)
def test_overlap_takes_the_first_or_last_class(
    tmp_path: Path, folders: dict[str, Path], overlap: str, expected: list[int]
) -> None:
    assert convert(*write_cases(tmp_path), *SUFFIXES, "--overlap", overlap) == 0
    assert labels_of(converted())["a"] == expected


def test_a_missing_mask_is_named_or_taken_as_empty(
    tmp_path: Path, folders: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    images, masks = write_cases(tmp_path, liver="bottom")
    (masks / "b_liver.png").unlink()
    assert convert(images, masks, *SUFFIXES) == 2
    assert f"{masks / 'b_tumour.png'}: the case b has no mask of liver" in capsys.readouterr().err
    assert convert(images, masks, *SUFFIXES, "--allow-missing-masks") == 0
    assert "b: no mask of liver, taken as empty" in capsys.readouterr().out
    expected = {"a": rows(bottom=1, middle=2), "b": rows(middle=2)}
    assert labels_of(converted()) == expected


def test_a_case_without_any_mask_is_not_taken_as_empty(
    tmp_path: Path, folders: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    images, masks = write_cases(tmp_path, liver="bottom")
    save_image(images / "c.png")
    assert convert(images, masks, *SUFFIXES, "--allow-missing-masks") == 2
    assert f"{images / 'c.png'}: has no partner" in capsys.readouterr().err


def test_a_mask_of_one_class_with_several_values_is_refused(
    tmp_path: Path, folders: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    images, masks = write_cases(tmp_path, liver="bottom")
    labels = "b_liver.png"
    save_mask(masks / labels, "bottom", 200)
    _add_value(masks / labels, 17)
    assert convert(images, masks, *SUFFIXES) == 2
    error = capsys.readouterr().err
    assert f"{masks / labels}: holds 2 values other than 0 (17, 200)" in error
    assert convert(images, masks, *SUFFIXES, "--nearest") == 0
    assert labels_of(converted())["b"] == rows(bottom=1, middle=2)


def _add_value(file: Path, value: int) -> None:
    array = np.asarray(Image.open(file)).copy()
    array[0, 0] = value
    Image.fromarray(array).save(file)


def test_masks_of_a_case_with_other_shapes_are_refused(
    tmp_path: Path, folders: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    images, masks = write_cases(tmp_path, liver="bottom")
    save_image(masks / "b_tumour.png", 0, (12, 16))
    assert convert(images, masks, *SUFFIXES, "--binary") == 2
    assert f"{masks / 'b_tumour.png'}: shape (1, 12, 16)" in capsys.readouterr().err


def test_masks_of_a_case_in_other_places_are_refused(
    tmp_path: Path, folders: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    images, masks = tmp_path / "images", tmp_path / "masks"
    save_image(images / "a.nii.gz")
    save_mask(masks / "a_liver.nii.gz", "top")
    save_mask(masks / "a_tumour.nii.gz", "bottom")
    tumour = nibabel.load(masks / "a_tumour.nii.gz")
    shifted = tumour.affine + np.outer([0, 0, 1, 0], [0, 0, 0, 9])
    nibabel.save(nibabel.Nifti1Image(tumour.get_fdata(), shifted), masks / "a_tumour.nii.gz")
    assert convert(images, masks, *SUFFIXES) == 2
    error = capsys.readouterr().err
    assert f"{masks / 'a_tumour.nii.gz'}: " in error
    assert "(origin [0.0, 0.0, 9.0] and not [0.0, 0.0, 0.0]); save the masks of a case on" in error


@pytest.mark.parametrize("names", [("liver",), ("liver", "Liver"), ("background", "x")])
def test_labels_that_do_not_name_each_class_are_refused(
    tmp_path: Path, folders: dict[str, Path], names: tuple[str, ...]
) -> None:
    source = write_cases(tmp_path, liver="bottom")
    assert convert(*source, *SUFFIXES, "--labels", *names) == 2


@pytest.mark.parametrize("options", [("--overlap", "last"), ("--allow-missing-masks",)])
def test_options_for_masks_of_classes_need_the_classes(
    tmp_path: Path,
    folders: dict[str, Path],
    capsys: pytest.CaptureFixture[str],
    options: tuple[str, ...],
) -> None:
    assert convert(*write_cases(tmp_path), *options) == 2
    assert f"{options[0]}: is for masks of one class each" in capsys.readouterr().err


def test_a_class_without_a_voxel_is_named(
    tmp_path: Path, folders: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert convert(*write_cases(tmp_path, liver=""), *SUFFIXES) == 0
    assert "warning: liver: no voxel of any case" in capsys.readouterr().out
