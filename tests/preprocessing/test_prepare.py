"""Preparing a data set: resumable, in parts, with bad cases, and killed in the middle."""

from __future__ import annotations

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
from samnet.core.errors import SamnetError
from samnet.core.files import TEMPORARY_PREFIX
from samnet.core.locks import lock_folder
from samnet.core.machine import Machine
from samnet.dataset.cases import RawDataset
from samnet.dataset.images import read_image, read_labels
from samnet.fingerprint.extract import extract_fingerprint
from samnet.planning.planner import make_plan
from samnet.preprocessing.prepare import find_outdated, prepare_all_configurations, prepare_dataset
from samnet.preprocessing.storage import load_case
from samnet.preprocessing.stored_cases import list_cases

MakeDataset = Callable[..., Path]
VIEWS = (0, 1, 2)
FILES_A_CASE = 2 * len(VIEWS) + 1
ALL_CASES = ["case_00", "case_01", "case_02"]
OLD = 1  # a date in nanoseconds


@pytest.fixture
def dataset(make_dataset: MakeDataset, folders: dict[str, Path]) -> RawDataset:
    """Three cases with axes to the left, the front and the feet."""
    make_dataset(folders["raw"], num_cases=3, affine=np.diag([-1.0, 1.0, -2.0, 1.0]))
    return RawDataset.load(501)


def make_old(folder: Path) -> None:
    """Give every prepared file the same old date, so that files written later can be told."""
    for file in folder.iterdir():
        os.utime(file, ns=(OLD, OLD))


def written_since(folder: Path) -> list[str]:
    """The names of the cases whose record was written since `make_old`."""
    records = sorted(folder.glob("*.json"))
    return [record.stem for record in records if record.stat().st_mtime_ns != OLD]


def contents(folder: Path) -> dict[str, bytes]:
    """The content of every file by its path; of those in temporary folders, too."""
    files = [file for file in sorted(folder.rglob("*")) if file.is_file()]
    return {str(file.relative_to(folder)): file.read_bytes() for file in files}


def uninterrupted(dataset: RawDataset) -> dict[str, bytes]:
    """What an uninterrupted preparation writes. It is removed again."""
    found = contents(prepare_dataset(dataset, VIEWS, 0))
    shutil.rmtree(dataset.folder.slices)
    assert len(found) == FILES_A_CASE * len(dataset.cases)
    return found


def test_prepared_cases_are_the_raw_ones_with_canonical_axes(dataset: RawDataset) -> None:
    folder = prepare_dataset(dataset, (0,), 0)
    for raw in dataset.cases:
        case = load_case(folder, raw.identifier)
        assert np.array_equal(
            case.volume().array[0], read_image(raw.image_files).array[0, ::-1, :, ::-1]
        )
        native = read_labels(raw.label_file).array[0]
        assert np.array_equal(case.labels(), native[::-1, :, ::-1])
        assert np.array_equal(case.volume().restore(case.labels()), native)


def test_cases_without_labels_are_prepared_apart_and_removed_with_their_images(
    dataset: RawDataset,
) -> None:
    """Test images are not among them."""
    raw = dataset.folder
    shutil.copytree(raw.training_images, raw.unlabelled_images)
    shutil.copytree(raw.training_images, raw.test_images)
    expected = contents(prepare_dataset(RawDataset.load(501), VIEWS, 0))
    assert list_cases(raw.unlabelled_slices) == ALL_CASES
    one, other = (load_case(path, "case_01") for path in (raw.slices, raw.unlabelled_slices))
    assert other.volume().array.shape[0] == one.volume().array.shape[0]
    assert other.record.class_slices == {"0": {}, "1": {}, "2": {}}
    assert not other.labels().any()

    next(raw.unlabelled_images.glob("case_01*")).unlink()
    assert contents(prepare_dataset(RawDataset.load(501), VIEWS, 0)) == expected
    assert list_cases(raw.unlabelled_slices) == ["case_00", "case_02"]
    assert len(list(raw.unlabelled_slices.glob("case*"))) == 2 * FILES_A_CASE
    shutil.rmtree(raw.unlabelled_images)
    prepare_dataset(RawDataset.load(501), VIEWS, 0)
    assert list_cases(raw.unlabelled_slices) == []


def test_prepared_files_do_not_depend_on_the_number_of_processes(dataset: RawDataset) -> None:
    expected = uninterrupted(dataset)
    assert contents(prepare_dataset(dataset, VIEWS, 2)) == expected


def test_preparing_again_writes_nothing(dataset: RawDataset) -> None:
    folder = prepare_dataset(dataset, VIEWS, 0)
    names = {file.name for file in folder.iterdir()}
    make_old(folder)
    prepare_dataset(dataset, VIEWS, 0)
    prepare_dataset(dataset, (1,), 0)
    assert {file.name for file in folder.iterdir()} == names
    assert {file.stat().st_mtime_ns for file in folder.iterdir()} == {OLD}


def test_preparing_adds_views_to_those_that_are_stored(dataset: RawDataset) -> None:
    expected = uninterrupted(dataset)
    make_old(prepare_dataset(dataset, (0,), 0))
    folder = prepare_dataset(dataset, (2, 1), 0)
    assert contents(folder) == expected
    assert written_since(folder) == ALL_CASES


def test_only_cases_with_changed_raw_files_are_prepared_again(dataset: RawDataset) -> None:
    folder = prepare_dataset(dataset, (0,), 0)
    make_old(folder)
    label = dataset.folder.training_labels / "case_02.nii.gz"
    label.write_bytes((dataset.folder.training_labels / "case_01.nii.gz").read_bytes())
    prepare_dataset(dataset, (0,), 0)
    assert written_since(folder) == ["case_02"]
    assert np.array_equal(
        load_case(folder, "case_02").labels(), load_case(folder, "case_01").labels()
    )


