from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
from skimage import io

from samnet.core.errors import DatasetFaults
from samnet.dataset.cases import RawDataset
from samnet.dataset.integrity import verify_dataset

SHIFTED = np.diag([1.0, 1.0, 2.0, 1.0])
SHIFTED[0, 3] = 3.0


def change(file: Path, edit: Callable[[np.ndarray], np.ndarray] = np.asarray, affine: np.ndarray | None = None) -> None:
    """Write a NIfTI file again with edited voxels (x, y, z) or another affine."""
    image = nibabel.load(file)
    array = edit(np.asarray(image.dataobj).copy())
    nibabel.save(nibabel.Nifti1Image(array, image.affine if affine is None else affine), file)


def put(value: float, dtype: type, place: tuple[int, int, int] = (3, 4, 5)) -> Callable[[np.ndarray], np.ndarray]:
    def edit(array: np.ndarray) -> np.ndarray:
        array = array.astype(dtype)
        array[place] = value
        return array

    return edit


def crop(array: np.ndarray) -> np.ndarray:
    return array[:-1]


def describe(folder: Path, **changes: object) -> None:
    content = json.loads((folder / "dataset.json").read_text())
    (folder / "dataset.json").write_text(json.dumps({**content, **changes}))


def faults_of(processes: int = 0) -> list[str]:
    with pytest.raises(DatasetFaults) as caught:
        verify_dataset(RawDataset.load(501), processes)
    return caught.value.faults


@pytest.fixture
def dataset(folders: dict[str, Path], make_dataset: Callable[..., Path]) -> Path:
    return make_dataset(folders["raw"], num_cases=3)


@pytest.mark.parametrize("processes", [0, 2])
@pytest.mark.parametrize("ending", [".nii.gz", ".png", ".nrrd"])
def test_a_good_data_set_has_no_faults(
    folders: dict[str, Path], make_dataset: Callable[..., Path], ending: str, processes: int
) -> None:
    make_dataset(folders["raw"], num_cases=2, file_ending=ending)
    verify_dataset(RawDataset.load(501), processes)


def test_an_ignore_label_is_declared(dataset: Path) -> None:
    describe(dataset, labels={"background": 0, "ball": 1, "ignore": 2})
    change(dataset / "labelsTr" / "case_00.nii.gz", put(2, np.uint8))
    verify_dataset(RawDataset.load(501), 0)


def drop(file: Path) -> None:
    file.unlink()


def truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-60])


def copy_from(source: str) -> Callable[[Path], None]:
    def spoil(file: Path) -> None:
        shutil.copy(file.with_name(source), file)

    return spoil


def add_channel(file: Path) -> None:
    shutil.copy(file, file.with_name(file.name.replace("_0000", "_0001")))


def edited(edit: Callable[[np.ndarray], np.ndarray]) -> Callable[[Path], None]:
    return lambda file: change(file, edit)


def described(**changes: object) -> Callable[[Path], None]:
    return lambda file: describe(file.parent, **changes)


IMAGE, LABELS = "imagesTr/case_01_0000.nii.gz", "labelsTr/case_01.nii.gz"
FAULTS: dict[str, tuple[str, Callable[[Path], None], str]] = {
    "no label map": (LABELS, drop, "missing; every case of imagesTr needs a label map"),
    "truncated image": (IMAGE, truncate, "cannot be read, it may be truncated"),
    "truncated label map": (LABELS, truncate, "cannot be read, it may be truncated"),
    "another shape": (LABELS, edited(crop), "shape (8, 24, 19) (z, y, x) differs from (8, 24, 20) of its image"),
    "another place": (LABELS, lambda file: change(file, affine=SHIFTED), "lies 3.0 voxels beside its image"),
    "undeclared values": (LABELS, edited(put(7, np.uint8)), "does not declare: 7 (1 voxels); correct the voxels"),
    "255 for 1": (LABELS, edited(lambda array: array * np.uint8(255)), "map 255 to 1"),
    "fractions": (LABELS, edited(put(0.5, np.float32)), "0.5 is not a whole number"),
    "not a number": (IMAGE, edited(put(np.nan, np.float32)), "1 voxels are NaN or infinite; replace them"),
    "a channel too many": (IMAGE, add_channel, "2 channel(s) in 2 file(s), dataset.json names 1: ['MRI']"),
    "an orphan": ("labelsTr/größe 9.nii.gz", copy_from("case_02.nii.gz"), "a label map without an image in imagesTr"),
    "no channel number": (
        "imagesTr/scan.nii.gz",
        copy_from("case_00_0000.nii.gz"),
        "call the first channel scan_0000.nii.gz",
    ),
    "another number of cases": (
        "dataset.json",
        described(numTraining=4),
        "numTraining is 4, imagesTr holds 3 cases; correct the number, or remove the key",
    ),
    "a patient key that finds nothing": (
        "dataset.json",
        described(patient_key=r"^patient\d+"),
        "finds nothing in 3 case names, such as case_00; write an expression",
    ),
}


