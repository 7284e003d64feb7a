"""Images of which each channel is a file of its own."""

from __future__ import annotations

from pathlib import Path

import pytest
from builders.folders import convert, converted, save_image, save_mask, values_of

SUFFIXES = ("--channel-suffixes", "_t1", "_t2")


@pytest.mark.parametrize(
    ("image", "mask", "options", "case"),
    [
        ("{}_{}.png", "{}.png", (), "{}"),
        ("{}_{}.nii.gz", "{}_seg.nii.gz", (), "{}"),
        ("img-{}-{}.png", "mask-{}.png", (), "img-{}"),
        ("{}/{}.png", "{}.png", (), "{}"),
        ("{1}/{0}.png", "{}.png", (), "{}"),
        ("{0}/{0}_{1}.nii.gz", "{0}/{0}_seg.nii.gz", ("--mask-suffix", "_seg"), "{0}_{0}"),
        ("sub-{}_{}.nii.gz", "sub-{}_label-x_mask.nii.gz", (), "sub-{}"),
    ],
)
def test_channels_are_stacked_in_the_given_order(
    tmp_path: Path,
    folders: dict[str, Path],
    image: str,
    mask: str,
    options: tuple[str, ...],
    case: str,
) -> None:
    for name in ("01", "02"):
        save_image(tmp_path / "images" / image.format(name, "t1"), 60)
        save_image(tmp_path / "images" / image.format(name, "t2"), 180)
        save_mask(tmp_path / "masks" / mask.format(name))
    source = tmp_path / "images", tmp_path / "masks"
    assert convert(*source, *SUFFIXES, *options) == 0
    dataset = converted()
    assert dataset.description.channel_names == ("t1", "t2")
    assert values_of(dataset) == {case.format(name): [60, 180] for name in ("01", "02")}


def test_images_and_masks_of_brats_lie_in_one_folder(
    tmp_path: Path, folders: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("BraTS_001", "BraTS_002"):
        for value, channel in ((40, "t1"), (80, "t1ce"), (120, "t2"), (160, "flair")):
            save_image(tmp_path / "data" / name / f"{name}_{channel}.nii.gz", value)
        save_mask(tmp_path / "data" / name / f"{name}_seg.nii.gz")
    source = tmp_path / "data", tmp_path / "data"
    options = ("--mask-suffix", "_seg", "--channel-suffixes", "_t1ce", "_t1", "_flair")
    assert convert(*source, *options, "--channels", "T1c", "T1", "FLAIR") == 0
    dataset = converted()
    assert dataset.description.channel_names == ("T1c", "T1", "FLAIR")
    assert list(values_of(dataset).values()) == [[80, 40, 160]] * 2
    printed = capsys.readouterr().out
    for name in ("BraTS_001", "BraTS_002"):
        file = tmp_path / "data" / name / f"{name}_t2.nii.gz"
        assert f"left out: {file}: of no channel that is named" in printed


def test_numbers_of_nnunet_are_channels_where_the_masks_have_none(
    tmp_path: Path, folders: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a", "b"):
        save_image(tmp_path / "images" / f"{name}_0000.png", 60)
        save_image(tmp_path / "images" / f"{name}_0001.png", 180)
        save_mask(tmp_path / "masks" / f"{name}.png")
    assert convert(tmp_path / "images", tmp_path / "masks") == 0
    assert values_of(converted()) == {"a": [60, 180], "b": [60, 180]}
    assert "channels by their numbers: _0000 _0001" in capsys.readouterr().out


def test_three_files_of_a_case_are_no_colours(tmp_path: Path, folders: dict[str, Path]) -> None:
    for number in range(3):
        save_image(tmp_path / "images" / f"a_{number:04d}.png", 60 * number)
    save_mask(tmp_path / "masks" / "a.png")
    assert convert(tmp_path / "images", tmp_path / "masks") == 0
    assert converted().description.channel_names == ("channel_0", "channel_1", "channel_2")


def test_numbers_are_cases_where_the_masks_have_them(
    tmp_path: Path, folders: dict[str, Path]
) -> None:
    for name in ("a_0000", "a_0001"):
        save_image(tmp_path / "images" / f"{name}.png", 60)
        save_mask(tmp_path / "masks" / f"{name}.png")
    assert convert(tmp_path / "images", tmp_path / "masks") == 0
    assert values_of(converted()) == {"a_0000": [60], "a_0001": [60]}


def write_cases(tmp_path: Path) -> tuple[Path, Path]:
    for name in ("a", "b"):
        for channel in ("t1", "t2"):
            save_image(tmp_path / "images" / f"{name}_{channel}.png")
        save_mask(tmp_path / "masks" / f"{name}.png")
    return tmp_path / "images", tmp_path / "masks"


def test_a_missing_channel_is_named(
    tmp_path: Path, folders: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    images, masks = write_cases(tmp_path)
    (images / "b_t2.png").unlink()
    assert convert(images, masks, *SUFFIXES) == 2
    expected = f"{images / 'b_t1.png'}: the case b has no file of the channel t2"
    assert expected in capsys.readouterr().err
    assert convert(images, masks, *SUFFIXES, "--skip-unmatched") == 0
    assert f"left out: {expected}" in capsys.readouterr().out
    assert list(values_of(converted())) == ["a"]


def test_channels_on_different_grids_are_refused(
    tmp_path: Path, folders: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    images, masks = write_cases(tmp_path)
    save_image(images / "b_t2.png", shape=(16, 12))
    assert convert(images, masks, *SUFFIXES) == 2
    assert f"{images / 'b_t2.png'}: shape (1, 16, 12)" in capsys.readouterr().err


def test_a_channel_that_no_file_has_is_refused(
    tmp_path: Path, folders: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    images, masks = write_cases(tmp_path)
    assert convert(images, masks, "--channel-suffixes", "_t1", "_T2") == 2
    assert f"--channel-suffixes _T2: {images} has no file" in capsys.readouterr().err


def test_two_files_of_a_channel_are_refused(
    tmp_path: Path, folders: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    images, masks = write_cases(tmp_path)
    save_image(images / "b_t2.bmp")
    assert convert(images, masks, *SUFFIXES) == 2
    assert "is the second file of t2 in the case b" in capsys.readouterr().err
