from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from builders.dicom import write_series
from PIL import Image

from samnet.core.errors import UserError
from samnet.dataset.cases import (
    Case,
    RawDataset,
    find_image_files,
    find_label_files,
    find_prediction_cases,
    label_file_of,
)
from samnet.dataset.description import DatasetDescription
from samnet.dataset.images import read_image
from samnet.dataset.integrity import verify_dataset

AWKWARD_NAMES = ["a", "größe mit Leerzeichen", "脾 001", "x.y_z", "case_01", "p_0001_0002"]


def description(num_channels: int = 1, file_ending: str = ".nii.gz") -> DatasetDescription:
    names = tuple(f"channel {number}" for number in range(num_channels))
    return DatasetDescription(names, {"background": 0, "liver": 1}, None, file_ending)


def touch(folder: Path, names: Sequence[str]) -> None:
    for name in names:
        (folder / name).touch()


def found(cases: Sequence[Case]) -> dict[str, list[str]]:
    return {case.identifier: file_names(case) for case in cases}


def file_names(case: Case) -> list[str]:
    return [file.name for file in case.image_files]


def test_raw_dataset_is_loaded_with_its_cases_in_order(
    folders: dict[str, Path], make_dataset: Callable[..., Path]
) -> None:
    folder = make_dataset(folders["raw"], num_cases=3, channels=("T1", "T2"), num_test=1)
    dataset = RawDataset.load(501)
    assert (dataset.name, dataset.folder.raw) == ("Dataset501_Tiny", folder)
    assert [case.identifier for case in dataset.cases] == ["case_00", "case_01", "case_02"]
    first = dataset.cases[0]
    assert first.image_files == tuple(
        folder / "imagesTr" / f"case_00_000{channel}.nii.gz" for channel in (0, 1)
    )
    assert first.label_file == folder / "labelsTr" / "case_00.nii.gz"
    assert read_image(first.image_files).array.shape == (2, 8, 24, 20)


def test_raw_dataset_without_images_is_refused(
    folders: dict[str, Path], make_dataset: Callable[..., Path]
) -> None:
    folder = make_dataset(folders["raw"], num_cases=1)
    (folder / "imagesTr" / "case_00_0000.nii.gz").rename(folder / "imagesTr" / "case_00.nii.gz")
    with pytest.raises(
        UserError, match=r"imagesTr: no image ending in _0000\.nii\.gz; name images CASE_0000"
    ):
        RawDataset.load(501)


def test_raw_dataset_without_a_folder_of_images_is_refused(
    folders: dict[str, Path], make_dataset: Callable[..., Path]
) -> None:
    folder = make_dataset(folders["raw"], num_cases=1)
    (folder / "imagesTr").rename(folder / "images")
    with pytest.raises(UserError, match="imagesTr: no such folder"):
        RawDataset.load(501)


def test_find_image_files_takes_names_of_any_letters(tmp_path: Path) -> None:
    touch(tmp_path, [f"{name}_0000.nii.gz" for name in AWKWARD_NAMES])
    assert set(find_image_files(tmp_path, ".nii.gz")) == set(AWKWARD_NAMES)


def test_find_image_files_ignores_other_and_hidden_files(tmp_path: Path) -> None:
    touch(
        tmp_path,
        [
            "a_0000.nii.gz",
            "._a_0000.nii.gz",
            "b_0000.nrrd",
            "notes.txt",
            "c_000.nii.gz",
            "_0000.nii.gz",
        ],
    )
    assert list(find_image_files(tmp_path, ".nii.gz")) == ["a"]


@pytest.mark.parametrize("declared", [".nii", ".nii.gz"])
def test_raw_dataset_may_mix_compressed_and_plain_files(
    folders: dict[str, Path], make_dataset: Any, declared: str
) -> None:
    folder = make_dataset(folders["raw"], num_cases=3, channels=("T1", "T2"), file_ending=declared)
    other = ".nii" if declared == ".nii.gz" else ".nii.gz"
    for file in (
        folder / "imagesTr" / f"case_01_0001{declared}",
        folder / "labelsTr" / f"case_02{declared}",
    ):
        nibabel.save(nibabel.load(file), str(file).replace(declared, other))
        file.unlink()
    cases = RawDataset.load(501).cases
    assert [case.identifier for case in cases] == ["case_00", "case_01", "case_02"]
    assert cases[1].image_files[1].name == f"case_01_0001{other}"
    assert cases[2].label_file == folder / "labelsTr" / f"case_02{other}"
    assert all(file.is_file() for case in cases for file in (*case.image_files, case.label_file))
    verify_dataset(RawDataset.load(501), processes=0)


