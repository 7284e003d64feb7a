from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from samnet.cli.convert_msd import main
from samnet.core.errors import DatasetFaults, UserError
from samnet.dataset.cases import RawDataset
from samnet.dataset.convert_msd import convert_task, read_task
from samnet.dataset.images import read_image
from samnet.dataset.integrity import verify_dataset

AFFINE = np.array([[0.0, -1.1, 0, 3], [0.9, 0, 0, -4], [0, 0, 2.5, 5], [0, 0, 0, 1]])


def write_task(folder: Path, channels: tuple[str, ...], slope: float = 1.0) -> Path:
    generator = np.random.default_rng(0)
    shape = (6, 5, 4, len(channels)) if len(channels) > 1 else (6, 5, 4)
    for part, names in (("Tr", ("a_1", "a_2")), ("Ts", ("a_3",))):
        for name in names:
            image = nibabel.Nifti1Image(generator.integers(0, 999, shape).astype(np.int16), AFFINE)
            image.header.set_slope_inter(slope, 0)
            save(image, folder / f"images{part}" / f"{name}.nii.gz")
            if part == "Tr":
                labels = nibabel.Nifti1Image(
                    generator.integers(0, 3, shape[:3]).astype(np.uint8), AFFINE
                )
                save(labels, folder / "labelsTr" / f"{name}.nii.gz")
    (folder / "imagesTr" / "._a_1.nii.gz").write_bytes(b"written by a file manager")
    content = {
        "name": "Synthetic",
        "modality": {str(number): name for number, name in enumerate(channels)},
        "labels": {"0": "background", "1": "liver", "2": "cancer"},
        "training": [
            {"image": f"./imagesTr/{name}.nii.gz", "label": f"./labelsTr/{name}.nii.gz"}
            for name in ("a_1", "a_2")
        ],
        "test": ["./imagesTs/a_3.nii.gz"],
    }
    (folder / "dataset.json").write_text(json.dumps(content))
    return folder


