"""Values of masks that are not what they seem: other scales, stray values, instance numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from samnet.cli.convert_folder import main
from samnet.core.errors import DatasetFaults
from samnet.dataset.cases import RawDataset
from samnet.dataset.convert_folder import plan_conversion
from samnet.dataset.images import read_labels
from samnet.dataset.mask_rules import MaskRules
from samnet.dataset.mask_values import nearest_values
from samnet.dataset.masks import mask_codes

RED = 1 << 24 | 0xFF0000


def bands(*values: int) -> np.ndarray:
    """Return a mask of 40 x 40 with a band of four rows for each value."""
    mask = np.zeros((40, 40), np.uint16 if max(values, default=0) > 255 else np.uint8)
    for index, value in enumerate(values):
        mask[4 * index + 4 : 4 * index + 8] = value
    return mask


def write(tmp_path: Path, *masks: np.ndarray) -> tuple[Path, Path]:
    folders = tmp_path / "images", tmp_path / "masks"
    for folder in folders:
        folder.mkdir()
    for index, mask in enumerate(masks):
        noise = np.random.default_rng(index).integers(0, 255, mask.shape[:2]).astype(np.uint8)
        Image.fromarray(noise).save(folders[0] / f"a{index}.png")
        Image.fromarray(mask).save(folders[1] / f"a{index}.png")
    return folders


def convert(tmp_path: Path, *options: str) -> int:
    source = ["--images", str(tmp_path / "images"), "--masks", str(tmp_path / "masks")]
    return main([*source, "-d", "7", "--name", "T", *options])


def stored(number: int = 7) -> list[np.ndarray]:
    files = [case.label_file for case in RawDataset.load(number).cases]
    return [read_labels(file).array[0, 0] for file in files if file is not None]


def red(mask: np.ndarray) -> np.ndarray:
    return np.stack([mask, 0 * mask, 0 * mask], axis=-1).astype(np.uint8)


@pytest.mark.parametrize(
    "masks",
    [
        (bands(1), bands(255), bands(1)),
        (bands(1, 2), bands(128, 255)),
        (bands(1), bands(65535)),
        (bands(255), red(bands(255))),
        (bands(1), bands(), bands(200)),
    ],
    ids=["0-1-255", "several classes", "16 bits", "a colour", "an empty mask"],
)
def test_masks_in_two_scales_are_refused(tmp_path: Path, masks: tuple[np.ndarray, ...]) -> None:
    images, folder = write(tmp_path, *masks)
    with pytest.raises(DatasetFaults, match="no mask holds both") as caught:
        plan_conversion(images, folder)
    assert "a0.png" in str(caught.value)
    assert "--binary" in str(caught.value)


@pytest.mark.parametrize(
    "masks",
    [(bands(1), bands(2)), (bands(1, 255), bands(1), bands(255)), (bands(128), bands(255))],
)
def test_masks_of_different_classes_are_accepted(
    tmp_path: Path, masks: tuple[np.ndarray, ...]
) -> None:
    assert len(plan_conversion(*write(tmp_path, *masks)).labels) == 3


def test_binary_takes_all_values_as_one_class(tmp_path: Path, folders: dict[str, Path]) -> None:
    write(tmp_path, bands(1), bands(255))
    assert convert(tmp_path, "--binary", "--labels", "polyp") == 0
    assert RawDataset.load(7).description.labels == {"background": 0, "polyp": 1}
    for labels in stored():
        assert np.array_equal(labels, bands(1))


def test_values_that_are_all_named_are_taken_with_a_warning(
    tmp_path: Path, folders: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path, bands(1), bands(255))
    assert convert(tmp_path, "--labels", "polyp", "tool") == 0
    assert "warning: " in (printed := capsys.readouterr().out)
    assert "no mask holds both" in printed


def with_stray(mask: np.ndarray, *values: int) -> np.ndarray:
    mask = mask.copy()
    for index, value in enumerate(values):
        mask[20, index] = value
    return mask


@pytest.mark.parametrize(
    ("strays", "found"),
    [
        ((254,), "a1.png: stray values (254 in 1 voxels)"),
        ((3, 3, 200), "a1.png: stray values (3 in 2 voxels, 200 in 1 voxels)"),
    ],
)
def test_stray_values_are_named_with_file_value_and_count(
    tmp_path: Path, strays: tuple[int, ...], found: str
) -> None:
    images, masks = write(tmp_path, bands(255), with_stray(bands(255), *strays), bands(255))
    for names in (None, ["polyp"]):
        with pytest.raises(DatasetFaults) as caught:
            plan_conversion(images, masks, label_names=names)
        assert found in str(caught.value)
        assert "--nearest" in str(caught.value)


def test_nearest_replaces_stray_values(tmp_path: Path, folders: dict[str, Path]) -> None:
    write(tmp_path, bands(255), with_stray(bands(255), 3, 200), bands(255))
    assert convert(tmp_path, "--nearest") == 0
    assert RawDataset.load(7).description.labels == {"background": 0, "foreground": 1}
    expected = with_stray(bands(1), 0, 1)
    assert np.array_equal(stored()[1], expected)


def test_a_small_structure_in_several_masks_is_no_stray_value(tmp_path: Path) -> None:
    masks = [with_stray(bands(1, 1, 1), 2) for _ in range(3)]
    assert len(plan_conversion(*write(tmp_path, *masks)).labels) == 3


def test_nearest_values_compares_colours_by_their_channels() -> None:
    assert nearest_values([100, 200, RED, RED - (1 << 17)], [100, RED - (1 << 17)]) == {
        100: 0,
        RED - (1 << 17): RED,
    }


def test_nearest_values_compares_all_channels_of_colours() -> None:
    blue, green = 1 << 24 | 0x0000FF, 1 << 24 | 0x00FF00
    stray = [blue - 0x10, green - 0x1000, RED - 0x100000]
    assert nearest_values([blue, green, RED, *stray], stray) == dict(
        zip(stray, (blue, green, RED), strict=True)
    )


def test_more_classes_than_a_byte_holds_are_written(
    tmp_path: Path, folders: dict[str, Path]
) -> None:
    mask = np.arange(300, dtype=np.uint16).reshape(15, 20)
    write(tmp_path, mask)
    assert convert(tmp_path, "--labels", *(f"n{value}" for value in range(1, 300))) == 0
    assert np.array_equal(stored()[0], mask)


@pytest.mark.parametrize("colour", [(0, 255, 0), (255, 255, 255), (60, 255, 60)])
def test_bright_parts_of_a_mask_in_jpeg_are_labelled(
    tmp_path: Path, colour: tuple[int, int, int]
) -> None:
    drawn = np.where(bands(1)[..., None] > 0, colour, 0).astype(np.uint8)
    Image.fromarray(drawn).save(tmp_path / "a.jpg", quality=95, subsampling=0)
    assert np.array_equal(mask_codes(tmp_path / "a.jpg")[1][0], 255 * bands(1))


def test_instances_may_touch_themselves_by_a_corner(tmp_path: Path) -> None:
    corner = bands(1, 2, 3)
    corner[20, 20] = corner[21, 21] = 4
    with pytest.raises(DatasetFaults, match="numbers of instances"):
        plan_conversion(*write(tmp_path, corner, bands(1, 2)))


def test_instance_numbers_are_not_taken_for_classes(
    tmp_path: Path, folders: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path, bands(1, 2), bands(1, 2, 3, 4), bands(1))
    assert convert(tmp_path) == 2
    refused = capsys.readouterr().err
    assert "numbers of instances" in refused
    assert "from 1 to 4 (a1.png)" in refused
    assert convert(tmp_path, "--binary") == 0
    assert [int(labels.max()) for labels in stored()] == [1, 1, 1]


def test_classes_in_several_pieces_are_no_instances(tmp_path: Path) -> None:
    pieces = bands(1, 2, 3, 1)
    assert len(plan_conversion(*write(tmp_path, pieces, bands(1, 2))).labels) == 4


@pytest.mark.parametrize("names", [["Liver", "liver "], ["liver", "Background"]])
def test_label_names_that_differ_in_case_only_are_refused(tmp_path: Path, names: list[str]) -> None:
    with pytest.raises(DatasetFaults, match="give each its own name"):
        plan_conversion(*write(tmp_path, bands(1, 2)), label_names=names)


def test_the_rules_are_those_of_plan_conversion_too(tmp_path: Path) -> None:
    images, masks = write(tmp_path, bands(1), bands(255))
    conversion = plan_conversion(images, masks, rules=MaskRules(binary=True))
    assert conversion.values == {0: 0, 1: 1, 255: 1}