@pytest.mark.parametrize("name", ["a_0000", "a"])
def test_find_prediction_cases_refuses_a_file_under_two_endings(tmp_path: Path, name: str) -> None:
    touch(tmp_path, [f"{name}.nii", f"{name}.nii.gz"])
    with pytest.raises(
        UserError,
        match=rf"{name}\.nii\.gz: exists under another ending as well, {name}\.nii; remove",
    ):
        find_prediction_cases(tmp_path, description())


@pytest.mark.parametrize("name", ["a_0000", "a"])
def test_find_label_files_refuses_two_label_maps_of_a_case(tmp_path: Path, name: str) -> None:
    touch(tmp_path, [f"{name}.nii", f"{name}.nii.gz"])
    with pytest.raises(
        UserError,
        match=rf"{name}\.nii\.gz: the case has a label map already, {name}\.nii; remove one",
    ):
        find_label_files(tmp_path, [".nii", ".nii.gz"])


def test_find_label_files_finds_those_of_the_given_endings(tmp_path: Path) -> None:
    touch(tmp_path, ["b.nii", "a.nii.gz", "c.png", "._d.nii"])
    found_files = find_label_files(tmp_path, [".nii", ".nii.gz"])
    assert found_files == {"a": tmp_path / "a.nii.gz", "b": tmp_path / "b.nii"}
    with pytest.raises(UserError, match="nowhere: no such folder"):
        find_label_files(tmp_path / "nowhere", [".nii"])


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["a.png", "a.nii", "b.png"], "a.png"),
        (["a.tif", "a.nii.gz"], "a.nii.gz"),
        (["b.png"], None),
        ([], None),
    ],
)
def test_label_file_of_prefers_the_ending_that_samnet_writes(
    tmp_path: Path, names: list[str], expected: str | None
) -> None:
    touch(tmp_path, names)
    file = label_file_of(Case("a", (Path("images/a.jpg"),)), tmp_path)
    assert file == (None if expected is None else tmp_path / expected)


def test_raw_dataset_may_have_another_ending_for_label_maps(
    folders: dict[str, Path], make_dataset: Any
) -> None:
    folder = make_dataset(folders["raw"], num_cases=2, file_ending=".png")
    for file in (folder / "imagesTr").iterdir():
        Image.open(file).save(file.with_suffix(".jpg"))
        file.unlink()
    content = json.loads((folder / "dataset.json").read_text()) | {"file_ending": ".jpg"}
    (folder / "dataset.json").write_text(json.dumps(content))
    dataset = RawDataset.load(501)
    assert [case.label_file for case in dataset.cases] == [
        folder / "labelsTr" / f"case_0{n}.png" for n in (0, 1)
    ]
    verify_dataset(dataset, processes=0)
    for file in (folder / "labelsTr").iterdir():
        Image.open(file).save(file.with_suffix(".bmp"))
        file.unlink()
    (folder / "dataset.json").write_text(json.dumps(content | {"label_file_ending": ".bmp"}))
    verify_dataset(RawDataset.load(501), processes=0)


def test_raw_files_of_a_case_include_the_voxels_of_a_header(tmp_path: Path) -> None:
    touch(tmp_path, ["a.raw", "b.nii"])
    (tmp_path / "a.mhd").write_text("ElementDataFile = a.raw\n")
    case = Case("a", (tmp_path / "a.mhd", tmp_path / "gone.nii"), tmp_path / "b.nii")
    assert case.raw_files() == [tmp_path / "a.mhd", tmp_path / "a.raw", tmp_path / "b.nii"]


def test_prediction_cases_of_dicom_series(tmp_path: Path) -> None:
    for name in ("anna/ct", "anna/mr", "bert"):
        write_series(tmp_path / "in" / name, np.ones((1, 4, 5)), [(0, 0, 0)])
    cases = find_prediction_cases(tmp_path / "in", description())
    assert [(case.identifier, case.image_files) for case in cases] == [
        ("anna_ct", (tmp_path / "in" / "anna" / "ct",)),
        ("anna_mr", (tmp_path / "in" / "anna" / "mr",)),
        ("bert", (tmp_path / "in" / "bert",)),
    ]
    (one,) = find_prediction_cases(tmp_path / "in" / "bert", description())
    assert (one.identifier, one.image_files) == ("bert", (tmp_path / "in" / "bert",))
    with pytest.raises(
        UserError,
        match=r"IM0000\.dcm: one file of a DICOM series; give the folder of the series, .*bert",
    ):
        find_prediction_cases(tmp_path / "in" / "bert" / "IM0000.dcm", description())