@pytest.mark.parametrize("kind", FAULTS)
def test_a_fault_is_named_with_file_value_and_remedy(dataset: Path, kind: str) -> None:
    name, spoil, reason = FAULTS[kind]
    spoil(dataset / name)
    (fault,) = faults_of()
    assert str(dataset / name) in fault
    assert reason in fault


def test_a_gap_in_the_channels_names_the_missing_file(
    folders: dict[str, Path], make_dataset: Callable[..., Path]
) -> None:
    dataset = make_dataset(folders["raw"], num_cases=2, channels=("T1", "T2", "FLAIR"))
    (dataset / "imagesTr" / "case_01_0001.nii.gz").unlink()
    assert faults_of() == [f"{dataset / 'imagesTr' / 'case_01_0001.nii.gz'}: no such file"]


def test_not_a_number_is_found_in_its_channel(folders: dict[str, Path], make_dataset: Callable[..., Path]) -> None:
    dataset = make_dataset(folders["raw"], num_cases=1, channels=("T1", "T2"))
    change(dataset / "imagesTr" / "case_00_0001.nii.gz", put(np.inf, np.float32))
    assert faults_of()[0].startswith(str(dataset / "imagesTr" / "case_00_0001.nii.gz"))


def test_names_that_differ_in_case_only_are_a_fault(dataset: Path) -> None:
    for folder, tail in (("imagesTr", "_0000"), ("labelsTr", "")):
        shutil.copy(dataset / folder / f"case_00{tail}.nii.gz", dataset / folder / f"CASE_00{tail}.nii.gz")
    describe(dataset, numTraining=4)
    (fault,) = faults_of()
    assert "differ in upper and lower case only: case_00" in fault


def test_a_grey_picture_is_no_colour_case(folders: dict[str, Path], make_dataset: Callable[..., Path]) -> None:
    dataset = make_dataset(folders["raw"], num_cases=2, file_ending=".png")
    describe(dataset, channel_names={"0": "R", "1": "G", "2": "B"})
    picture = dataset / "imagesTr" / "case_01_0000.png"
    io.imsave(picture, np.repeat(io.imread(picture)[..., None], 3, axis=-1), check_contrast=False)
    (fault,) = faults_of()
    assert "case_00_0000.png: the case has 1 channel(s) in 1 file(s), dataset.json names 3" in fault


@pytest.mark.parametrize("processes", [0, 2])
def test_many_faults_are_one_report(
    folders: dict[str, Path], make_dataset: Callable[..., Path], processes: int
) -> None:
    dataset = make_dataset(folders["raw"], num_cases=len(FAULTS))
    describe(dataset, numTraining=99)
    expected = [(dataset / "dataset.json", "numTraining is 99")]
    for number, (name, spoil, reason) in enumerate(FAULTS.values()):
        if name != "dataset.json":
            file = dataset / name.replace("case_01", f"case_{number:02d}")
            spoil(file)
            expected.append((file, reason))

    faults = faults_of(processes)
    assert len(faults) == len(expected) == 13
    for file, reason in expected:
        assert any(str(file) in fault and reason in fault for fault in faults), (file, reason)
    report = str(DatasetFaults("Dataset501_Tiny", faults))
    assert report.startswith("Dataset501_Tiny: 13 faults\n  1. ")


def test_one_case_may_have_several_faults(dataset: Path) -> None:
    change(dataset / "imagesTr" / "case_00_0000.nii.gz", put(np.nan, np.float32))
    change(dataset / "labelsTr" / "case_00.nii.gz", lambda array: crop(put(9, np.uint8)(array)))
    assert len(faults_of()) == 3
