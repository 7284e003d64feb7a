"""Odd names and folders: what is meant is found or suggested, and nothing is left out unsaid."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import nibabel
import numpy as np
import pytest
from builders.folders import convert, converted, labels_of, rows, save_image, save_mask


@pytest.mark.parametrize(
    ("image", "mask", "option"),
    [
        ("a{}_t1,a{}_t2", "a{}", "--channel-suffixes _t1 _t2"),
        ("a{}", "a{}_liver,a{}_tumour", "--class-suffixes _liver _tumour"),
        ("a{}", "a{}_manual", "--mask-suffix _manual"),
        ("a{}", "liver/a{},tumour/a{}", "--class-suffixes liver tumour"),
    ],
)
def test_names_that_begin_alike_suggest_an_option(
    tmp_path: Path,
    folders: dict[str, Path],
    capsys: pytest.CaptureFixture[str],
    image: str,
    mask: str,
    option: str,
) -> None:
    for number in (1, 2):
        for name in image.format(number, number).split(","):
            save_image(tmp_path / "images" / f"{name}.png")
        for band, name in zip(
            ("top", "bottom"), mask.format(number, number).split(","), strict=False
        ):
            save_mask(tmp_path / "masks" / f"{name}.png", band)
    source = tmp_path / "images", tmp_path / "masks"
    assert convert(*source, "--recursive") == 2
    assert f"; try {option}:" in capsys.readouterr().err
    assert convert(*source, *option.split()) == 0
    assert sorted(labels_of(converted())) == ["a1", "a2"]


def test_the_longest_beginning_that_is_an_image_tells_the_suffix_of_a_mask(
    tmp_path: Path, folders: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a", "a_1"):
        save_image(tmp_path / "images" / f"{name}.png")
        save_mask(tmp_path / "masks" / f"{name}_liver.png")
    assert convert(tmp_path / "images", tmp_path / "masks") == 2
    assert "; try --mask-suffix _liver:" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        ("A 1", "a 1"),
        (unicodedata.normalize("NFC", "Müller"), unicodedata.normalize("NFD", "Müller")),
    ],
)
def test_ways_to_write_a_name_make_no_difference(
    tmp_path: Path, folders: dict[str, Path], image: str, mask: str
) -> None:
    save_image(tmp_path / "images" / f"{image}.PNG")
    save_mask(tmp_path / "masks" / f"{mask}.png")
    assert convert(tmp_path / "images", tmp_path / "masks") == 0
    assert labels_of(converted()) == {image: rows(top=1)}


def test_a_mask_is_found_by_the_folder_of_its_image(
    tmp_path: Path, folders: dict[str, Path]
) -> None:
    """As in KiTS."""
    for name in ("case_00001", "case_00002"):
        save_image(tmp_path / name / "imaging.nii.gz")
        save_mask(tmp_path / name / "segmentation.nii.gz")
    options = ("--recursive", "--mask-suffix", "_segmentation")
    assert convert(tmp_path, tmp_path, *options) == 0
    assert list(labels_of(converted())) == ["case_00001_imaging", "case_00002_imaging"]


def test_several_images_in_the_folder_of_a_mask_are_refused(
    tmp_path: Path, folders: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("ct", "pet"):
        save_image(tmp_path / "images" / "p1" / f"{name}.png")
    save_mask(tmp_path / "masks" / "p1.png")
    assert convert(tmp_path / "images", tmp_path / "masks", "--recursive") == 2
    error = capsys.readouterr().err
    assert "2 image(s) and 1 mask(s) have this name or folder" in error
    assert "--channel-suffixes" in error


def write_pair(tmp_path: Path, name: str, mask: str | None = None) -> tuple[Path, Path]:
    save_image(tmp_path / "images" / name)
    save_mask(tmp_path / "masks" / (mask or name))
    return tmp_path / "images", tmp_path / "masks"


def test_folders_without_images_are_named(
    tmp_path: Path, folders: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    images, masks = write_pair(tmp_path, "a.png")
    (images / "dicom").mkdir()
    (images / "dicom" / "I0001").write_bytes(b"x")
    assert convert(images, masks) == 0
    assert f"left out: {images / 'dicom'}: a folder without" in capsys.readouterr().out


def test_many_other_files_are_named_together(
    tmp_path: Path, folders: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    images, masks = write_pair(tmp_path, "a.png")
    for number in range(8):
        save_image(images / f"p{number}" / "a.png")
        save_mask(masks / f"p{number}" / "a.png")
        (images / f"p{number}" / "a.json").write_text("{}")
    for name in (".DS_Store", "._a.png"):
        (images / name).write_bytes(b"x")
    assert convert(images, masks, "--recursive") == 0
    printed = capsys.readouterr().out
    assert f"left out: {images / 'p0' / 'a.json'} and 7 more files .json: is no image" in printed
    assert ".DS_Store" not in printed


def test_a_mask_with_another_geometry_is_named(
    tmp_path: Path, folders: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    images, masks = write_pair(tmp_path, "a.nii.gz")
    stored = nibabel.load(masks / "a.nii.gz")
    shifted = nibabel.Nifti1Image(np.asarray(stored.dataobj), np.diag([0.5, 0.5, 3.0, 1.0]))
    nibabel.save(shifted, masks / "a.nii.gz")
    assert convert(images, masks) == 0
    assert "1 masks have the shape of their image, but another geometry" in capsys.readouterr().out


@pytest.mark.parametrize("patients", [("anna", "ben"), ("p1", "p2")])
def test_cases_in_the_folder_of_a_patient_are_named_unless_the_names_tell_it(
    tmp_path: Path,
    folders: dict[str, Path],
    capsys: pytest.CaptureFixture[str],
    patients: tuple[str, ...],
) -> None:
    for patient in patients:
        for visit in ("v1", "v2"):
            write_pair(tmp_path, f"{patient}/{visit}.png")
    assert convert(tmp_path / "images", tmp_path / "masks", "--recursive") == 0
    is_warned = "has 2 cases, each taken as a patient" in capsys.readouterr().out
    assert is_warned == (patients[0] == "anna")