def test_find_image_files_orders_channels_and_names_gaps(tmp_path: Path) -> None:
    touch(tmp_path, ["a_0010.nii.gz", "a_0002.nii.gz", "a_0000.nii.gz"])
    files = find_image_files(tmp_path, ".nii.gz")["a"]
    assert [file.name for file in files] == [f"a_{number:04d}.nii.gz" for number in range(11)]


@pytest.mark.parametrize("name", AWKWARD_NAMES)
def test_prediction_cases_of_a_folder_in_the_layout_of_nnunet(tmp_path: Path, name: str) -> None:
    touch(
        tmp_path, [f"{name}_0000.nii.gz", f"{name}_0001.nii.gz", "z_0000.nii.gz", "z_0001.nii.gz"]
    )
    cases = find_prediction_cases(tmp_path, description(2))
    assert found(cases) == {
        case: [f"{case}_0000.nii.gz", f"{case}_0001.nii.gz"] for case in sorted([name, "z"])
    }
    assert all(case.label_file is None for case in cases)


@pytest.mark.parametrize("name", AWKWARD_NAMES[:-1])
@pytest.mark.parametrize("source", ["folder", "file"])
def test_prediction_case_of_a_file_without_channel_number(
    tmp_path: Path, name: str, source: str
) -> None:
    touch(tmp_path, [f"{name}.nii.gz"])
    cases = find_prediction_cases(
        tmp_path if source == "folder" else tmp_path / f"{name}.nii.gz", description()
    )
    assert found(cases) == {name: [f"{name}.nii.gz"]}


def test_prediction_cases_of_files_with_and_without_channel_numbers(tmp_path: Path) -> None:
    touch(tmp_path, ["b_0000.nii.gz", "a.nii.gz"])
    cases = find_prediction_cases(tmp_path, description())
    assert found(cases) == {"a": ["a.nii.gz"], "b": ["b_0000.nii.gz"]}


def test_prediction_case_that_exists_twice_is_refused(tmp_path: Path) -> None:
    touch(tmp_path, ["a_0000.nii.gz", "a.nii.gz"])
    with pytest.raises(
        UserError, match=r"a\.nii\.gz: 'a' exists with and without a channel number"
    ):
        find_prediction_cases(tmp_path, description())


@pytest.mark.parametrize(
    ("names", "channels", "message"),
    [
        (["b_0000.nii.gz", "b_0001.nii.gz"], 1, "b_0001.nii.gz: has the channel number 0001"),
        (
            ["b_0000.nii.gz", "b.nii.gz"],
            1,
            "b.nii.gz: 'b' exists with and without a channel number",
        ),
        (["b.nii.gz"], 2, "b.nii.gz: has no channel number"),
    ],
)
def test_prediction_cases_with_unfit_names_stop_no_other_case(
    tmp_path: Path, names: list[str], channels: int, message: str
) -> None:
    others = [f"{case}_{channel:04d}.nii.gz" for case in "ac" for channel in range(channels)]
    touch(tmp_path, [*names, *others])
    a, b, c = find_prediction_cases(tmp_path, description(channels))
    assert (a.identifier, b.identifier, c.identifier) == ("a", "b", "c")
    assert (a.fault, c.fault) == (None, None)
    assert b.fault is not None
    assert b.fault.startswith(str(tmp_path / message))


def test_find_prediction_cases_names_all_files_where_no_name_fits(tmp_path: Path) -> None:
    touch(tmp_path, ["a.nii.gz", "b.nii.gz"])
    with pytest.raises(
        UserError,
        match=r"2 faults\n  1\. .*a\.nii\.gz.*\n  2\. .*b\.nii\.gz: has no channel number",
    ):
        find_prediction_cases(tmp_path, description(2))


