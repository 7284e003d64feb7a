"""Predicting files: what is written, what is kept, and what a failed case leaves."""

from __future__ import annotations

import json
import re
import time
import weakref
from pathlib import Path

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
from samnet.dataset.cases import Case, find_label_files
from samnet.dataset.description import DatasetDescription
from samnet.inference.files import output_file, predict_cases
from samnet.inference.plausibility import EMPTY
from samnet.inference.predictor import Prediction
from samnet.inference.warning_file import WARNING_FILE, read_warnings

ROTATION = Rotation.from_rotvec([0.3, -0.2, 1.4]).as_matrix()
AFFINE = np.vstack([np.column_stack([ROTATION * (0.8, 0.6, 2.9), (11, -5, 7)]), (0, 0, 0, 1)])


def write_case(folder: Path, name: str, brightest: float = 150) -> Case:
    """Write an image `(X, Y, Z)` of 4 x 5 x 6 voxels, one of which has the value `brightest`."""
    file = folder / f"{name}_0000.nii.gz"
    folder.mkdir(exist_ok=True)
    array = np.arange(4 * 5 * 6, dtype=np.float32).reshape(4, 5, 6)
    array[0, 0, 0] = brightest
    image = nibabel.Nifti1Image(array, AFFINE)
    image.set_qform(AFFINE, 1)
    nibabel.save(image, file)
    return Case(name, (file,))


