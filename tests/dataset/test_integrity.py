from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from builders.broken_input import (
    CHANNELS,
    FAULTS,
    SHAPE,
    change,
    crop,
    describe,
    mask_of_255,
    put,
    truncate,
)
from skimage import io

from samnet.core.errors import DatasetFaults, UserError
from samnet.core.records import to_json
from samnet.dataset.cases import RawDataset
from samnet.dataset.faults import Fault, Report
from samnet.dataset.integrity import inspect_dataset, inspect_dataset_by_name, verify_dataset

MakeDataset = Callable[..., Path]
ODD_NAMES = ("größe mit Leerzeichen", "脾 001", "a.b_c")


def inspected(processes: int = 0) -> Report:
    return inspect_dataset(RawDataset.load(501), processes)


def kinds(findings: tuple[Fault, ...]) -> list[str]:
    return [finding.kind for finding in findings]


def dates_of_files(folder: Path) -> dict[Path, int]:
    return {file: file.stat().st_mtime_ns for file in folder.rglob("*")}


@pytest.fixture
def dataset(folders: dict[str, Path], make_dataset: MakeDataset) -> Path:
    return make_dataset(folders["raw"], num_cases=3, shape=SHAPE, channels=CHANNELS)


@pytest.mark.parametrize("processes", [0, 2])
@pytest.mark.parametrize("ending", [".nii.gz", ".png", ".nrrd"])
def test_inspect_dataset_finds_nothing_in_a_good_one(
    folders: dict[str, Path], make_dataset: MakeDataset, ending: str, processes: int
) -> None:
    make_dataset(folders["raw"], num_cases=2, file_ending=ending)
    assert inspected(processes) == Report("Dataset501_Tiny", 2)


@pytest.mark.parametrize("shape", [(1, 12, 10), (4, 12, 1), (1, 1, 9)])
def test_inspect_dataset_allows_single_slices_and_any_names(
    folders: dict[str, Path], make_dataset: MakeDataset, shape: tuple[int, int, int]
) -> None:
    dataset = make_dataset(folders["raw"], num_cases=3, shape=shape)
    for number, name in enumerate(ODD_NAMES):
        for file in sorted(dataset.glob(f"*/case_{number:02d}*")):
            file.rename(file.with_name(file.name.replace(f"case_{number:02d}", name)))
        change(dataset / "labelsTr" / f"{name}.nii.gz", put(1, np.uint8, (0, 0, 0)))
    report = inspected()
    assert (report.faults, report.num_cases) == ((), 3)


def test_inspect_dataset_allows_the_declared_ignore_label(dataset: Path) -> None:
    describe(dataset, labels={"background": 0, "ball": 1, "ignore": 2})
    change(dataset / "labelsTr" / "case_00.nii.gz", put(2, np.uint8))
    assert inspected().faults == ()


@pytest.mark.parametrize("kind", FAULTS)
def test_inspect_dataset_names_a_fault_with_file_value_and_remedy(dataset: Path, kind: str) -> None:
    broken = FAULTS[kind]
    if kind == "names that differ in case only":
        describe(dataset, numTraining=4)
    broken.spoil(dataset / broken.file)
    named = str(dataset / (broken.named or broken.file))
    faults = inspected().faults
    (fault,) = [fault for fault in faults if fault.file == named]
    assert broken.value in fault.value
    assert broken.remedy in fault.remedy
    assert {fault.case for fault in faults} <= {"case_01", None}


@pytest.mark.parametrize("processes", [0, 2])
def test_inspect_dataset_reports_all_kinds_together_and_writes_nothing(
    folders: dict[str, Path], make_dataset: MakeDataset, processes: int
) -> None:
    dataset = make_dataset(
        folders["raw"], num_cases=len(FAULTS) + 1, shape=SHAPE, channels=CHANNELS
    )
    expected = []
    for number, broken in enumerate(FAULTS.values(), 1):  # case_00 stays whole
        file, named = broken.of_case(f"case_{number:02d}")
        broken.spoil(dataset / file)
        expected.append((str(dataset / named), broken.value, broken.remedy))
    assert len(expected) >= 40
    before = dates_of_files(folders["raw"].parent)

    faults = inspected(processes).faults
    for file, value, remedy in expected:
        of_file = [fault for fault in faults if fault.file == file]
        assert any(value in fault.value and remedy in fault.remedy for fault in of_file), value
    assert not any(fault.case == "case_00" for fault in faults)
    assert dates_of_files(folders["raw"].parent) == before
    with pytest.raises(DatasetFaults, match=rf"^Dataset501_Tiny: {len(faults)} faults\n  1\. "):
        verify_dataset(RawDataset.load(501), processes)


def test_inspect_dataset_finds_several_faults_of_one_case(dataset: Path) -> None:
    def spoil(array: np.ndarray) -> np.ndarray:
        return crop(put(9, np.uint8)(array))

    truncate(dataset / "imagesTr" / "case_00_0000.nii.gz")
    change(dataset / "imagesTr" / "case_00_0001.nii.gz", put(np.inf, np.float32))
    change(dataset / "labelsTr" / "case_00.nii.gz", spoil)
    assert kinds(inspected().faults) == [
        "unreadable image",
        "not finite",
        "undeclared labels",
        "shape",
    ]


DESCRIPTIONS: dict[str, tuple[dict[str, object], list[str]]] = {
    "gaps": (
        {"labels": {"background": 0, "ball": 1, "cube": 3}},
        ["has the values [0, 1, 3]; expected 0"],
    ),
    "no class": ({"labels": {"background": 0}}, ["no foreground class; fix it"]),
    "several": (
        {"file_ending": ".doc", "channel_names": {"1": "T1"}, "numTraining": "3"},
        [
            "keys ['1']; expected ['0']",
            "'.doc'; supported are",
            "numTraining\" is '3'; write the number",
        ],
    ),
}


@pytest.mark.parametrize("kind", DESCRIPTIONS)
def test_inspect_dataset_by_name_reports_the_faults_of_a_description(
    dataset: Path, kind: str
) -> None:
    changes, expected = DESCRIPTIONS[kind]
    describe(dataset, **changes)
    faults = inspect_dataset_by_name(501, 0).faults
    assert {fault.file for fault in faults} == {str(dataset / "dataset.json")}
    assert len(faults) == len(expected)
    assert all(part in str(fault) for part, fault in zip(expected, faults, strict=True))


@pytest.mark.parametrize(
    ("name", "value"), [("dataset.json", "no such file"), ("imagesTr", "no such folder")]
)
def test_inspect_dataset_by_name_reports_what_is_missing(
    dataset: Path, name: str, value: str
) -> None:
    (dataset / name).rename(dataset / "elsewhere")
    (fault,) = inspect_dataset_by_name(501, 0).faults
    assert name in str(fault)
    assert value in fault.value


def test_inspect_dataset_by_name_refuses_an_unknown_one(dataset: Path) -> None:
    with pytest.raises(UserError, match="no data set '77'"):
        inspect_dataset_by_name(77, 0)


def test_inspect_dataset_compares_the_spacings_of_microscopes(
    folders: dict[str, Path], make_dataset: MakeDataset
) -> None:
    dataset = make_dataset(folders["raw"], num_cases=1, spacing=(2e-4, 2e-4, 2e-4))
    change(dataset / "labelsTr" / "case_00.nii.gz", affine=lambda affine: affine * (1, 1.01, 1, 1))
    (fault,) = inspected().faults
    assert fault.kind == "spacing"
    assert "spacing [0.0002, 0.000202, 0.0002] and not [0.0002, 0.0002, 0.0002]" in fault.value


def test_inspect_dataset_finds_a_grey_image_among_colour_images(
    folders: dict[str, Path], make_dataset: MakeDataset
) -> None:
    dataset = make_dataset(folders["raw"], num_cases=2, file_ending=".png")
    describe(dataset, channel_names={"0": "R", "1": "G", "2": "B"})
    file = dataset / "imagesTr" / "case_01_0000.png"
    io.imsave(file, np.repeat(io.imread(file)[..., None], 3, axis=-1), check_contrast=False)
    (fault,) = inspected().faults
    expected = "case_00_0000.png: the case has 1 channel(s) in 1 file(s), dataset.json names 3"
    assert expected in str(fault)


def test_inspect_dataset_takes_255_for_no_mask_where_there_are_several_classes(
    dataset: Path,
) -> None:
    describe(dataset, labels={"background": 0, "ball": 1, "cube": 2})
    change(dataset / "labelsTr" / "case_00.nii.gz", mask_of_255)
    (fault,) = inspected().faults
    assert fault.kind == "undeclared labels"
    assert fault.remedy == "correct the voxels, or declare the labels"


def brighter(array: np.ndarray) -> np.ndarray:
    return array + 1


def test_images_without_labels_are_checked_as_others_and_need_no_label_map(dataset: Path) -> None:
    shutil.copytree(dataset / "imagesTr", dataset / "imagesUn")
    for file in (dataset / "imagesUn").iterdir():
        change(file, brighter)
    assert inspected() == Report("Dataset501_Tiny", 3)
    damaged = dataset / "imagesUn" / "case_01_0000.nii.gz"
    truncate(damaged)
    stray = dataset / "imagesUn" / "other.nii.gz"
    shutil.copy(dataset / "imagesUn" / "case_00_0000.nii.gz", stray)
    report = inspected()
    assert sorted(fault.file for fault in report.faults) == [str(damaged), str(stray)]
    assert "no channel number" in kinds(report.faults)


def test_images_without_labels_that_are_those_of_training_cases_are_a_remark(
    dataset: Path,
) -> None:
    (dataset / "imagesUn").mkdir()
    for channel in ("0000", "0001"):
        image = dataset / "imagesTr" / f"case_01_{channel}.nii.gz"
        shutil.copy(image, dataset / "imagesUn" / f"other_{channel}.nii.gz")
    report = inspected()
    assert report.faults == ()
    (remark,) = report.remarks
    assert remark.file == str(dataset / "imagesUn" / "other_0000.nii.gz")
    assert remark.value == "the same image as that of the training case case_01"


def empty(array: np.ndarray) -> np.ndarray:
    return np.zeros_like(array)


def test_empty_label_map_is_a_remark_and_only_empty_ones_are_a_fault(dataset: Path) -> None:
    for number in range(3):
        assert kinds(inspected().faults) == []
        assert kinds(inspected().remarks) == ["background only"] * number
        change(dataset / "labelsTr" / f"case_{number:02d}.nii.gz", empty)
    (fault,) = inspected().faults
    assert str(fault).startswith(f"{dataset / 'labelsTr'}: no label map contains any foreground; ")


def inverted(array: np.ndarray) -> np.ndarray:
    return 1 - array


def ignored_around(array: np.ndarray) -> np.ndarray:
    """Take an inverted mask, and ignore it but for a voxel of the ball."""
    ignored = np.where(array == 1, 2, 0).astype(array.dtype)
    ignored.flat[np.flatnonzero(array == 0)[0]] = 1
    return ignored


def test_inverted_mask_is_a_remark_and_an_ignored_border_is_not(dataset: Path) -> None:
    describe(dataset, labels={"background": 0, "ball": 1})
    change(dataset / "labelsTr" / "case_01.nii.gz", inverted)
    report = inspected()
    assert report.faults == ()
    (remark,) = report.remarks
    assert (remark.kind, remark.case) == ("inverted mask", "case_01")
    assert "label 1 covers" in remark.value
    describe(dataset, labels={"background": 0, "ball": 1, "ignore": 2})
    change(dataset / "labelsTr" / "case_01.nii.gz", ignored_around)
    assert inspected().remarks == ()


def all_ignored(array: np.ndarray) -> np.ndarray:
    return np.full_like(array, 2)


def test_inspect_dataset_remarks_on_what_may_be_intended(dataset: Path) -> None:
    describe(dataset, labels={"background": 0, "ball": 1, "ignore": 2})
    change(dataset / "labelsTr" / "case_00.nii.gz", all_ignored)
    shutil.copy(dataset / "labelsTr" / "case_01.nii.gz", dataset / "labelsTr" / "case_02.nii.gz")
    shutil.copy(
        dataset / "imagesTr" / "case_02_0000.nii.gz", dataset / "imagesTr" / "case_02_0001.nii.gz"
    )
    for channel in (0, 1):
        change(dataset / "imagesTr" / f"case_00_000{channel}.nii.gz", empty)
    report = inspected()
    assert report.faults == ()
    assert kinds(report.remarks) == [
        "channel twice",
        "nothing labelled",
        "constant image",
        "channel twice",
        "label map twice",
    ]


def test_black_frames_are_no_duplicate_images(
    folders: dict[str, Path], make_dataset: MakeDataset
) -> None:
    dataset = make_dataset(folders["raw"], num_cases=3, shape=SHAPE)
    for number in (0, 1):
        for folder, tail in (("imagesTr", "_0000"), ("labelsTr", "")):
            change(dataset / folder / f"case_{number:02d}{tail}.nii.gz", empty)
    assert inspected().faults == ()


def test_duplicate_images_are_found_by_their_voxels(dataset: Path) -> None:
    for channel in (0, 1):
        file = dataset / "imagesTr" / f"case_02_000{channel}.nii.gz"
        shutil.copy(dataset / "imagesTr" / f"case_00_000{channel}.nii.gz", file)
        change(file)  # written again: other bytes, as they hold the time of compression
    report = inspected()
    assert report.duplicates == (("case_00", "case_02"),)
    assert [(fault.kind, fault.case) for fault in report.faults] == [("case twice", "case_02")]


@pytest.mark.parametrize("other", ["shape", "type"])
def test_equal_bytes_of_another_shape_or_type_are_no_duplicates(
    folders: dict[str, Path], make_dataset: MakeDataset, other: str
) -> None:
    dataset = make_dataset(folders["raw"], num_cases=2, shape=SHAPE)
    for part in ("imagesTr/case_0{}_0000.nii.gz", "labelsTr/case_0{}.nii.gz"):
        source, copy = (dataset / part.format(number) for number in (0, 1))
        shutil.copy(source, copy)
        if other == "type":
            change(copy, lambda array: array.view(np.int8))
        else:
            change(copy, lambda array: array.reshape(5, 24, 4, order="F"))
    assert inspected().duplicates == ()


def test_duplicate_images_with_one_label_map_are_reported_once(dataset: Path) -> None:
    for part in ("imagesTr/case_0{}_0000", "imagesTr/case_0{}_0001", "labelsTr/case_0{}"):
        source, copy = (dataset / f"{part.format(number)}.nii.gz" for number in (0, 2))
        shutil.copy(source, copy)
    report = inspected()
    assert kinds(report.faults) == ["case twice"]
    assert report.remarks == ()


def test_report_shortens_many_remarks_of_a_kind_in_its_text() -> None:
    remarks = tuple(
        Fault("background only", f"{number}.nii", "empty", "label it") for number in range(9)
    )
    report = Report("Dataset501_Tiny", 9, (), (*remarks, Fault("other", "x", "odd", "look")))
    assert str(report).splitlines() == [
        "Dataset501_Tiny: 9 cases, no faults",
        "  to look at:",
        *(f"  - {number}.nii: empty; label it" for number in range(5)),
        "  - x: odd; look",
        "  - 4 more of this kind: background only",
    ]


def test_verify_dataset_logs_remarks_and_raises_nothing(
    dataset: Path, caplog: pytest.LogCaptureFixture
) -> None:
    change(dataset / "labelsTr" / "case_00.nii.gz", empty)
    verify_dataset(RawDataset.load(501), 0)
    file = dataset / "labelsTr" / "case_00.nii.gz"
    assert f"{file}: holds background only; label it" in caplog.text


def test_report_can_be_written_as_json(dataset: Path) -> None:
    truncate(dataset / "imagesTr" / "case_00_0000.nii.gz")
    content = json.loads(json.dumps(to_json(inspected())))
    assert content["dataset_name"] == "Dataset501_Tiny"
    assert (content["num_cases"], content["remarks"]) == (3, [])
    assert set(content["faults"][0]) == {"kind", "case", "file", "value", "remedy"}


def test_inspect_dataset_takes_grey_stored_in_colour_for_one_channel(
    folders: dict[str, Path], make_dataset: MakeDataset
) -> None:
    dataset = make_dataset(folders["raw"], num_cases=2, file_ending=".png")
    for file in (dataset / "imagesTr").iterdir():
        pixels = io.imread(file)
        io.imsave(file, np.stack([pixels] * 3, axis=-1), check_contrast=False)
    assert inspected().faults == ()
    pixels = np.random.default_rng(0).integers(0, 255, (24, 20, 3)).astype(np.uint8)
    io.imsave(dataset / "imagesTr" / "case_00_0000.png", pixels, check_contrast=False)
    assert kinds(inspected().faults) == ["number of channels"]
