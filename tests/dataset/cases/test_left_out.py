"""Nothing in a folder to predict is left out without a word, and no case replaces another."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import numpy as np
import pytest
from builders.dicom import write_object, write_series
from builders.rights import rights_of_a_user
from pydicom.uid import RTStructureSetStorage

from samnet.core.errors import UserError
from samnet.dataset.cases import find_prediction_cases, find_prediction_input
from samnet.dataset.description import DatasetDescription

NIFTI = DatasetDescription(("CT",), {"background": 0, "a": 1}, None, ".nii.gz")


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def write_scan(folder: Path) -> None:
    write_series(folder, np.ones((2, 4, 5)), [(0, 0, 0), (0, 0, 3)])


def left_out(source: Path, description: DatasetDescription = NIFTI) -> dict[str, str]:
    found = find_prediction_input(source, description).left_out
    return {str(entry.path.relative_to(source)): entry.reason for entry in found}


def identifiers(source: Path, description: DatasetDescription = NIFTI) -> list[str]:
    cases = find_prediction_cases(source, description)
    return [case.identifier for case in cases if case.fault is None]


def test_everything_next_to_images_is_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    touch(tmp_path, "a_0000.nii.gz", "b.nii", ".DS_Store", "._a_0000.nii.gz", "empty/.hidden")
    touch(tmp_path, "c_0000.nrrd", "photo.PNG", "notes.txt", "more/deep/d_0000.nii.gz")
    write_scan(tmp_path / "scan")
    write_scan(tmp_path)
    (tmp_path / "gone_0000.nrrd").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "pipe")
    found = left_out(tmp_path)
    assert identifiers(tmp_path) == ["a", "b"]
    assert found == {
        "c_0000.nrrd": "ends in .nrrd, the model's images in .nii.gz; convert it, or give it "
        "with -i",
        "photo.PNG": "ends in .png, the model's images in .nii.gz; convert it, or give it with -i",
        "notes.txt": "not an image in a supported format",
        "IM0000.dcm": "DICOM next to images ending in .nii.gz; put its series into a folder",
        "IM0007.dcm": "DICOM next to images ending in .nii.gz; put its series into a folder",
        "more": found["scan"],
        "scan": "folder next to images ending in .nii.gz, which are read from their own folder "
        "only; give it with -i",
        "gone_0000.nrrd": f"is a broken link to {tmp_path / 'nowhere'}; correct it, or remove it",
        "pipe": "is neither a file nor a folder",
    }
    warnings = [entry.message for entry in caplog.records if entry.levelno == logging.WARNING]
    for name in found:
        assert any(name in message for message in warnings)
    assert not any("DS_Store" in message or "empty" in message for message in warnings)


def test_files_that_belong_to_an_image_are_not_named(tmp_path: Path) -> None:
    touch(tmp_path, "a.raw", "other.raw")
    (tmp_path / "a.mhd").write_text("ElementDataFile = a.raw\n")
    (tmp_path / "b.mhd").write_text("no header")
    description = DatasetDescription(("CT",), {"background": 0, "a": 1}, None, ".mha")
    assert list(left_out(tmp_path, description)) == ["other.raw"]


def test_clean_folder_causes_no_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    touch(tmp_path / "images", "a_0000.nii.gz", "b_0000.nii.gz")
    write_scan(tmp_path / "series" / "anna")
    touch(tmp_path / "series" / "anna", "DICOMDIR")
    assert left_out(tmp_path / "images") == left_out(tmp_path / "series") == {}
    assert not caplog.records


def test_many_names_are_counted_in_the_warning_and_listed_in_the_detailed_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "samnet")
    touch(tmp_path, "a.nii.gz", *(f"{number:02d}.txt" for number in range(30)))
    find_prediction_cases(tmp_path, NIFTI)
    (warning,) = [entry.message for entry in caplog.records if entry.levelno == logging.WARNING]
    assert "00.txt" in warning
    assert "and 10 more" in warning
    assert "29.txt" in caplog.text


def test_everything_next_to_series_is_named(tmp_path: Path) -> None:
    write_scan(tmp_path / "anna" / "ct")
    write_object(tmp_path / "anna" / "rt" / "a.dcm", RTStructureSetStorage, Modality="RTSTRUCT")
    touch(tmp_path, "anna/ct/notes.txt", "anna/old/b.nii.gz", "c_0000.mha", ".git/config")
    (tmp_path / "bert").symlink_to(tmp_path / "nowhere")
    assert identifiers(tmp_path) == ["anna_ct"]
    assert left_out(tmp_path) == {
        "anna/rt": "holds no DICOM image, but RT Structure Set Storage",
        "anna/ct/notes.txt": "not an image in a supported format",
        "anna/old/b.nii.gz": "no image next to DICOM series is read; give it with -i",
        "c_0000.mha": "ends in .mha, the model's images in .nii.gz; convert it, or give it with -i",
        "bert": f"is a broken link to {tmp_path / 'nowhere'}; correct it, or remove it",
    }


def test_source_without_cases_is_refused_with_what_it_holds(tmp_path: Path) -> None:
    touch(tmp_path, "a_0000.mha", "sub/b_0000.nii.gz")
    with pytest.raises(UserError, match=r"no image ending in.*it holds a_0000\.mha: ends in \.mha"):
        find_prediction_cases(tmp_path, NIFTI)
    with pytest.raises(UserError, match=r"sub/b_0000\.nii\.gz: "):
        find_prediction_cases(tmp_path, NIFTI)


def test_linked_folders_are_followed_and_loops_are_named(tmp_path: Path) -> None:
    write_scan(tmp_path / "store" / "ct")
    write_scan(tmp_path / "in" / "anna" / "ct")
    for name in ("bert", "carl"):
        (tmp_path / "in" / name).symlink_to(tmp_path / "store")
    (tmp_path / "in" / "anna" / "loop").symlink_to(tmp_path / "in")
    (tmp_path / "linked").symlink_to(tmp_path / "in")
    for source in (tmp_path / "in", tmp_path / "linked"):
        assert identifiers(source) == ["anna_ct", "bert_ct", "carl_ct"]
        reason = left_out(source)["anna/loop"]
        assert reason == f"is a link to {tmp_path / 'in'}, which contains it; remove it"


def test_linked_files_are_images(tmp_path: Path) -> None:
    touch(tmp_path / "store", "x.nii.gz")
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a_0000.nii.gz").symlink_to(tmp_path / "store" / "x.nii.gz")
    assert identifiers(tmp_path / "in") == ["a"]


@pytest.mark.parametrize(
    ("names", "others"),
    [
        (("p1/t1_post", "p1_t1/post"), ["b"]),
        (("P1/ct", "p1/CT"), ["b"]),
        (("Jose\u0301", "Jos\u00e9"), ["b"]),
    ],
)
def test_series_whose_label_maps_would_meet_are_faults_and_stop_no_other(
    tmp_path: Path, names: tuple[str, str], others: list[str]
) -> None:
    for name in (*names, "b"):
        write_scan(tmp_path / name)
    assert identifiers(tmp_path) == others
    faults = [case.fault for case in find_prediction_cases(tmp_path, NIFTI) if case.fault]
    for name in names:
        assert all(str(tmp_path / name) in fault for fault in faults)
    assert "their label maps would have one name" in faults[0]


def test_files_whose_label_maps_would_meet_are_faults_and_stop_no_other(tmp_path: Path) -> None:
    touch(tmp_path, "A_0000.nii.gz", "a_0000.nii.gz", "b_0000.nii.gz")
    cases = find_prediction_cases(tmp_path, NIFTI)
    assert [(case.identifier, case.fault is None) for case in cases] == [
        ("A", False),
        ("a", False),
        ("b", True),
    ]


@pytest.mark.parametrize("suffix", ["", "_0000"])
def test_file_under_two_endings_is_a_fault_and_stops_no_other(tmp_path: Path, suffix: str) -> None:
    touch(tmp_path, f"a{suffix}.nii", f"a{suffix}.nii.gz", "b_0000.nii.gz")
    assert identifiers(tmp_path) == ["b"]
    assert left_out(tmp_path) == {}
    for ending in (".nii", ".nii.gz"):
        with pytest.raises(UserError, match="exists under another ending as well"):
            find_prediction_cases(tmp_path / f"a{suffix}{ending}", NIFTI)


def test_folder_with_the_name_of_an_image_hides_no_series(tmp_path: Path) -> None:
    write_scan(tmp_path / "anna.nii.gz")
    write_scan(tmp_path / "bert")
    assert identifiers(tmp_path) == ["anna.nii.gz", "bert"]


def test_folder_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    write_scan(tmp_path / "anna")
    write_scan(tmp_path / "bert")
    (tmp_path / "bert").chmod(0)
    try:
        with rights_of_a_user():
            assert identifiers(tmp_path) == ["anna"]
            assert left_out(tmp_path) == {"bert": "cannot be read (Permission denied)"}
    finally:
        (tmp_path / "bert").chmod(0o755)
