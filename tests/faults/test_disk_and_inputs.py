"""A full disk, results that cannot be written, inputs that cannot be read, two at once in one folder."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from builders.stages import STAGES, Project, contents, leftovers, start

from samnet.preprocessing import prepare

NUMBERS = {stage.name: number for number, stage in enumerate(STAGES)}


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Callable[..., Path]]:
    """Mount a small disk in memory, or mount it anew with other options; only root may."""
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


def test_on_a_full_disk_nothing_half_is_left_and_with_room_it_goes_on(
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
    assert {name for name in contents(disk) if "lora" in name} == {
        name for name in expected if "lora" in name
    }


@pytest.mark.parametrize("stage", ["training", "prediction"])
def test_results_that_cannot_be_written_are_told_in_a_line(
    project: Project,
    mount: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    stage: str,
) -> None:
    number = NUMBERS[stage]
    project.go_back_to(number)
    place = "preds" if stage == "prediction" else "results"
    disk = mount("disk", "size=1m,ro")
    if place == "results":
        monkeypatch.setenv("samnet_results", str(disk))
    else:
        (project.root / "preds").symlink_to(disk)
    assert STAGES[number].run() == 1
    printed = capsys.readouterr().err
    assert "Read-only file system" in printed
    assert "Traceback" not in printed


def test_unreadable_images_among_good_ones_fail_alone(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    number = NUMBERS["prediction"]
    project.go_back_to(number)
    images = sorted(Path("raw/Dataset501_Tiny/imagesTs").iterdir())
    images[1].write_bytes(images[1].read_bytes()[:50])
    assert STAGES[number].run() == 1
    assert images[1].name.removesuffix("_0000.nii.gz") in capsys.readouterr().err
    expected = contents(project.states / str(number + 1) / "preds")
    del expected[images[1].name.replace("_0000", "")]
    assert contents(Path("preds")) == expected


def test_two_at_once_in_one_folder_do_it_once(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each notes what it prepares; the other waits, and finds it there."""
    number, plain = NUMBERS["preprocessing"], prepare._prepare_case
    notes = tmp_path / "notes"

    def note(case: prepare.Case, *arguments: Any) -> None:
        with notes.open("a") as handle:
            handle.write(f"{case.identifier}\n")
        plain(case, *arguments)

    monkeypatch.setattr(prepare, "_prepare_case", note)
    project.go_back_to(number)
    both = [start(STAGES[number].run) for _ in range(2)]
    for process in both:
        process.join()
    assert [process.exitcode for process in both] == [0, 0]
    assert sorted(notes.read_text().split()) == [f"case_{index:02d}" for index in range(4)]
    project.check(number)


def test_a_second_training_in_one_folder_is_refused(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    from samnet.core.locks import lock_folder

    number = NUMBERS["training"]
    project.go_back_to(number)
    with lock_folder(project.root / "results" / "Dataset501_Tiny" / "lora", "training fold_0"):
        assert STAGES[number].run() == 1
    assert "is at work there" in capsys.readouterr().err
    assert STAGES[number].run() == 0
    project.check(number)