def names_in(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def test_predict_cases_writes_label_maps_on_the_grids_of_their_images(tmp_path: Path) -> None:
    case = write_case(tmp_path / "in", "a")
    predict_cases(FakePredictor(), [case], tmp_path / "out")
    image, labels = nibabel.load(case.image_files[0]), nibabel.load(tmp_path / "out" / "a.nii.gz")
    assert labels.shape == image.shape
    assert np.array_equal(labels.affine, image.affine)
    assert labels.get_data_dtype() == np.uint8
    assert np.array_equal(np.asarray(labels.dataobj), np.asarray(image.dataobj) > 100)


@pytest.mark.parametrize(("seconds", "left"), [(-1.0, 2), (1000.0, 0)])
def test_predict_cases_leaves_out_what_does_not_end_in_time(
    tmp_path: Path, seconds: float, left: int
) -> None:
    cases = [write_case(tmp_path / "in", name) for name in "abc"]
    ends_at = time.monotonic() + seconds
    assert predict_cases(FakePredictor(), cases, tmp_path / "out", ends_at=ends_at) == left
    assert len(list((tmp_path / "out").glob("*.nii.gz"))) == 3 - left


def test_predict_cases_expects_a_case_to_take_as_long_as_the_longest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ends of the cases: 10 and 11; a third one that takes 10 would end at 21."""
    clock, durations = [0.0], [10.0, 1.0, 1.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])

    class SlowPredictor(FakePredictor):
        def predict_and_check(self, array: np.ndarray, grid: Grid) -> Prediction:
            clock[0] += durations.pop(0)
            return super().predict_and_check(array, grid)

    cases = [write_case(tmp_path / "in", name) for name in "abc"]
    assert predict_cases(SlowPredictor(), cases, tmp_path / "out", ends_at=20.5) == 1
    assert not (tmp_path / "out" / "c.nii.gz").exists()


@pytest.mark.parametrize(
    "failure", [UserError("bright"), MemoryError("full"), KeyError("defect"), RuntimeError("x")]
)
def test_predict_cases_names_a_failed_case_after_the_others_are_done(
    tmp_path: Path, failure: Exception
) -> None:
    brightest = {"a": 150, "b": 250, "c": 150}
    cases = [write_case(tmp_path / "in", name, value) for name, value in brightest.items()]
    message = rf"failed for 1 of 3 cases.*\n  b: .*{failure.args[0]}"
    with pytest.raises(SamnetError, match=message) as caught:
        predict_cases(FakePredictor(failure), cases, tmp_path / "out")
    assert caught.value.exit_code == 1
    assert names_in(tmp_path / "out") == ["a.nii.gz", "c.nii.gz", "dataset.json"]


def test_predict_cases_frees_the_memory_of_a_failed_case_before_the_next(tmp_path: Path) -> None:
    references: list[weakref.ref] = []
    were_held: list[bool] = []

    class GreedyPredictor(FakePredictor):
        def predict_and_check(self, array: np.ndarray, grid: Grid) -> Prediction:
            were_held.append(any(reference() is not None for reference in references))
            work = np.empty(1000)
            references.append(weakref.ref(work))
            raise MemoryError(f"no more than {work.nbytes} bytes")

    cases = [write_case(tmp_path / "in", name) for name in "abc"]
    message = r"3 of 3 cases.*\n  a: MemoryError: no more than 8000 bytes"
    with pytest.raises(SamnetError, match=message):
        predict_cases(GreedyPredictor(), cases, tmp_path / "out")
    assert were_held == [False, False, False]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_predict_cases_names_an_image_with_nan_or_infinite_voxels(
    tmp_path: Path, value: float
) -> None:
    cases = [write_case(tmp_path / "in", "a", value), write_case(tmp_path / "in", "b")]
    message = r"a_0000\.nii\.gz: 1 voxels are NaN or infinite; replace them"
    with pytest.raises(SamnetError, match=message):
        predict_cases(FakePredictor(), cases, tmp_path / "out")
    assert (tmp_path / "out" / "b.nii.gz").is_file()


def test_predict_cases_continues_after_missing_and_broken_images(tmp_path: Path) -> None:
    cases = [write_case(tmp_path / "in", name) for name in "abc"]
    cases[0].image_files[0].unlink()
    cases[1].image_files[0].write_bytes(b"no image")
    with pytest.raises(SamnetError, match=r"2 of 3 cases") as caught:
        predict_cases(FakePredictor(), cases, tmp_path / "out")
    assert "a_0000.nii.gz: no such file" in str(caught.value)
    assert "b_0000.nii.gz: cannot be read" in str(caught.value)
    assert names_in(tmp_path / "out") == ["c.nii.gz", "dataset.json"]


def test_predict_cases_continues_after_a_label_map_that_cannot_be_written(tmp_path: Path) -> None:
    cases = [write_case(tmp_path / "in", name) for name in "abc"]
    blocked = tmp_path / "out" / "b.nii.gz"
    blocked.mkdir(parents=True)  # a folder where the file is to be
    message = r"1 of 3 cases(.|\n)*b: (IsADirectory|Permission)Error: "
    with pytest.raises(SamnetError, match=message):
        predict_cases(FakePredictor(), cases, tmp_path / "out")
    assert names_in(tmp_path / "out") == ["a.nii.gz", "b.nii.gz", "c.nii.gz", "dataset.json"]
    assert names_in(blocked) == []


def test_predict_cases_describes_the_labels_in_dataset_json(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    case = write_case(tmp_path / "in", "a")
    predict_cases(FakePredictor(), [case], tmp_path / "out")
    written = DatasetDescription.load(tmp_path / "out" / "dataset.json")
    assert written == FakePredictor.plan.description
    assert not [record for record in caplog.records if record.levelname == "WARNING"]


@pytest.mark.parametrize("there", ['{"labels": {"background": 0, "liver": 1}}', "no JSON"])
def test_predict_cases_leaves_a_dataset_json_unchanged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, there: str
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "dataset.json").write_text(there)
    predict_cases(FakePredictor(), [write_case(tmp_path / "in", "a")], tmp_path / "out")
    assert (tmp_path / "out" / "dataset.json").read_text() == there
    message = r"dataset\.json: left unchanged, but its labels are not the model's"
    assert re.search(message, caplog.text)


def test_predict_cases_names_a_dataset_json_that_ignores_another_label(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    content = FakePredictor.plan.description.as_json()
    ignored = max(content["labels"].values()) + 1
    (tmp_path / "out").mkdir()
    file = tmp_path / "out" / "dataset.json"
    file.write_text(json.dumps(content | {"labels": content["labels"] | {"ignore": ignored}}))
    predict_cases(FakePredictor(), [write_case(tmp_path / "in", "a")], tmp_path / "out")
    assert "left unchanged, but its labels are not the model's" in caplog.text


def test_predict_cases_keeps_finished_cases_on_request(tmp_path: Path) -> None:
    cases = [write_case(tmp_path / "in", name) for name in "ab"]
    predict_cases(FakePredictor(), cases[:1], tmp_path / "out")
    (tmp_path / "out" / "a.nii.gz").write_bytes(b"finished")
    predict_cases(FakePredictor(), cases, tmp_path / "out", keep_existing=True)
    assert (tmp_path / "out" / "a.nii.gz").read_bytes() == b"finished"
    assert nibabel.load(tmp_path / "out" / "b.nii.gz").shape == (4, 5, 6)
    predict_cases(FakePredictor(), cases, tmp_path / "out")
    assert nibabel.load(tmp_path / "out" / "a.nii.gz").shape == (4, 5, 6)


def test_predict_cases_deletes_leftovers_of_killed_predictions_alone(
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
    assert names_in(output) == ["a.nii.gz", "dataset.json", "notes.txt"]


def test_predict_cases_never_replaces_an_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
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
def test_predict_cases_refuses_an_output_that_is_no_folder(tmp_path: Path, name: str) -> None:
    (tmp_path / "a_file").touch()
    with pytest.raises(UserError, match="has to be a folder"):
        predict_cases(FakePredictor(), [write_case(tmp_path / "in", "a")], tmp_path / name)


@pytest.mark.parametrize("colours", [(), (3,)])
def test_predict_cases_keeps_size_and_ending_of_2d_images(
    tmp_path: Path, colours: tuple[int, ...]
) -> None:
    image = np.full((7, 9, *colours), 120, dtype=np.uint8)
    image[:3] = 10
    file = tmp_path / "a_0000.png"
    io.imsave(file, image, check_contrast=False)
    case = Case("a", (file,))
    predict_cases(FakePredictor(), [case], tmp_path / "out")
    labels = io.imread(output_file(case, tmp_path / "out"))
    assert labels.shape == (7, 9)
    assert np.array_equal(labels, image.reshape(7, 9, -1)[..., 0] > 100)


def test_predict_cases_does_nothing_for_no_cases(tmp_path: Path) -> None:
    predict_cases(FakePredictor(), [], tmp_path / "out")
    assert names_in(tmp_path / "out") == []


def test_predict_cases_names_doubtful_predictions_next_to_them(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing of `a` is brighter than 100."""
    cases = [write_case(tmp_path / "in", name) for name in "ab"]
    darken(cases[0])
    predict_cases(FakePredictor(), cases, tmp_path / "out")
    assert read_warnings(tmp_path / "out") == {"a": [EMPTY]}
    file = tmp_path / "out" / WARNING_FILE
    lines = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert lines == [
        f"a: {EMPTY}",
        f"look at 1 of 2 predictions, such as a; the reasons are in {file}",
        "1 of 2 predictions are empty",
    ]
    assert sorted(find_label_files(tmp_path / "out", [".nii.gz"])) == ["a", "b"]


def test_predict_cases_keeps_warnings_of_kept_label_maps_and_drops_outdated_ones(
    tmp_path: Path,
) -> None:
    cases = [write_case(tmp_path / "in", name) for name in "ab"]
    darken(cases[0])
    predict_cases(FakePredictor(), cases[:1], tmp_path / "out")
    predict_cases(FakePredictor(), cases, tmp_path / "out", keep_existing=True)
    assert read_warnings(tmp_path / "out") == {"a": [EMPTY]}
    write_case(tmp_path / "in", "a")
    predict_cases(FakePredictor(), cases, tmp_path / "out")
    assert names_in(tmp_path / "out") == ["a.nii.gz", "b.nii.gz", "dataset.json"]


def darken(case: Case) -> None:
    """Write the image of a case again, with 0 in place of everything."""
    image = nibabel.load(case.image_files[0])
    dark = nibabel.Nifti1Image(np.zeros(image.shape, np.float32), image.affine)
    nibabel.save(dark, case.image_files[0])


def test_predict_cases_takes_grey_that_is_stored_in_colour(tmp_path: Path) -> None:
    grey = np.arange(120).reshape(10, 12).astype(np.uint8)
    io.imsave(tmp_path / "a.png", np.stack([grey] * 3, axis=-1), check_contrast=False)
    seen: list[np.ndarray] = []

    class OneChannelPredictor(FakePredictor):
        def predict_and_check(self, array: np.ndarray, grid: Grid) -> Prediction:
            seen.append(array)
            return super().predict_and_check(array, grid)

    assert len(OneChannelPredictor.plan.channel_names) == 1
    predict_cases(OneChannelPredictor(), [Case("a", (tmp_path / "a.png",))], tmp_path / "out")
    assert np.array_equal(seen[0], grey[None, None])
    assert np.array_equal(io.imread(tmp_path / "out" / "a.png"), grey > 100)
