"""Which mask belongs to which image: suffixes, folders in folders, equal names, held-out cases."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from samnet.cli.convert_folder import main
from samnet.core.errors import DatasetFaults, UserError
from samnet.dataset.cases import RawDataset
from samnet.dataset.convert_folder import plan_conversion
from samnet.dataset.mask_rules import MaskRules


def save(file: Path, *, is_mask: bool = False) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    array = np.random.default_rng(len(file.name)).integers(0, 255, (16, 16)).astype(np.uint8)
    if is_mask:
        array[:] = 0
        array[4:8] = 255
    Image.fromarray(array).save(file)


def pairs(images: Path, masks: Path, **rules: object) -> dict[str, tuple[str, str]]:
    cases = plan_conversion(images, masks, rules=MaskRules(**rules)).cases  # type: ignore[arg-type]
    return {name: (case.images[0].name, case.mask_files[0].name) for name, case in cases.items()}


def test_mask_suffix_separates_images_and_masks_in_one_folder(tmp_path: Path) -> None:
    for name in ("a", "b", "mask_b"):
        save(tmp_path / f"{name}.png")
        save(tmp_path / f"{name}_Segmentation.png", is_mask=True)
    assert pairs(tmp_path, tmp_path, suffix="_Segmentation") == {
        name: (f"{name}.png", f"{name}_Segmentation.png") for name in ("a", "b", "mask_b")
    }
    with pytest.raises(UserError, match="--mask-suffix"):
        plan_conversion(tmp_path, tmp_path)


def test_mask_suffix_takes_no_mask_without_it(tmp_path: Path) -> None:
    images, masks = tmp_path / "images", tmp_path / "masks"
    for name in ("a", "b"):
        save(images / f"{name}.png")
    save(masks / "a-lesion.png", is_mask=True)
    save(masks / "a-organ.png", is_mask=True)
    save(masks / "b.png", is_mask=True)
    with pytest.raises(DatasetFaults) as caught:
        plan_conversion(images, masks, rules=MaskRules(suffix="-lesion"))
    report = str(caught.value)
    for file in (images / "b.png", masks / "a-organ.png", masks / "b.png"):
        assert f"{file}: has no partner" in report


def test_folders_in_the_folders_are_named_or_taken(tmp_path: Path) -> None:
    images, masks = tmp_path / "images", tmp_path / "masks"
    for patient in ("p1", "p2"):
        save(images / patient / "image.png")
        save(masks / patient / "mask.png", is_mask=True)
    save(images / "x.png")
    save(masks / "x.png", is_mask=True)
    with pytest.raises(DatasetFaults, match="--recursive") as caught:
        plan_conversion(images, masks)
    assert str(images / "p1") in str(caught.value)
    assert pairs(images, masks, recursive=True) == {
        "p1_image": ("image.png", "mask.png"),
        "p2_image": ("image.png", "mask.png"),
        "x": ("x.png", "x.png"),
    }


def test_masks_may_lie_in_a_folder_of_the_images(tmp_path: Path) -> None:
    save(tmp_path / "a.png")
    save(tmp_path / "masks" / "a.png", is_mask=True)
    for recursive in (False, True):
        expected = {"a": ("a.png", "a.png")}
        assert pairs(tmp_path, tmp_path / "masks", recursive=recursive) == expected


def test_images_and_label_maps_of_bids(tmp_path: Path) -> None:
    labels = tmp_path / "derivatives" / "labels"
    for subject in ("sub-01", "sub-02"):
        save(tmp_path / subject / "anat" / f"{subject}_T1w.png")
        save(labels / subject / "anat" / f"{subject}_T1w_label-lesion_mask.png", is_mask=True)
    (tmp_path / "participants.tsv").write_text("participant_id")
    found = pairs(tmp_path, labels, suffix="_label-lesion_mask", recursive=True)
    assert found == {
        f"{subject}_T1w": (
            f"{subject}_T1w.png",
            f"{subject}_T1w_label-lesion_mask.png",
        )
        for subject in ("sub-01", "sub-02")
    }


def test_recursive_names_of_two_folders_that_meet_are_refused(tmp_path: Path) -> None:
    for part in ("images", "masks"):
        for name in ("a/b_c.png", "a_b/c.png", "d.png"):
            save(tmp_path / part / name, is_mask=part == "masks")
    with pytest.raises(DatasetFaults) as caught:
        pairs(tmp_path / "images", tmp_path / "masks", recursive=True)
    assert f"{tmp_path / 'images' / 'a' / 'b_c.png'}: has no partner of its own" in str(
        caught.value
    )


@pytest.mark.parametrize("skip", [False, True])
def test_equal_names_are_refused_even_where_files_may_be_skipped(
    tmp_path: Path, skip: bool
) -> None:
    images, masks = tmp_path / "images", tmp_path / "masks"
    for name in ("a.png", "a.bmp", "b.png"):
        save(images / name)
    for name in ("a.png", "b.png"):
        save(masks / name, is_mask=True)
    with pytest.raises(DatasetFaults) as caught:
        plan_conversion(images, masks, skip_unmatched=skip)
    assert f"{images / 'a.bmp'}: has no partner of its own" in str(caught.value)
    assert "2 image(s) and 1 mask(s) have this name" in str(caught.value)


def test_names_that_differ_in_case_only_are_refused(tmp_path: Path) -> None:
    for part in ("images", "masks"):
        for name in ("A.png", "a.png"):
            save(tmp_path / part / name, is_mask=part == "masks")
    if len(list((tmp_path / "images").iterdir())) == 1:
        pytest.skip("this file system does not tell upper from lower case")
    with pytest.raises(DatasetFaults, match="differ in upper and lower case only"):
        plan_conversion(tmp_path / "images", tmp_path / "masks")


def test_files_that_are_no_images_are_named(tmp_path: Path) -> None:
    save(tmp_path / "images" / "a.png")
    save(tmp_path / "masks" / "a.png", is_mask=True)
    (tmp_path / "images" / "b.webp").write_bytes(b"x")
    conversion = plan_conversion(tmp_path / "images", tmp_path / "masks")
    assert f"left out: {tmp_path / 'images' / 'b.webp'}: is no image" in conversion.describe()


def convert(tmp_path: Path, *options: str) -> int:
    source = ["--images", str(tmp_path / "images"), "--masks", str(tmp_path / "masks")]
    return main([*source, "-d", "7", "--name", "T", *options])


def test_test_share_holds_out_whole_patients(
    tmp_path: Path, folders: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    for patient in range(10):
        for image in "ab":
            save(tmp_path / "images" / f"p{patient}_{image}.png")
            save(tmp_path / "masks" / f"p{patient}_{image}.png", is_mask=True)
    assert convert(tmp_path, "--test-share", "0.2") == 0
    folder = folders["raw"] / "Dataset007_T"
    held_out = {file.name.removesuffix("_0000.png") for file in (folder / "imagesTs").iterdir()}
    assert len(held_out) == 4
    assert {file.stem for file in (folder / "labelsTs").iterdir()} == held_out
    kept = {case.identifier for case in RawDataset.load(7).cases}
    assert len(kept) == 16
    assert not {name[:2] for name in kept} & {name[:2] for name in held_out}
    assert f"held out for a test: {', '.join(sorted(held_out))}" in capsys.readouterr().out


def test_label_maps_have_the_ending_of_their_masks(
    tmp_path: Path, folders: dict[str, Path]
) -> None:
    for name in ("a.tif", "b.tiff"):
        save(tmp_path / "images" / name)
        save(tmp_path / "masks" / name, is_mask=True)
    assert convert(tmp_path) == 0
    label_files = [case.label_file for case in RawDataset.load(7).cases]
    assert [file.name for file in label_files if file is not None] == ["a.tif", "b.tiff"]


@pytest.mark.parametrize("share", ["1", "-0.1", "x", "nan"])
def test_test_share_that_is_none_is_refused(tmp_path: Path, share: str) -> None:
    with pytest.raises(SystemExit):
        convert(tmp_path, "--test-share", share)


def test_test_share_of_one_patient_is_refused(
    tmp_path: Path, folders: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    save(tmp_path / "images" / "a.png")
    save(tmp_path / "masks" / "a.png", is_mask=True)
    assert convert(tmp_path, "--test-share", "0.2") == 2
    assert "nothing would be left to train on" in capsys.readouterr().err
