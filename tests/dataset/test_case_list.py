from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from samnet.core.errors import DatasetFaults, UserError
from samnet.dataset.case_list import read_case_list
from samnet.dataset.cases import RawDataset
from samnet.dataset.integrity import verify_dataset

VALID_ENTRY = {"images": ["a_0000.nii.gz"], "label": "a.nii.gz"}


def write_case_list(folder: Path, entries: Any) -> Path:
    path = folder / "dataset.json"
    content = json.loads(path.read_text()) if path.is_file() else {}
    path.write_text(json.dumps({**content, "dataset": entries}), encoding="utf-8")
    return path


def test_case_list_allows_files_anywhere_under_any_names(
    folders: dict[str, Path],
    make_dataset: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = make_dataset(folders["raw"], num_cases=2, channels=("T1", "T2"))
    shutil.move(folder / "imagesTr", tmp_path / "scans")
    shutil.move(folder / "labelsTr", folder / "masks")
    monkeypatch.setenv("SCANS", str(tmp_path / "scans"))
    entries = {
        "zoe": {
            "images": [
                "$SCANS/case_01_0000.nii.gz",
                str(tmp_path / "scans" / "case_01_0001.nii.gz"),
            ],
            "label": "masks/case_01.nii.gz",
        },
        "anna": {
            "images": ["../../scans/case_00_0000.nii.gz", "../../scans/case_00_0001.nii.gz"],
            "label": "masks/case_00.nii.gz",
        },
    }
    write_case_list(folder, entries)
    dataset = RawDataset.load(501)
    assert [case.identifier for case in dataset.cases] == ["anna", "zoe"]
    assert dataset.cases[1].image_files[1].samefile(tmp_path / "scans" / "case_01_0001.nii.gz")
    assert dataset.cases[0].label_file == folder / "masks" / "case_00.nii.gz"
    verify_dataset(dataset, processes=0)
    (folder / "masks" / "case_00.nii.gz").unlink()
    with pytest.raises(DatasetFaults, match=r"masks/case_00\.nii\.gz: missing"):
        verify_dataset(dataset, processes=0)


def test_read_case_list_returns_none_without_the_key(tmp_path: Path) -> None:
    (tmp_path / "dataset.json").write_text("{}")
    assert read_case_list(tmp_path / "dataset.json") is None


@pytest.mark.parametrize(
    ("entries", "reason"),
    [
        ({}, r'"dataset" is {}; expected CASE: {"images"'),
        ([VALID_ENTRY], r'"dataset" is \[.*expected CASE'),
        ({"a/b": VALID_ENTRY}, "'a/b' a name that cannot be that of a file"),
        ({"a": ["a.nii.gz"]}, r"'a' \['a\.nii\.gz'\]; expected {\"images\""),
        ({"a": {"images": "a.nii.gz", "label": "a.nii.gz"}}, "expected"),
        ({"a": {"images": [], "label": "a.nii.gz"}}, "expected"),
        ({"a": {"images": ["a.nii.gz"]}}, "expected"),
        (
            {"a": {"images": ["a.doc"], "label": "a.nii.gz"}},
            "the image 'a.doc' of an unknown ending",
        ),
        (
            {"a": {"images": ["a.jpg"], "label": "a.jpg"}},
            "the label map 'a.jpg' of an ending that cannot hold labels; supported",
        ),
    ],
)
def test_read_case_list_reports_a_bad_entry(tmp_path: Path, entries: Any, reason: str) -> None:
    with pytest.raises(UserError, match=reason) as caught:
        read_case_list(write_case_list(tmp_path, entries))
    assert str(tmp_path / "dataset.json") in str(caught.value)


def test_read_case_list_reports_all_bad_entries_together(tmp_path: Path) -> None:
    with pytest.raises(DatasetFaults) as caught:
        read_case_list(
            write_case_list(
                tmp_path, {"a": 1, "b": VALID_ENTRY, "c": {"images": ["c.doc"], "label": "c.doc"}}
            )
        )
    assert len(caught.value.faults) == 3


@pytest.mark.parametrize("path", ["$SCANS/a_0000.nii.gz", "${SCANS}/a_0000.nii.gz"])
@pytest.mark.parametrize(("value", "state"), [(None, "not set"), ("", "empty")])
def test_unset_variable_in_a_path_is_named(
    path: str, value: str | None, state: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SCANS", raising=False)
    if value is not None:
        monkeypatch.setenv("SCANS", value)
    file = write_case_list(tmp_path, {"a": {"images": [path], "label": "a.nii.gz"}})
    with pytest.raises(DatasetFaults) as caught:
        read_case_list(file)
    assert len(caught.value.faults) == 1
    assert f"{path!r}, but the environment variable SCANS is {state}" in str(caught.value)


@pytest.mark.parametrize("is_there", [False, True])
def test_variable_that_is_set_to_a_wrong_folder_is_named(
    is_there: bool,
    folders: dict[str, Path],
    make_dataset: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = make_dataset(folders["raw"], num_cases=2)
    wrong = tmp_path / "other"
    monkeypatch.setenv("SCANS", str(wrong))
    entries = {}
    for name in ("case_00", "case_01"):
        image, label = f"$SCANS/imagesTr/{name}_0000.nii.gz", f"labelsTr/{name}.nii.gz"
        entries[name] = {"images": [image], "label": label}
    write_case_list(folder, entries)
    if is_there:
        wrong.mkdir()
    with pytest.raises(DatasetFaults) as caught:
        RawDataset.load(501)
    state = "is there, but holds none of them" if is_there else "is not there"
    [fault] = caught.value.faults
    assert f"2 files by the environment variable SCANS; it is set to {str(wrong)!r}" in fault
    assert f"which {state}; set it to the folder that holds the files" in fault
    monkeypatch.setenv("SCANS", str(folder))
    (folder / "imagesTr" / "case_01_0000.nii.gz").unlink()
    assert len(RawDataset.load(501).cases) == 2  # the one file is named where it is read


def test_dollar_sign_in_the_name_of_a_file_is_none(tmp_path: Path) -> None:
    (tmp_path / "a$b_0000.nii.gz").touch()
    entry = {"images": ["a$b_0000.nii.gz"], "label": "a.nii.gz"}
    cases = read_case_list(write_case_list(tmp_path, {"a": entry}))
    assert cases is not None
    assert cases["a"].image_files == (tmp_path / "a$b_0000.nii.gz",)