def save(image: nibabel.Nifti1Image, file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(image, file)


@pytest.mark.parametrize("slope", [1.0, 0.5])
@pytest.mark.parametrize("channels", [("CT",), ("T1", "T2", "FLAIR")])
def test_convert_msd_writes_a_data_set(
    tmp_path: Path, folders: dict[str, Path], channels: tuple[str, ...], slope: float
) -> None:
    source = write_task(tmp_path / "Task03_Liver", channels, slope)
    assert main(["-i", str(source)]) == 0
    dataset = RawDataset.load(3)
    assert dataset.name == "Dataset003_Liver"
    assert dataset.description.channel_names == channels
    assert dataset.description.label_scheme.class_names == ("liver", "cancer")
    verify_dataset(dataset, processes=0)
    assert [case.identifier for case in dataset.cases] == ["a_1", "a_2"]
    original = nibabel.load(source / "imagesTr" / "a_1.nii.gz")
    image = read_image(dataset.cases[0].image_files)
    expected = original.get_fdata().reshape(6, 5, 4, len(channels))
    assert np.array_equal(image.array, expected.transpose())
    assert np.allclose(image.grid.affine, AFFINE)
    assert nibabel.load(dataset.cases[0].image_files[0]).get_data_dtype() == np.int16
    assert len(list(dataset.folder.test_images.iterdir())) == len(channels)


def test_convert_msd_dry_run_writes_nothing(
    tmp_path: Path, folders: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    source = write_task(tmp_path / "Task03_Liver", ("T1", "T2"))
    assert main(["-i", str(source), "--dry-run"]) == 0
    printed = capsys.readouterr().out
    for part in (
        "2 training and 1 test cases",
        "T1, T2",
        "1 liver, 2 cancer",
        "would write",
        "Dataset003_Liver",
    ):
        assert part in printed
    assert os.listdir(folders["raw"]) == []


def test_convert_msd_overwrites_no_data_set(
    tmp_path: Path, folders: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    source = write_task(tmp_path / "Task03_Liver", ("CT",))
    (folders["raw"] / "Dataset003_Other").mkdir()
    assert main(["-i", str(source)]) == 2
    assert (
        "Dataset003_Other: has the number 3 already; choose another with -d"
        in capsys.readouterr().err
    )
    assert main(["-i", str(source), "-d", "4", "--name", "Mine"]) == 0
    assert sorted(os.listdir(folders["raw"])) == ["Dataset003_Other", "Dataset004_Mine"]
    assert main(["-i", str(source), "-d", "5", "--name", "a/b"]) == 2


def test_read_task_reports_all_faults_together(tmp_path: Path) -> None:
    source = write_task(tmp_path / "Task03_Liver", ("T1", "T2"))
    (source / "labelsTr" / "a_1.nii.gz").unlink()
    (source / "imagesTs" / "a_3.nii.gz").write_bytes(b"cut")
    save(nibabel.Nifti1Image(np.zeros((6, 5, 4)), AFFINE), source / "imagesTr" / "a_2.nii.gz")
    with pytest.raises(DatasetFaults) as caught:
        read_task(source)
    report = str(caught.value)
    assert len(caught.value.faults) == 3
    assert "labelsTr/a_1.nii.gz: no such file" in report
    assert "imagesTs/a_3.nii.gz: cannot be read" in report
    assert 'imagesTr/a_2.nii.gz: has shape (6, 5, 4); "modality" names 2 channel(s)' in report


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"training": {}}, 'no list "training"'),
        ({"training": ["a.nii.gz"]}, 'expected "training" as'),
        ({"modality": ["CT"]}, r'"modality" is \[\'CT\'\]; expected'),
        ({"labels": {"background": 0}}, '"labels" is'),
    ],
)
def test_read_task_refuses_another_form(
    tmp_path: Path, changes: dict[str, Any], reason: str
) -> None:
    source = write_task(tmp_path / "Task03_Liver", ("CT",))
    content = json.loads((source / "dataset.json").read_text()) | changes
    (source / "dataset.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=reason):
        read_task(source)


def test_convert_task_that_fails_leaves_nothing(tmp_path: Path, folders: dict[str, Path]) -> None:
    task = read_task(write_task(tmp_path / "Task03_Liver", ("T1", "T2")))
    image = task.folder / "imagesTr" / "a_2.nii.gz"
    image.write_bytes(image.read_bytes()[:-60])
    with pytest.raises(UserError, match=r"a_2\.nii\.gz: cannot be read, it may be truncated"):
        convert_task(task, folders["raw"] / "Dataset003_Liver")
    assert os.listdir(folders["raw"]) == []


def test_read_task_refuses_names_that_occur_twice(tmp_path: Path) -> None:
    source = write_task(tmp_path / "Task03_Liver", ("CT",))
    content = json.loads((source / "dataset.json").read_text())
    content["labels"]["3"] = "Liver "
    save(nibabel.load(source / "imagesTr" / "a_1.nii.gz"), source / "more" / "a_1.nii.gz")
    content["training"].append({"image": "more/a_1.nii.gz", "label": "labelsTr/a_2.nii.gz"})
    (source / "dataset.json").write_text(json.dumps(content))
    with pytest.raises(DatasetFaults) as caught:
        read_task(source)
    report = str(caught.value)
    assert '"training" has 2 files of one name (./imagesTr/a_1.nii.gz, more/a_1.nii.gz)' in report
    assert '"labels" gives 1, 3 the same name (liver)' in report


def test_read_task_refuses_names_that_are_one_file_on_some_systems(tmp_path: Path) -> None:
    source = write_task(tmp_path / "Task03_Liver", ("CT",))
    content = json.loads((source / "dataset.json").read_text())
    save(nibabel.load(source / "imagesTs" / "a_3.nii.gz"), source / "more" / "A_3.nii.gz")
    content["test"].append("more/A_3.nii.gz")
    (source / "dataset.json").write_text(json.dumps(content))
    with pytest.raises(DatasetFaults) as caught:
        read_task(source)
    report = str(caught.value)
    assert '"test" has 2 files of one name (./imagesTs/a_3.nii.gz, more/A_3.nii.gz)' in report


def test_read_task_orders_classes_by_their_numbers(tmp_path: Path) -> None:
    source = write_task(tmp_path / "Task03_Liver", ("CT",))
    content = json.loads((source / "dataset.json").read_text())
    names = tuple(f"class {number}" for number in range(12))
    content["labels"] = {str(number): name for number, name in reversed([*enumerate(names)])}
    (source / "dataset.json").write_text(json.dumps(content))
    assert read_task(source).class_names == names


def test_read_task_takes_number_and_name_of_the_folder_it_is_called_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(write_task(tmp_path / "Task03_Liver", ("CT",)))
    task = read_task(Path())
    assert (task.number, task.name) == (3, "Liver")


@pytest.mark.parametrize("part", ["imagesTr", "labelsTr", "imagesTs", "labelsTs"])
def test_describe_names_files_that_are_not_listed(tmp_path: Path, part: str) -> None:
    source = write_task(tmp_path / "Task03_Liver", ("CT",))
    assert "left out" not in read_task(source).describe()
    extra = source / part / "a_9.nii.gz"
    save(nibabel.load(source / "imagesTr" / "a_1.nii.gz"), extra)
    assert f"left out, not listed in dataset.json: {extra}" in read_task(source).describe()
