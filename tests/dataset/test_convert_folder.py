from __future__ import annotations

import os
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK
from PIL import Image

from samnet.cli.convert_folder import main
from samnet.core.errors import DatasetFaults
from samnet.dataset.cases import RawDataset
from samnet.dataset.convert_folder import plan_conversion
from samnet.dataset.images import read_image, read_labels
from samnet.dataset.integrity import verify_dataset

RED, GREEN, BLACK = (200, 0, 0), (0, 200, 0), (0, 0, 0)


def save(folder: Path, name: str, array: np.ndarray) -> None:
    folder.mkdir(exist_ok=True)
    options = {"quality": 90} if "jp" in name else {}
    Image.fromarray(array.astype(np.uint8)).save(folder / name, **options)


def colours(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(1, 255, (16, 16, 3))


def mask(*values: int, height: int = 16) -> np.ndarray:
    """Return a mask that is black at the top, followed by a band for each value."""
    array = np.zeros((height, 16))
    for index, value in enumerate(values, 1):
        array[4 * index : 4 * index + 4] = value
    return array


def convert(tmp_path: Path, *options: str) -> int:
    source = ["--images", str(tmp_path / "images"), "--masks", str(tmp_path / "masks")]
    return main([*source, "-d", "7", "--name", "Polyps", *options])


@pytest.mark.parametrize(
    ("image", "label"),
    [
        ("{}.jpg", "{}.png"),
        ("{}.png", "{}_mask.png"),
        ("img_{}.bmp", "mask_{}.png"),
        ("{}.JPG", "{}_segmentation.PNG"),
        ("{}_image.tif", "{}-gt.tif"),
        ("{}.jpeg", "{}.jpg"),
    ],
)
def test_convert_folder_maps_masks_of_0_and_255(
    tmp_path: Path, folders: dict[str, Path], image: str, label: str
) -> None:
    for seed, name in enumerate(("a 1", "b", "c")):
        save(tmp_path / "images", image.format(name), colours(seed))
        save(tmp_path / "masks", label.format(name), mask(255))
    assert convert(tmp_path, "--labels", "polyp") == 0
    dataset = RawDataset.load(7)
    verify_dataset(dataset, processes=0)
    assert dataset.description.channel_names == ("R", "G", "B")
    assert dataset.description.labels == {"background": 0, "polyp": 1}
    assert len(dataset.cases) == 3
    for case in dataset.cases:
        assert case.label_file is not None
        assert np.array_equal(read_labels(case.label_file).array[0, 0], mask(1))


def test_convert_folder_maps_values_and_colours_to_consecutive_labels(
    tmp_path: Path, folders: dict[str, Path]
) -> None:
    drawn = np.zeros((16, 16, 3))
    drawn[4:8], drawn[8:12], drawn[12:] = (255, 255, 255), GREEN, RED
    save(tmp_path / "images", "a.png", colours())
    save(tmp_path / "masks", "a.png", drawn)
    save(tmp_path / "images", "b.png", colours(1))
    save(tmp_path / "masks", "b.png", mask(255))
    assert convert(tmp_path) == 0
    dataset = RawDataset.load(7)
    assert dataset.description.label_scheme.class_names == (
        "class_255",
        "class_#00c800",
        "class_#c80000",
    )
    first, second = (
        read_labels(case.label_file).array[0, 0] for case in dataset.cases if case.label_file
    )
    assert np.array_equal(first, mask(1, 2, 3))
    assert np.array_equal(second, mask(1))
    verify_dataset(dataset, processes=0)


def test_convert_folder_keeps_the_geometry_of_volumes(
    tmp_path: Path, folders: dict[str, Path]
) -> None:
    affine = np.array([[0.0, -1.1, 0, 3], [0.9, 0, 0, -4], [0, 0, 2.5, 5], [0, 0, 0, 1]])
    for part in ("images", "masks"):
        (tmp_path / part).mkdir()
    labels = np.random.default_rng(0).choice([0, 2, 420], (6, 5, 4)).astype(np.float32)
    nibabel.save(
        nibabel.Nifti1Image(np.arange(120.0).reshape(6, 5, 4), affine),
        tmp_path / "images" / "scan.nii",
    )
    nibabel.save(nibabel.Nifti1Image(labels, affine), tmp_path / "masks" / "scan.nii.gz")
    assert convert(tmp_path, "--channels", "CT", "--labels", "liver", "spleen") == 0
    (case,) = RawDataset.load(7).cases
    verify_dataset(RawDataset.load(7), processes=0)
    assert case.label_file is not None
    back = nibabel.load(case.label_file)
    assert np.allclose(back.affine, affine)
    assert np.array_equal(np.asarray(back.dataobj), np.searchsorted([0, 2, 420], labels))


def test_convert_folder_joins_header_and_voxels_of_an_mhd(
    tmp_path: Path, folders: dict[str, Path]
) -> None:
    array = np.random.default_rng(0).integers(0, 2, (5, 6, 7)).astype(np.uint8)
    volume = SimpleITK.GetImageFromArray(array)
    volume.SetSpacing((0.5, 0.7, 3.0))
    for part in ("images", "masks"):
        (tmp_path / part).mkdir()
        SimpleITK.WriteImage(volume, str(tmp_path / part / "a.mhd"))
    assert convert(tmp_path) == 0
    (case,) = RawDataset.load(7).cases
    verify_dataset(RawDataset.load(7), processes=0)
    assert case.image_files[0].name == "a_0000.mha"
    image = read_image(case.image_files)
    assert np.array_equal(image.array[0], array)
    assert image.grid.spacing == pytest.approx((3.0, 0.7, 0.5))


def test_convert_folder_dry_run_shows_everything_and_writes_nothing(
    tmp_path: Path, folders: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    for name in "abcdefg":
        save(tmp_path / "images", f"{name}.jpg", colours())
        save(tmp_path / "masks", f"{name}_mask.png", mask(128, 255))
    save(tmp_path / "masks", "z.png", mask(255))
    assert convert(tmp_path, "--dry-run", "--skip-unmatched") == 0
    printed = capsys.readouterr().out
    for part in (
        "7 cases, channels: R, G, B",
        "a: a.jpg with a_mask.png",
        "... and 2 more",
        "128 becomes 1 (class_128)",
        f"left out, without a partner: {tmp_path / 'masks' / 'z.png'}",
        "would write",
    ):
        assert part in printed
    assert os.listdir(folders["raw"]) == []


def test_convert_folder_overwrites_no_data_set(
    tmp_path: Path, folders: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    (folders["raw"] / "Dataset007_Other").mkdir()
    assert convert(tmp_path) == 2
    assert "has the number 7 already" in capsys.readouterr().err


def test_plan_conversion_reports_all_faults_together(tmp_path: Path) -> None:
    images, masks = tmp_path / "images", tmp_path / "masks"
    for name in ("a", "b", "c", "alone"):
        save(images, f"{name}.png", colours())
    for name in ("a", "b_mask", "b_gt", "c"):
        save(masks, f"{name}.png", mask(255))
    save(masks, "a.png", mask(255, height=12))
    (masks / "c.png").write_bytes(b"cut")
    with pytest.raises(DatasetFaults) as caught:
        plan_conversion(images, masks)
    report = "\n".join(caught.value.faults)
    for name in ("images/alone.png", "images/b.png", "masks/b_mask.png", "masks/b_gt.png"):
        assert f"{tmp_path / name}: has no partner" in report
    assert "masks/a.png: shape (1, 12, 16) (z, y, x) differs" in report
    assert "masks/c.png: cannot be read" in report
    assert len(caught.value.faults) == 6


@pytest.mark.parametrize(
    ("masks", "options", "reason"),
    [
        (mask(), {}, "all masks are 0"),
        (np.arange(256).reshape(16, 16), {}, "hold 255 different values"),
        (mask(1, 2), {"label_names": ["liver"]}, "--labels liver: the masks hold 2 values (1, 2)"),
        (mask(1, 2), {"label_names": ["liver", "liver"]}, "give each its own name"),
        (mask(1), {"channel_names": ["CT"]}, "--channels names 1 channels, the images have 3"),
    ],
)
def test_plan_conversion_refuses_masks_and_names_that_do_not_fit(
    tmp_path: Path, masks: np.ndarray, options: dict, reason: str
) -> None:
    save(tmp_path / "images", "a.png", colours())
    save(tmp_path / "masks", "a.png", masks)
    with pytest.raises(DatasetFaults) as caught:
        plan_conversion(tmp_path / "images", tmp_path / "masks", **options)
    assert reason in str(caught.value)


def test_plan_conversion_refuses_files_that_do_not_belong_together(tmp_path: Path) -> None:
    save(tmp_path / "images", "a.png", colours())
    save(tmp_path / "images", "b.jpg", colours()[..., 0])
    for name in "ab":
        save(tmp_path / "masks", f"{name}.jpg", np.full((16, 16), 128))
    with pytest.raises(DatasetFaults) as caught:
        plan_conversion(tmp_path / "images", tmp_path / "masks")
    report = str(caught.value)
    assert "images: files of several kinds (1 .jpg, 1 .png)" in report
    assert "a.jpg: a JPEG mask that is more than black and white" in report
    for name in "ab":
        (tmp_path / "masks" / f"{name}.jpg").rename(tmp_path / "masks" / f"other_{name}.jpg")
    with pytest.raises(DatasetFaults, match="no case in common"):
        plan_conversion(tmp_path / "images", tmp_path / "masks")


def test_convert_folder_takes_grey_images_that_are_stored_in_colour(
    tmp_path: Path, folders: dict[str, Path]
) -> None:
    grey = colours()[..., 0]
    save(tmp_path / "images", "a.png", grey)
    save(tmp_path / "images", "b.png", np.stack([grey + 1] * 3, axis=-1))
    for name in "ab":
        save(tmp_path / "masks", f"{name}.png", mask(255) if name == "a" else mask(0, 255))
    assert convert(tmp_path) == 0
    dataset = RawDataset.load(7)
    verify_dataset(dataset, processes=0)
    assert dataset.description.channel_names == ("image",)


def test_convert_folder_takes_colours_where_one_image_is_not_grey(
    tmp_path: Path, folders: dict[str, Path]
) -> None:
    save(tmp_path / "images", "a.png", colours())
    save(tmp_path / "images", "b.png", np.stack([colours()[..., 0]] * 3, axis=-1))
    save(tmp_path / "images", "c.png", colours()[..., 0])
    for name in "abc":
        save(tmp_path / "masks", f"{name}.png", mask(255))
    with pytest.raises(DatasetFaults, match="1 images with 1, 2 images with 3"):
        plan_conversion(tmp_path / "images", tmp_path / "masks")


def test_convert_folder_leaves_transparent_parts_of_masks_unlabelled(
    tmp_path: Path, folders: dict[str, Path]
) -> None:
    drawn = mask(1)
    pixels = np.stack([np.full((16, 16), 255)] * 3 + [255 * drawn], axis=-1)
    save(tmp_path / "images", "a.png", colours())
    save(tmp_path / "masks", "a.png", pixels)
    assert convert(tmp_path) == 0
    (case,) = RawDataset.load(7).cases
    assert case.label_file is not None
    assert np.array_equal(read_labels(case.label_file).array[0, 0], drawn)
