"""Full and read-only disks, unreadable inputs, and two commands at once in one folder."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from builders.disk import fill_disk, forbid_writing
from builders.rights import rights_of_a_user
from builders.stages import STAGES, Project, contents, leftovers, start

from samnet.core.locks import lock_folder
from samnet.inference.predicted_with import PREDICTOR_FILE, read_predictors
from samnet.preprocessing.storage import store_case

NUMBERS = {stage.name: number for number, stage in enumerate(STAGES)}


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Callable[..., Path]]:
    """A function that mounts a small disk in memory; only root may do so."""
    mounted: list[Path] = []

    def mount_disk(name: str, options: str) -> Path:
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
        if subprocess.run(command, capture_output=True, check=False).returncode:
            pytest.skip("needs the right to mount a disk in memory (root)")
        mounted.append(folder)
        return folder

    yield mount_disk
    for folder in set(mounted):
        subprocess.run(["umount", "-l", str(folder)], check=False)


def test_training_on_a_full_disk_leaves_no_partial_file_and_resumes_with_room(
    project: Project,
    mount: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    number = NUMBERS["training"]
    project.go_back_to(number)
    disk = mount("disk", "size=300k")
    monkeypatch.setenv("samnet_results", str(disk))
    assert STAGES[number].run() == 1
    assert "No space left" in capsys.readouterr().err
    assert leftovers(disk) == []
    subprocess.run(["mount", "-o", "remount,size=50m", str(disk)], check=True)
    assert STAGES[number].run() == 0
    expected = contents(project.states / str(number + 1) / "results")
    found = {name for name in contents(disk) if "lora" in name}
    assert found == {name for name in expected if "lora" in name}


@pytest.mark.parametrize("stage", ["training", "prediction"])
def test_stages_name_a_disk_that_cannot_be_written_to_without_a_traceback(
    project: Project,
    mount: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    stage: str,
) -> None:
    number = NUMBERS[stage]
    project.go_back_to(number)
    disk = mount("disk", "size=1m,ro")
    if stage == "training":
        monkeypatch.setenv("samnet_results", str(disk))
    else:
        (project.root / "preds").symlink_to(disk)
    assert STAGES[number].run() == 1
    printed = capsys.readouterr().err
    assert "Read-only file system" in printed
    assert "Traceback" not in printed


@pytest.mark.parametrize("stage", ["preprocessing", "training", "prediction", "export"])
def test_stage_on_a_full_disk_says_so_leaves_nothing_half_done_and_ends_as_if_undisturbed(
    project: Project, capsys: pytest.CaptureFixture[str], stage: str
) -> None:
    number = NUMBERS[stage]
    project.go_back_to(number)
    with pytest.MonkeyPatch.context() as patch:
        fill_disk(patch)
        assert STAGES[number].run() == 1
    printed = capsys.readouterr().err
    assert "No space left on device" in printed
    assert "Traceback" not in printed
    assert leftovers(project.root) == []
    assert STAGES[number].run() == 0
    project.check(number)


@pytest.mark.parametrize("stage", ["training", "prediction"])
def test_stage_on_a_disk_for_reading_only_says_so(
    project: Project, capsys: pytest.CaptureFixture[str], stage: str
) -> None:
    number = NUMBERS[stage]
    project.go_back_to(number)
    with pytest.MonkeyPatch.context() as patch:
        forbid_writing(patch)
        assert STAGES[number].run() == 1
    printed = capsys.readouterr().err
    assert "Read-only file system" in printed
    assert "Traceback" not in printed


@pytest.mark.parametrize("stage", ["training", "prediction"])
def test_stage_in_a_folder_of_another_user_says_so(
    project: Project, capsys: pytest.CaptureFixture[str], stage: str
) -> None:
    number = NUMBERS[stage]
    project.go_back_to(number)
    folder = project.root / "results" / "Dataset501_Tiny" / "lora"
    if stage == "training":
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
    else:
        folder = project.root / "preds"
        folder.mkdir()
    folder.chmod(0o555)
    try:
        with rights_of_a_user():
            assert STAGES[number].run() == 1
    finally:
        folder.chmod(0o755)
    printed = capsys.readouterr().err
    assert "Permission denied" in printed
    assert str(folder) in printed or folder.name in printed
    assert "Traceback" not in printed


def test_prediction_fails_only_for_unreadable_images(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    number = NUMBERS["prediction"]
    project.go_back_to(number)
    images = sorted(Path("raw/Dataset501_Tiny/imagesTs").iterdir())
    images[1].write_bytes(images[1].read_bytes()[:50])
    assert STAGES[number].run() == 1
    assert images[1].name.removesuffix("_0000.nii.gz") in capsys.readouterr().err
    expected = contents(project.states / str(number + 1) / "preds")
    found = contents(Path("preds"))
    name = images[1].name.removesuffix("_0000.nii.gz")
    del expected[f"{name}.nii.gz"]
    assert name in read_predictors(project.states / str(number + 1) / "preds")
    assert name not in read_predictors(Path("preds"))
    assert found.pop(PREDICTOR_FILE) != expected.pop(PREDICTOR_FILE)
    assert found == expected


def test_two_preprocessing_commands_at_once_prepare_each_case_once(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each notes what it stores; the other waits, and finds the cases there."""
    number = NUMBERS["preprocessing"]
    notes = tmp_path / "notes"

    def note(folder: Path, identifier: str, *arguments: Any) -> None:
        with notes.open("a") as handle:
            handle.write(f"{identifier}\n")
        store_case(folder, identifier, *arguments)

    monkeypatch.setattr("samnet.preprocessing.prepare.store_case", note)
    project.go_back_to(number)
    both = [start(STAGES[number].run) for _ in range(2)]
    for process in both:
        process.join()
    assert [process.exitcode for process in both] == [0, 0]
    assert sorted(notes.read_text().split()) == [f"case_{index:02d}" for index in range(4)]
    project.check(number)


def test_a_second_training_run_in_one_folder_is_refused(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    number = NUMBERS["training"]
    project.go_back_to(number)
    with lock_folder(project.root / "results" / "Dataset501_Tiny" / "lora", "training fold_0"):
        assert STAGES[number].run() == 1
    assert "is at work there" in capsys.readouterr().err
    assert STAGES[number].run() == 0
    project.check(number)