@pytest.mark.parametrize("ending", [".png", ".tif", ".bmp", ".nrrd"])
def test_prediction_case_of_three_channels_may_be_one_colour_image(
    tmp_path: Path, ending: str
) -> None:
    touch(tmp_path, [f"a{ending}", f"b_0000{ending}"])
    cases = find_prediction_cases(tmp_path, description(3, ending))
    assert found(cases) == {"a": [f"a{ending}"], "b": [f"b_0000{ending}"]}


def test_prediction_cases_of_the_frames_of_a_video(tmp_path: Path) -> None:
    touch(tmp_path, ["video_0001.png", "video_0002.png", "video_0003.png"])
    frames = {f"video_{number:04d}": [f"video_{number:04d}.png"] for number in (1, 2, 3)}
    assert found(find_prediction_cases(tmp_path, description(3, ".png"))) == frames
    assert found(find_prediction_cases(tmp_path, description(1, ".png"))) == frames
    one = find_prediction_cases(tmp_path / "video_0002.png", description(1, ".png"))
    assert found(one) == {"video_0002": ["video_0002.png"]}


@pytest.mark.parametrize("source", ["", "a_0001.nii.gz"])
def test_prediction_case_with_a_channel_too_many_is_refused(tmp_path: Path, source: str) -> None:
    touch(tmp_path, ["a_0000.nii.gz", "a_0001.nii.gz"])
    with pytest.raises(
        UserError,
        match=r"a_0001\.nii\.gz: has the channel number 0001.* 0000 to 0000 \(channel 0\)",
    ):
        find_prediction_cases(tmp_path / source, description())


@pytest.mark.parametrize("present", ["0000", "0001", "0002"])
def test_prediction_case_holds_the_names_of_missing_channels(tmp_path: Path, present: str) -> None:
    touch(tmp_path, [f"a_{present}.nii.gz"])
    (case,) = find_prediction_cases(tmp_path, description(3))
    assert [file.name for file in case.image_files] == [
        f"a_{number:04d}.nii.gz" for number in range(3)
    ]


@pytest.mark.parametrize("source", ["", "a.nii.gz"])
def test_prediction_case_without_channel_number_is_refused_where_several_are_expected(
    tmp_path: Path, source: str
) -> None:
    touch(tmp_path, ["a.nii.gz"])
    with pytest.raises(
        UserError,
        match=r"a\.nii\.gz: has no channel number.*expected a_0000\.nii\.gz, a_0001\.nii\.gz",
    ):
        find_prediction_cases(tmp_path / source, description(2))


@pytest.mark.parametrize("chosen", ["a_0000.nii.gz", "a_0001.nii.gz"])
def test_prediction_case_of_one_file_has_all_its_channels(tmp_path: Path, chosen: str) -> None:
    touch(tmp_path, ["a_0000.nii.gz", "a_0001.nii.gz", "b_0000.nii.gz", "b_0007.nii.gz"])
    cases = find_prediction_cases(tmp_path / chosen, description(2))
    assert found(cases) == {"a": ["a_0000.nii.gz", "a_0001.nii.gz"]}


def test_prediction_case_of_one_file_may_have_another_ending(tmp_path: Path) -> None:
    touch(tmp_path, ["a.nrrd"])
    assert found(find_prediction_cases(tmp_path / "a.nrrd", description())) == {"a": ["a.nrrd"]}


def test_prediction_case_of_one_file_may_have_a_relative_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch(tmp_path, ["a_0000.nii.gz"])
    monkeypatch.chdir(tmp_path)
    assert found(find_prediction_cases(Path("a_0000.nii.gz"), description())) == {
        "a": ["a_0000.nii.gz"]
    }


@pytest.mark.parametrize(
    ("names", "source", "reason"),
    [
        (
            [],
            "",
            r"no image ending in _0000\.nii\.gz \(nor any \.nii\.gz file, nor a DICOM series\)",
        ),
        (["a_0000.mha"], "", "no image ending in"),
        ([], "nowhere", "no such folder"),
        (["a.dcm"], "a.dcm", r"a\.dcm: unknown file ending; supported are \.nii\.gz"),
    ],
)
def test_find_prediction_cases_names_a_source_without_any(
    tmp_path: Path, names: list[str], source: str, reason: str
) -> None:
    touch(tmp_path, names)
    with pytest.raises(UserError, match=reason) as caught:
        find_prediction_cases(tmp_path / source, description())
    assert str(tmp_path / source) in str(caught.value)