def test_find_outdated_names_cases_with_changed_raw_files(dataset: RawDataset) -> None:
    folder = prepare_dataset(dataset, (0,), 0)
    prepared = [load_case(folder, case.identifier) for case in dataset.cases]
    os.utime(dataset.folder.training_images / "case_00_0000.nii.gz", ns=(1, 1))
    assert find_outdated(dataset, dataset.cases, prepared, 0) == []
    (dataset.folder.training_labels / "case_02.nii.gz").write_bytes(b"something else")
    assert find_outdated(dataset, dataset.cases, prepared, 0) == ["case_02"]
    assert find_outdated(dataset, dataset.cases[:2], prepared, 0) == []


def test_parts_of_a_data_set_are_disjoint_and_complete(dataset: RawDataset) -> None:
    expected = uninterrupted(dataset)
    folder = prepare_dataset(dataset, VIEWS, 0, num_parts=2, part_id=0)
    first = written_since(folder)
    make_old(folder)
    prepare_dataset(dataset, VIEWS, 0, num_parts=2, part_id=1)
    second = written_since(folder)
    assert first
    assert second
    assert sorted(first + second) == ALL_CASES
    assert contents(folder) == expected


def test_preparing_a_part_keeps_the_unfinished_files_of_others(dataset: RawDataset) -> None:
    folder = dataset.folder.slices
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
def test_bad_case_is_named_and_stops_no_other(
    dataset: RawDataset, spoil: Callable[[Path], str], processes: int
) -> None:
    message = spoil(dataset.folder.raw)
    with pytest.raises(SamnetError) as caught:
        prepare_dataset(dataset, (0,), processes)
    assert "preprocessing failed for 1 of 3 cases" in str(caught.value)
    assert f"case_01: {dataset.folder.raw}/" in str(caught.value)
    assert message in str(caught.value)
    assert caught.value.exit_code == 1
    records = [file.name for file in dataset.folder.slices.glob("*.json")]
    assert sorted(records) == ["case_00.json", "case_02.json"]


def test_prepare_all_configurations_prepares_every_view_and_reports_changed_raw_files(
    dataset: RawDataset, caplog: pytest.LogCaptureFixture
) -> None:
    plan = make_plan(extract_fingerprint(dataset, 0), Machine("cpu", 8), {"views": [0, 2]})
    prepare_all_configurations(dataset, plan, 0)
    record = load_case(dataset.folder.slices, "case_00").record
    assert set(record.class_slices) == {"0", "2"}
    assert "have changed" not in caplog.text
    image = dataset.folder.training_images / "case_01_0000.nii.gz"
    os.utime(image, ns=(1, 1))
    prepare_all_configurations(dataset, plan, 0)
    assert "have changed" not in caplog.text
    image.write_bytes((dataset.folder.training_images / "case_02_0000.nii.gz").read_bytes())
    prepare_all_configurations(dataset, plan, 0)
    assert "raw files of Dataset501_Tiny have changed since they were planned" in caplog.text
    assert "run samnet_plan again" in caplog.text


PROGRAM = """
import os, signal, sys
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
        rename, os.replace = os.replace, replace_until_killed
    prepare_dataset(RawDataset.load(501), (0, 1, 2), int(sys.argv[1]))
"""


def start_program(folder: Path, processes: int, killed_after: int = -1) -> subprocess.Popen:
    """Prepare in another process, which kills itself while it writes file number `killed_after`."""
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
def test_preparation_killed_while_writing_is_completed_by_the_next_run(
    dataset: RawDataset, tmp_path: Path, killed_after: int
) -> None:
    """Killed in the first array of a case, in its record, and in an array of the next case."""
    expected = uninterrupted(dataset)
    assert start_program(tmp_path, 0, killed_after).wait() == -signal.SIGKILL
    folder = dataset.folder.slices
    found = {
        name: content
        for name, content in contents(folder).items()
        if not name.endswith(".samnet-lock")
    }
    assert len([name for name in found if name.startswith(TEMPORARY_PREFIX)]) == 1
    assert len(found) == killed_after + 1
    check_nothing_is_partial(folder, expected)
    make_old(folder)
    assert contents(prepare_dataset(dataset, VIEWS, 0)) == expected
    assert len(written_since(folder)) == 3 - killed_after // FILES_A_CASE


def test_preparation_killed_with_its_workers_is_completed_by_the_next_run(
    make_dataset: MakeDataset, folders: dict[str, Path], tmp_path: Path
) -> None:
    make_dataset(folders["raw"], num_cases=6, shape=(40, 48, 48))
    dataset = RawDataset.load(501)
    expected = uninterrupted(dataset)
    folder = dataset.folder.slices
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
def test_prepared_images_have_16_bits_where_these_hold_the_values(
    dataset: RawDataset, values: list[float], dtype: type, stored: type
) -> None:
    file = dataset.folder.training_images / "case_00_0000.nii.gz"
    affine = nibabel.load(file).affine
    array = np.resize(np.array(values, dtype), (8, 24, 20))
    nibabel.save(nibabel.Nifti1Image(array.transpose(), affine), file)
    case = load_case(prepare_dataset(dataset, (0,), 0), "case_00")
    image = case.image_slices(0, list(range(8)))
    assert image.dtype == stored
    finite = np.nan_to_num(array, nan=0, posinf=0)
    assert np.array_equal(case.volume().restore(image[:, 0]), finite)
