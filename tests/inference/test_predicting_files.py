from __future__ import annotations

import re
import weakref
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from builders.models import FakePredictor
from scipy.spatial.transform import Rotation
from skimage import io

from samnet.core.errors import SamnetError, UserError
from samnet.core.files import TEMPORARY_PREFIX
from samnet.core.geometry import Grid
from samnet.core.locks import lock_folder
from samnet.dataset.cases import Case
from samnet.dataset.description import DatasetDescription
from samnet.dataset.images import write_labels
from samnet.inference.files import output_file, predict_cases

TURNED = Rotation.from_rotvec([0.3, -0.2, 1.4]).as_matrix()
AFFINE = np.vstack([np.column_stack([TURNED * (0.8, 0.6, 2.9), (11, -5, 7)]), (0, 0, 0, 1)])


def write_case(folder: Path, name: str, brightest: float = 150) -> Case:
    file = folder / f"{name}_0000.nii.gz"
    folder.mkdir(exist_ok=True)
    array = np.arange(4 * 5 * 6, dtype=np.float32).reshape(4, 5, 6)
    array[0, 0, 0] = brightest
    image = nibabel.Nifti1Image(array, AFFINE)
    image.set_qform(AFFINE, 1)
    nibabel.save(image, file)
    return Case(name, (file,))


def test_label_maps_lie_on_their_images(tmp_path: Path) -> None:
    case = write_case(tmp_path / "in", "a")
    predict_cases(FakePredictor(), [case], tmp_path / "out")
    image, labels = nibabel.load(case.image_files[0]), nibabel.load(tmp_path / "out" / "a.nii.gz")
    assert labels.shape == image.shape
    assert np.array_equal(labels.affine, image.affine)
    assert labels.get_data_dtype() == np.uint8
    assert np.array_equal(np.asarray(labels.dataobj), np.asarray(image.dataobj) > 100)


@pytest.mark.parametrize(
    "failure", [UserError("bright"), MemoryError("full"), KeyError("defect"), RuntimeError("x")]
)
def test_a_bad_case_is_named_after_the_others_are_done(tmp_path: Path, failure: Exception) -> None:
    cases = [write_case(tmp_path / "in", name, 250 if name == "b" else 150) for name in "abc"]
    with pytest.raises(
        SamnetError, match=rf"failed for 1 of 3 cases.*\n  b: .*{failure.args[0]}"
    ) as caught:
        predict_cases(FakePredictor(failure), cases, tmp_path / "out")
    assert caught.value.exit_code == 1
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == [
        "a.nii.gz",
        "c.nii.gz",
        "dataset.json",
    ]


def test_a_failed_case_leaves_the_next_one_its_memory(tmp_path: Path) -> None:
    held: list[weakref.ref] = []
    still_there: list[bool] = []

    class Greedy(FakePredictor):
        def predict_on_grid(self, array: np.ndarray, grid: Grid) -> np.ndarray:
            still_there.append(any(reference() is not None for reference in held))
            work = np.empty(1000)
            held.append(weakref.ref(work))
            raise MemoryError(f"no more than {work.nbytes} bytes")

    cases = [write_case(tmp_path / "in", name) for name in "abc"]
    with pytest.raises(
        SamnetError, match=r"3 of 3 cases.*\n  a: MemoryError: no more than 8000 bytes"
    ):
        predict_cases(Greedy(), cases, tmp_path / "out")
    assert still_there == [False, False, False]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_an_image_without_numbers_is_named_with_a_remedy(tmp_path: Path, value: float) -> None:
    cases = [write_case(tmp_path / "in", "a", value), write_case(tmp_path / "in", "b")]
    with pytest.raises(
        SamnetError, match=r"a_0000\.nii\.gz: 1 voxels are NaN or infinite; replace them"
    ):
        predict_cases(FakePredictor(), cases, tmp_path / "out")
    assert (tmp_path / "out" / "b.nii.gz").is_file()


def test_missing_and_broken_images_stop_nothing(tmp_path: Path) -> None:
    cases = [write_case(tmp_path / "in", name) for name in "abc"]
    cases[0].image_files[0].unlink()
    cases[1].image_files[0].write_bytes(b"no image")
    with pytest.raises(SamnetError, match=r"2 of 3 cases") as caught:
        predict_cases(FakePredictor(), cases, tmp_path / "out")
    assert "a_0000.nii.gz: no such file" in str(caught.value)
    assert "b_0000.nii.gz: cannot be read" in str(caught.value)
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == [
        "c.nii.gz",
        "dataset.json",
    ]


