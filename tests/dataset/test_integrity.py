from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from builders.broken_input import CHANNELS, FAULTS, SHAPE, change, describe, put, truncate
from skimage import io

from samnet.core.errors import DatasetFaults, UserError
from samnet.dataset.cases import RawDataset
from samnet.dataset.faults import Fault, Report
from samnet.dataset.integrity import inspect_dataset, inspect_dataset_by_name, verify_dataset

MakeDataset = Callable[..., Path]
ODD_NAMES = ("größe mit Leerzeichen", "脾 001", "a.b_c")


def inspected(processes: int = 0) -> Report:
    return inspect_dataset(RawDataset.load(501), processes)


def kinds(findings: tuple[Fault, ...]) -> list[str]:
    return [finding.kind for finding in findings]


@pytest.fixture
def dataset(folders: dict[str, Path], make_dataset: MakeDataset) -> Path:
    return make_dataset(folders["raw"], num_cases=3, shape=SHAPE, channels=CHANNELS)


@pytest.mark.parametrize("processes", [0, 2])
@pytest.mark.parametrize("ending", [".nii.gz", ".png", ".nrrd"])
def test_a_good_data_set_has_no_faults(
    folders: dict[str, Path], make_dataset: MakeDataset, ending: str, processes: int
) -> None:
    make_dataset(folders["raw"], num_cases=2, file_ending=ending)
    assert inspected(processes) == Report("Dataset501_Tiny", 2)


@pytest.mark.parametrize("shape", [(1, 12, 10), (4, 12, 1), (1, 1, 9)])
def test_single_slices_and_any_names_are_no_faults(
    folders: dict[str, Path], make_dataset: MakeDataset, shape: tuple[int, int, int]
) -> None:
    dataset = make_dataset(folders["raw"], num_cases=3, shape=shape)
    for number, name in enumerate(ODD_NAMES):
        for file in sorted(dataset.glob(f"*/case_{number:02d}*")):
            file.rename(file.with_name(file.name.replace(f"case_{number:02d}", name)))
        change(dataset / "labelsTr" / f"{name}.nii.gz", put(1, np.uint8, (0, 0, 0)))
    report = inspected()
    assert (report.faults, report.num_cases) == ((), 3)


def test_an_ignore_label_is_declared(dataset: Path) -> None:
    describe(dataset, labels={"background": 0, "ball": 1, "ignore": 2})
    change(dataset / "labelsTr" / "case_00.nii.gz", put(2, np.uint8))
    assert inspected().faults == ()


@pytest.mark.parametrize("kind", FAULTS)
def test_a_fault_is_named_with_file_value_and_remedy(dataset: Path, kind: str) -> None:
    broken = FAULTS[kind]
    if kind == "names that differ in case only":
        describe(dataset, numTraining=4)
    broken.spoil(dataset / broken.file)
    faults = [
        fault
        for fault in inspected().faults
        if fault.file == str(dataset / (broken.named or broken.file))
    ]
    assert len(faults) == 1
    assert broken.value in faults[0].value
    assert broken.remedy in faults[0].remedy
    assert {fault.case for fault in inspected().faults} <= {"case_01", None}


@pytest.mark.parametrize("processes", [0, 2])
def test_all_kinds_are_one_report_and_nothing_is_written(
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
    before = {file: file.stat().st_mtime_ns for file in folders["raw"].parent.rglob("*")}

    faults = inspected(processes).faults
    for file, value, remedy in expected:
        assert any(
            file == fault.file and value in fault.value and remedy in fault.remedy
            for fault in faults
        ), value
    assert not any(fault.case == "case_00" for fault in faults)
    assert {file: file.stat().st_mtime_ns for file in folders["raw"].parent.rglob("*")} == before
    with pytest.raises(DatasetFaults, match=rf"^Dataset501_Tiny: {len(faults)} faults\n  1\. "):
        verify_dataset(RawDataset.load(501), processes)


def test_one_case_may_have_several_faults(dataset: Path) -> None:
    truncate(dataset / "imagesTr" / "case_00_0000.nii.gz")
    change(dataset / "imagesTr" / "case_00_0001.nii.gz", put(np.inf, np.float32))
    change(dataset / "labelsTr" / "case_00.nii.gz", lambda array: put(9, np.uint8)(array)[:-1])
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
    "no class": ({"labels": {"background": 0}}, ["no foreground class; mend it"]),
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
def test_the_faults_of_a_description_are_a_report_too(dataset: Path, kind: str) -> None:
    changes, expected = DESCRIPTIONS[kind]
    describe(dataset, **changes)
    faults = inspect_dataset_by_name(501, 0).faults
    assert {fault.file for fault in faults} == {str(dataset / "dataset.json")}
    assert len(faults) == len(expected)
    assert all(part in str(fault) for part, fault in zip(expected, faults, strict=True))


@pytest.mark.parametrize(
    ("name", "value"), [("dataset.json", "no such file"), ("imagesTr", "no such folder")]
)
def test_what_is_missing_altogether_is_a_report_too(dataset: Path, name: str, value: str) -> None:
    (dataset / name).rename(dataset / "elsewhere")
    (fault,) = inspect_dataset_by_name(501, 0).faults
    assert name in str(fault)
    assert value in fault.value


def test_there_is_no_report_of_an_unknown_data_set(dataset: Path) -> None:
    with pytest.raises(UserError, match="no data set '77'"):
        inspect_dataset_by_name(77, 0)


def test_spacings_of_microscopes_are_told_apart(
    folders: dict[str, Path], make_dataset: MakeDataset
) -> None:
    dataset = make_dataset(folders["raw"], num_cases=1, spacing=(2e-4, 2e-4, 2e-4))
    change(dataset / "labelsTr" / "case_00.nii.gz", affine=lambda affine: affine * (1, 1.01, 1, 1))
    (fault,) = inspected().faults
    assert fault.kind == "spacing"
    assert "spacing [0.0002, 0.000202, 0.0002] and not [0.0002, 0.0002, 0.0002]" in fault.value


def test_a_grey_picture_is_no_colour_case(
    folders: dict[str, Path], make_dataset: MakeDataset
) -> None:
    dataset = make_dataset(folders["raw"], num_cases=2, file_ending=".png")
    describe(dataset, channel_names={"0": "R", "1": "G", "2": "B"})
    picture = dataset / "imagesTr" / "case_01_0000.png"
    io.imsave(picture, np.repeat(io.imread(picture)[..., None], 3, axis=-1), check_contrast=False)
    (fault,) = inspected().faults
    assert "case_00_0000.png: the case has 1 channel(s) in 1 file(s), dataset.json names 3" in str(
        fault
    )


def test_255_is_no_mask_where_there_are_several_classes(dataset: Path) -> None:
    describe(dataset, labels={"background": 0, "ball": 1, "cube": 2})
    change(dataset / "labelsTr" / "case_00.nii.gz", lambda array: array * np.uint8(255))
    (fault,) = inspected().faults
    assert (fault.kind, fault.remedy) == (
        "undeclared labels",
        "correct the voxels, or declare the labels",
    )


def empty(array: np.ndarray) -> np.ndarray:
    return np.zeros_like(array)


def test_an_empty_label_map_is_a_remark_and_only_empty_ones_are_a_fault(dataset: Path) -> None:
    for number in range(3):
        assert kinds(inspected().faults) == []
        assert kinds(inspected().remarks) == ["background only"] * number
        change(dataset / "labelsTr" / f"case_{number:02d}.nii.gz", empty)
    (fault,) = inspected().faults
    assert str(fault).startswith(
        f"{dataset / 'labelsTr'}: not one of the label maps holds anything but background; "
    )


def test_what_may_be_meant_is_a_remark(dataset: Path) -> None:
    describe(dataset, labels={"background": 0, "ball": 1, "ignore": 2})
    change(dataset / "labelsTr" / "case_00.nii.gz", lambda array: np.full_like(array, 2))
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


def test_black_frames_are_not_the_same_image(
    folders: dict[str, Path], make_dataset: MakeDataset
) -> None:
    dataset = make_dataset(folders["raw"], num_cases=3, shape=SHAPE)
    for number in (0, 1):
        for folder, tail in (("imagesTr", "_0000"), ("labelsTr", "")):
            change(dataset / folder / f"case_{number:02d}{tail}.nii.gz", empty)
    assert inspected().faults == ()


def test_the_same_voxels_in_other_files_are_one_image(dataset: Path) -> None:
    for channel in (0, 1):
        file = dataset / "imagesTr" / f"case_02_000{channel}.nii.gz"
        shutil.copy(dataset / "imagesTr" / f"case_00_000{channel}.nii.gz", file)
        change(file)  # written anew: other bytes, as the time of compression is in them
    report = inspected()
    assert report.duplicates == (("case_00", "case_02"),)
    assert [(fault.kind, fault.case) for fault in report.faults] == [("case twice", "case_02")]


def test_many_remarks_of_a_kind_are_shortened_in_text_only() -> None:
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


def test_remarks_are_logged_and_stop_nothing(
    dataset: Path, caplog: pytest.LogCaptureFixture
) -> None:
    change(dataset / "labelsTr" / "case_00.nii.gz", empty)
    verify_dataset(RawDataset.load(501), 0)
    assert (
        f"{dataset / 'labelsTr' / 'case_00.nii.gz'}: holds background only; label it" in caplog.text
    )


def test_a_report_is_plain_json(dataset: Path) -> None:
    from samnet.core.records import to_json

    truncate(dataset / "imagesTr" / "case_00_0000.nii.gz")
    content = json.loads(json.dumps(to_json(inspected())))
    assert (content["dataset_name"], content["num_cases"], content["remarks"]) == (
        "Dataset501_Tiny",
        3,
        [],
    )
    assert set(content["faults"][0]) == {"kind", "case", "file", "value", "remedy"}
