"""Preparing a data set: resumable, in parts, with bad cases, and killed in the middle."""

from __future__ import annotations

import dataclasses
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest

import samnet
import samnet.preprocessing.prepare as module
from samnet.core.errors import SamnetError
from samnet.core.files import TEMPORARY_PREFIX
from samnet.core.locks import lock_folder
from samnet.core.machine import Machine
from samnet.dataset.cases import RawDataset
from samnet.dataset.images import read_image, read_labels
from samnet.fingerprint.extract import extract_fingerprint
from samnet.planning.planner import make_plan
from samnet.preprocessing.prepare import (
    find_outdated,
    prepare_all_configurations,
    prepare_dataset,
    prepared_folder,
)
from samnet.preprocessing.storage import load_case

MakeDataset = Callable[..., Path]
VIEWS = (0, 1, 2)
FILES_A_CASE = 2 * len(VIEWS) + 1


@pytest.fixture
def dataset(make_dataset: MakeDataset, folders: dict[str, Path]) -> RawDataset:
    """Three cases with axes to the left, the front and the feet."""
    make_dataset(folders["raw"], num_cases=3, affine=np.diag([-1.0, 1.0, -2.0, 1.0]))
    return RawDataset.load(501)


@pytest.fixture
def prepared(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the cases that are prepared in this process from here on."""
    names: list[str] = []
    store = module.store_case

    def spy(folder, identifier, *arguments):
        names.append(identifier)
        store(folder, identifier, *arguments)

    monkeypatch.setattr(module, "store_case", spy)
    return names


def contents(folder: Path) -> dict[str, bytes]:
    """Of every file; of those in temporary folders, too."""
    files = [file for file in sorted(folder.rglob("*")) if file.is_file()]
    return {str(file.relative_to(folder)): file.read_bytes() for file in files}


def undisturbed(dataset: RawDataset) -> dict[str, bytes]:
    """What a run from the beginning to the end writes; afterwards nothing is prepared."""
    found = contents(prepare_dataset(dataset, VIEWS, 0))
    shutil.rmtree(prepared_folder(dataset.name))
    assert len(found) == FILES_A_CASE * len(dataset.cases)
    return found


def test_cases_are_the_canonical_raw_ones(dataset: RawDataset) -> None:
    folder = prepare_dataset(dataset, (0,), 0)
    for raw in dataset.cases:
        case = load_case(folder, raw.identifier)
        assert np.array_equal(
            case.volume().array[0], read_image(raw.image_files).array[0, ::-1, :, ::-1]
        )
        native = read_labels(raw.label_file).array[0]
        assert np.array_equal(case.labels(), native[::-1, :, ::-1])
        assert np.array_equal(case.volume().restore(case.labels()), native)


def test_the_number_of_processes_changes_nothing(dataset: RawDataset) -> None:
    expected = undisturbed(dataset)
    assert contents(prepare_dataset(dataset, VIEWS, 2)) == expected


def test_a_finished_run_again_does_nothing(dataset: RawDataset, prepared: list[str]) -> None:
    folder = prepare_dataset(dataset, VIEWS, 0)
    dates = {file.name: file.stat().st_mtime_ns for file in folder.iterdir()}
    prepared.clear()
    prepare_dataset(dataset, VIEWS, 0)
    prepare_dataset(dataset, (1,), 0)
    assert prepared == []
    assert {file.name: file.stat().st_mtime_ns for file in folder.iterdir()} == dates


def test_views_are_added_to_those_that_are_there(dataset: RawDataset, prepared: list[str]) -> None:
    expected = undisturbed(dataset)
    prepare_dataset(dataset, (0,), 0)
    assert contents(prepare_dataset(dataset, (2, 1), 0)) == expected
    assert prepared.count("case_00") == 3


def test_only_changed_cases_are_prepared_again(dataset: RawDataset, prepared: list[str]) -> None:
    folder = prepare_dataset(dataset, (0,), 0)
    prepared.clear()
    label = dataset.folder.training_labels / "case_02.nii.gz"
    label.write_bytes((dataset.folder.training_labels / "case_01.nii.gz").read_bytes())
    prepare_dataset(dataset, (0,), 0)
    assert prepared == ["case_02"]
    assert np.array_equal(
        load_case(folder, "case_02").labels(), load_case(folder, "case_01").labels()
    )


def test_cases_prepared_from_other_files_are_found(dataset: RawDataset) -> None:
    folder = prepare_dataset(dataset, (0,), 0)
    prepared = [load_case(folder, case.identifier) for case in dataset.cases]
    os.utime(dataset.folder.training_images / "case_00_0000.nii.gz", ns=(1, 1))
    assert find_outdated(dataset, prepared, 0) == []
    (dataset.folder.training_labels / "case_02.nii.gz").write_bytes(b"something else")
    assert find_outdated(dataset, prepared, 0) == ["case_02"]
    assert find_outdated(dataclasses.replace(dataset, cases=dataset.cases[:2]), prepared, 0) == []


def test_parts_are_disjoint_and_together_everything(
    dataset: RawDataset, prepared: list[str]
) -> None:
    expected = undisturbed(dataset)
    prepared.clear()
    for part in range(2):
        before = set(prepared)
        prepare_dataset(dataset, VIEWS, 0, num_parts=2, part_id=part)
        assert not before & set(prepared[len(before) :])
    assert sorted(prepared) == [case.identifier for case in dataset.cases]
    assert contents(prepared_folder(dataset.name)) == expected


def test_a_part_leaves_the_unfinished_files_of_others_alone(dataset: RawDataset) -> None:
    folder = prepared_folder(dataset.name)
    folder.mkdir(parents=True)
    foreign = folder / f"{TEMPORARY_PREFIX}0123-case_00_view0_image.b2nd"
    with lock_folder(folder, "preprocessing part 1 of 2"):
        foreign.write_bytes(b"half")
        prepare_dataset(dataset, (0,), 0, num_parts=2, part_id=0)
    assert foreign.is_file()
    prepare_dataset(dataset, (0,), 0)
    assert not foreign.exists()


def missing_label(folder: Path) -> str:
    (folder / "labelsTr" / "case_01.nii.gz").unlink()
    return "labelsTr/case_01.nii.gz: no such file"


def broken_image(folder: Path) -> str:
    (folder / "imagesTr" / "case_01_0000.nii.gz").write_bytes(b"no image")
    return "case_01_0000.nii.gz: cannot be read"


def label_of_another_shape(folder: Path) -> str:
    """One slice, which would fit every slice of the image."""
    nibabel.save(
        nibabel.Nifti1Image(np.ones((20, 24, 1), np.uint8), np.eye(4)),
        folder / "labelsTr" / "case_01.nii.gz",
    )
    return (
        "labelsTr/case_01.nii.gz: shape (1, 24, 20) (z, y, x) differs from (8, 24, 20) of its image"
    )


@pytest.mark.parametrize(
    ("spoil", "processes"),
    [(missing_label, 0), (broken_image, 0), (label_of_another_shape, 0), (broken_image, 1)],
)
def test_a_bad_case_is_named_and_stops_no_other(
    dataset: RawDataset, spoil: Callable[[Path], str], processes: int
) -> None:
    message = spoil(dataset.folder.raw)
    with pytest.raises(SamnetError) as caught:
        prepare_dataset(dataset, (0,), processes)
    assert "preprocessing failed for 1 of 3 cases" in str(caught.value)
    assert f"case_01: {dataset.folder.raw}/" in str(caught.value)
    assert message in str(caught.value)
    assert caught.value.exit_code == 1
    records = [file.name for file in prepared_folder(dataset.name).glob("*.json")]
    assert sorted(records) == ["case_00.json", "case_02.json"]


def test_all_configurations_are_prepared_together_and_changed_data_are_pointed_out(
    dataset: RawDataset, caplog: pytest.LogCaptureFixture
) -> None:
    plan = make_plan(extract_fingerprint(dataset, 0), Machine("cpu", 8), {"views": [0, 2]})
    prepare_all_configurations(dataset, plan, 0)
    assert set(load_case(prepared_folder(dataset.name), "case_00").record.class_slices) == {
        "0",
        "2",
    }
    assert "have changed" not in caplog.text
    image = dataset.folder.training_images / "case_01_0000.nii.gz"
    os.utime(image, ns=(1, 1))
    prepare_all_configurations(dataset, plan, 0)
    assert "have changed" not in caplog.text
    image.write_bytes((dataset.folder.training_images / "case_02_0000.nii.gz").read_bytes())
    prepare_all_configurations(dataset, plan, 0)
    assert (
        "raw files of Dataset501_Tiny have changed since they were planned: run samnet_plan again"
        in caplog.text
    )


PROGRAM = """
import os, signal, sys
import samnet.core.files as files
from samnet.dataset.cases import RawDataset
from samnet.preprocessing.prepare import prepare_dataset

def replace_until_killed(source, target, count=[int(sys.argv[2])]):
    if count[0] == 0:
        os.truncate(source, os.path.getsize(source) // 2)
        os.kill(os.getpid(), signal.SIGKILL)
    count[0] -= 1
    rename(source, target)

if __name__ == "__main__":
    if int(sys.argv[2]) >= 0:
        rename, files.os.replace = os.replace, replace_until_killed
    prepare_dataset(RawDataset.load(501), (0, 1, 2), int(sys.argv[1]))
"""


def start_program(folder: Path, processes: int, killed_after: int = -1) -> subprocess.Popen:
    """Prepare in a process of its own, which kills itself in the middle of its file number `killed_after`."""
    script = folder / "program.py"
    script.write_text(PROGRAM)
    environment = {**os.environ, "PYTHONPATH": str(Path(samnet.__file__).parents[1])}
    return subprocess.Popen(
        [sys.executable, script, str(processes), str(killed_after)],
        env=environment,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def check_nothing_is_partial(folder: Path, expected: dict[str, bytes]) -> None:
    for name, content in contents(folder).items():
        if not name.startswith(TEMPORARY_PREFIX) and not name.endswith(".samnet-lock"):
            assert content == expected[name], name


@pytest.mark.parametrize("killed_after", [0, FILES_A_CASE - 1, FILES_A_CASE + 2])
def test_killed_while_writing_it_completes_when_run_again(
    dataset: RawDataset, tmp_path: Path, prepared: list[str], killed_after: int
) -> None:
    """In the first array of a case, in its record, and in a later array of the next case."""
    expected = undisturbed(dataset)
    assert start_program(tmp_path, 0, killed_after).wait() == -signal.SIGKILL
    folder = prepared_folder(dataset.name)
    found = {
        name: content
        for name, content in contents(folder).items()
        if not name.endswith(".samnet-lock")
    }
    assert len([name for name in found if name.startswith(TEMPORARY_PREFIX)]) == 1
    assert len(found) == killed_after + 1
    check_nothing_is_partial(folder, expected)
    prepared.clear()
    assert contents(prepare_dataset(dataset, VIEWS, 0)) == expected
    assert len(prepared) == 3 - killed_after // FILES_A_CASE


def test_killed_with_its_workers_it_completes_when_run_again(
    make_dataset: MakeDataset, folders: dict[str, Path], tmp_path: Path
) -> None:
    make_dataset(folders["raw"], num_cases=6, shape=(40, 48, 48))
    dataset = RawDataset.load(501)
    expected = undisturbed(dataset)
    folder = prepared_folder(dataset.name)
    process = start_program(tmp_path, 2)
    end = time.monotonic() + 60
    while not list(folder.glob("*.json")):
        assert process.poll() is None
        assert time.monotonic() < end
        time.sleep(0.005)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    check_nothing_is_partial(folder, expected)
    assert 1 <= len(list(folder.glob("*.json"))) < 6
    assert contents(prepare_dataset(dataset, VIEWS, 0)) == expected


@pytest.mark.parametrize(
    ("values", "dtype", "stored"),
    [
        ([-1024, 0, 3071], np.float32, np.int16),
        ([-1024, 0, 3071], np.int32, np.int16),
        ([0, 7, 255], np.uint8, np.uint8),
        ([0, 7, 65535], np.uint16, np.uint16),
        ([0, 7, 65535], np.float32, np.float32),
        ([0, 7.5, 9], np.float32, np.float32),
        ([0, np.nan, 9], np.float32, np.float32),
        ([0, np.inf, 9], np.float32, np.float32),
    ],
)
def test_values_take_16_bits_where_those_hold_them(
    values: list[float], dtype: type, stored: type
) -> None:
    array = np.array(values, dtype).reshape(1, 1, 1, 3)
    compact = module._compact(array)
    assert compact.dtype == stored
    assert np.array_equal(compact, array, equal_nan=dtype is np.float32)