def test_a_label_map_that_cannot_be_written_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cases = [write_case(tmp_path / "in", name) for name in "abc"]

    def write(labels: np.ndarray, image: Any, file: Path) -> None:
        if file.name.startswith("b"):
            raise OSError("no space left")
        write_labels(labels, image, file)

    monkeypatch.setattr("samnet.inference.files.write_labels", write)
    with pytest.raises(SamnetError, match=r"1 of 3 cases(.|\n)*b: OSError: no space left"):
        predict_cases(FakePredictor(), cases, tmp_path / "out")
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == [
        "a.nii.gz",
        "c.nii.gz",
        "dataset.json",
    ]


def test_label_maps_say_what_they_mean(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    case = write_case(tmp_path / "in", "a")
    predict_cases(FakePredictor(), [case], tmp_path / "out")
    written = DatasetDescription.load(tmp_path / "out" / "dataset.json")
    assert written == FakePredictor.plan.description
    assert not [record for record in caplog.records if record.levelname == "WARNING"]


@pytest.mark.parametrize("there", ['{"labels": {"background": 0, "liver": 1}}', "no JSON"])
def test_a_dataset_json_that_is_there_stays(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, there: str
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "dataset.json").write_text(there)
    predict_cases(FakePredictor(), [write_case(tmp_path / "in", "a")], tmp_path / "out")
    assert (tmp_path / "out" / "dataset.json").read_text() == there
    assert re.search(
        r"dataset\.json: left as it is, but its labels are not the model's", caplog.text
    )


def test_finished_cases_are_kept_when_asked_to(tmp_path: Path) -> None:
    cases = [write_case(tmp_path / "in", name) for name in "ab"]
    predict_cases(FakePredictor(), cases[:1], tmp_path / "out")
    (tmp_path / "out" / "a.nii.gz").write_bytes(b"finished")
    predict_cases(FakePredictor(), cases, tmp_path / "out", keep_existing=True)
    assert (tmp_path / "out" / "a.nii.gz").read_bytes() == b"finished"
    assert nibabel.load(tmp_path / "out" / "b.nii.gz").shape == (4, 5, 6)
    predict_cases(FakePredictor(), cases, tmp_path / "out")
    assert nibabel.load(tmp_path / "out" / "a.nii.gz").shape == (4, 5, 6)


def test_what_killed_predictions_left_is_deleted_but_not_other_peoples_files(
    tmp_path: Path,
) -> None:
    output = tmp_path / "out"
    output.mkdir()
    half_written = f"{TEMPORARY_PREFIX}0a1b2c3d-b.nii.gz"
    (output / "notes.txt").touch()
    case = write_case(tmp_path / "in", "a")
    with lock_folder(output, "predicting the others"):
        (output / half_written).touch()
        predict_cases(FakePredictor(), [case], output)
        assert (output / half_written).exists()
    predict_cases(FakePredictor(), [case], output)
    assert sorted(file.name for file in output.iterdir()) == [
        "a.nii.gz",
        "dataset.json",
        "notes.txt",
    ]


def test_an_image_is_never_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    numbered = write_case(tmp_path / "in", "a")
    plain = Case("b", (numbered.image_files[0].rename(tmp_path / "in" / "b.nii.gz"),))
    before = plain.image_files[0].read_bytes()
    monkeypatch.chdir(tmp_path / "in")
    for output in (tmp_path / "in", Path(), tmp_path / "in" / ".." / "in"):
        with pytest.raises(UserError, match=r"b\.nii\.gz: .*would replace the image; .*-o"):
            predict_cases(FakePredictor(), [plain], output)
    assert plain.image_files[0].read_bytes() == before
    predict_cases(FakePredictor(), [write_case(tmp_path / "in", "c")], Path())
    assert Path("c.nii.gz").is_file()


@pytest.mark.parametrize("name", ["a.nii.gz", "prediction.png", "a_file"])
def test_the_output_is_a_folder(tmp_path: Path, name: str) -> None:
    (tmp_path / "a_file").touch()
    with pytest.raises(UserError, match="has to be a folder"):
        predict_cases(FakePredictor(), [write_case(tmp_path / "in", "a")], tmp_path / name)


@pytest.mark.parametrize("colours", [(), (3,)])
def test_pictures_keep_their_size_and_ending(tmp_path: Path, colours: tuple[int, ...]) -> None:
    picture = np.full((7, 9, *colours), 120, dtype=np.uint8)
    picture[:3] = 10
    file = tmp_path / "a_0000.png"
    io.imsave(file, picture, check_contrast=False)
    case = Case("a", (file,))
    predict_cases(FakePredictor(), [case], tmp_path / "out")
    labels = io.imread(output_file(case, tmp_path / "out"))
    assert labels.shape == (7, 9)
    assert np.array_equal(labels, picture.reshape(7, 9, -1)[..., 0] > 100)


def test_nothing_to_do_is_no_failure(tmp_path: Path, caplog: Any) -> None:
    predict_cases(FakePredictor(), [], tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []
