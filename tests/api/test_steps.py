"""The steps from Python: numbers come back, nothing is printed, and any of them can be stopped."""

from __future__ import annotations

import math
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders.data import write_dataset
from builders.tiny import SHORT, add_tiny_backbone
from safetensors.numpy import load_file

import samnet
from samnet.models.model_folder import FINAL, RunFolder
from samnet.training import dry_run

SETTINGS = SHORT | {
    "initial_weights": "random",
    "views": [0],
    "slicing_axis": 0,
    "steps": 4,
    "steps_per_epoch": 2,
    "patience": 0,
}
NAME = "Dataset501_Tiny"


@pytest.fixture(scope="module", autouse=True)
def tiny() -> Any:
    """Let plans know the tiny backbone, and take no time to measure steps."""
    with pytest.MonkeyPatch.context() as patch:
        add_tiny_backbone(patch)
        patch.setattr(dry_run, "measure_step", lambda *configuration: 0.5)
        # Nothing may lie where the variables say.
        for kind in ("raw", "preprocessed", "results"):
            patch.setenv(f"samnet_{kind}", f"/nowhere/{kind}")
        yield


@dataclass
class Project:
    """A project that was taken through all steps.

    Attributes:
        root: Its folder.
        calls: What each step told its progress.
        results: What each step has returned, by its name.
    """

    root: Path
    calls: list[tuple[float, float | None, str]]
    results: dict[str, Any]

    @property
    def folders(self) -> dict[str, Path]:
        return {"raw": self.root / "raw", "preprocessed": self.root / "preprocessed"}

    @property
    def images(self) -> Path:
        return self.root / "raw" / NAME / "imagesTs"

    def train(self, results: str, **options: Any) -> samnet.TrainingResult:
        return samnet.train(
            501,
            "lora",
            **self.folders,
            results=self.root / results,
            device="cpu",
            workers=0,
            **options,
        )


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Take a synthetic data set through all steps."""
    made = Project(tmp_path_factory.mktemp("project"), [], {})
    write_dataset(made.root / "raw", num_cases=4, num_test=2, shape=(5, 24, 20))

    def show(done: float, total: float | None, what: str) -> None:
        made.calls.append((done, total, what))

    common = {**made.folders, "processes": 0, "progress": show}
    raw, results, output = made.root / "raw", made.results, made.root / "out"
    results["verify"] = samnet.verify("501", raw=raw, processes=0, progress=show)
    results["plan"] = samnet.plan(501, **common, device="cpu", settings=SETTINGS)
    results["preprocess"] = samnet.preprocess(NAME, **common)
    results["train"] = made.train("results", progress=show)
    model = results["train"].folder
    results["predict"] = samnet.predict(made.images, output, model=model, progress=show)
    references = raw / NAME / "labelsTs"
    results["evaluate"] = samnet.evaluate(output, references, processes=0, progress=show)
    results["report"] = samnet.report(model, **made.folders, progress=show)
    return made


def test_plan_takes_images_without_labels_from_a_folder(tmp_path: Path) -> None:
    write_dataset(tmp_path / "raw", num_cases=2, num_test=1, shape=(5, 24, 20))
    scans = (tmp_path / "raw" / NAME / "imagesTs").rename(tmp_path / "scans")
    folders = {"raw": tmp_path / "raw", "preprocessed": tmp_path / "prepared"}
    options: dict[str, Any] = {"settings": SETTINGS, "device": "cpu", "processes": 0}
    plan = samnet.plan(501, **folders, unlabelled=scans, **options)
    assert plan.fingerprint.num_unlabelled == 1


def test_steps_print_nothing(
    project: Project, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    samnet.verify(501, raw=project.root / "raw", processes=0)
    samnet.predict(project.images, tmp_path / "out", model=project.results["train"].folder)
    assert capfd.readouterr() == ("", "")
    samnet.verify(501, raw=project.root / "raw", processes=0, progress=True)
    assert "verifying" in capfd.readouterr().err


def test_results_hold_the_numbers_and_are_short(project: Project) -> None:
    found = project.results
    for result in found.values():
        assert len(repr(result)) < 200
        assert "\n" not in repr(result)
    assert found["verify"].is_usable
    assert found["verify"].num_cases == found["preprocess"].num_cases == 4
    plan = found["plan"]
    assert plan.file.is_file()
    assert next(iter(plan.configurations)) == "lora"
    assert plan.configurations["lora"]["steps"] == 4
    assert "steps" in plan.explain(["lora"])
    assert NAME in str(plan)

    trained = found["train"]
    assert trained.folder == project.root / "results" / NAME / "lora" / "fold_0"
    assert trained.steps == trained.folds[0].history[-1]["step"] == 4
    assert trained.dice == trained.scores.dice
    cases = trained.scores.cases
    assert set(cases) == {case.case for case in trained.worst_cases}
    dice = [scores["ball"]["Dice"] for scores in cases.values()]
    assert math.isclose(trained.dice, float(np.mean(dice)))
    assert "held-out" in str(trained)

    predicted = found["predict"]
    assert set(predicted.files) == {"case_04", "case_05"}
    assert all(file.is_file() for file in predicted.files.values())
    evaluated = found["evaluate"]
    score = evaluated.scores.classes["ball"]["Dice"]
    assert score.low <= score.mean <= score.high
    assert evaluated.summary_file.is_file()
    assert evaluated.table_file.is_file()
    page = found["report"]
    assert page.url.startswith("file:///")
    assert page.file.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")


def test_progress_names_each_part_with_its_end(project: Project) -> None:
    last = {what: (done, total) for done, total, what in project.calls}
    assert {"verifying", "fingerprint", "preprocessing", "training", "predicting"} <= set(last)
    assert last["verifying"] == last["preprocessing"] == (4, 4)
    assert last["training"] == (4, 4)
    assert last["predicting"] == (2, 2)


class Enough(Exception):
    """What a caller raises to stop."""


def test_training_that_progress_stops_resumes_to_the_same_weights(project: Project) -> None:
    def stop(done: float, total: float | None, what: str) -> None:
        if what == "training" and done >= 3:
            raise Enough

    with pytest.raises(Enough):
        project.train("stopped", progress=stop)
    folder = project.root / "stopped" / NAME / "lora" / "fold_0"
    assert not RunFolder(folder).is_finished
    steps = []
    resumed = project.train(
        "stopped", progress=lambda done, total, what: steps.append((what, done))
    )
    assert min(done for what, done in steps if what == "training") == 3
    expected = load_file(RunFolder(project.results["train"].folder).checkpoint(FINAL))
    found = load_file(RunFolder(resumed.folder).checkpoint(FINAL))
    assert found.keys() == expected.keys()
    for name, weights in found.items():
        assert np.array_equal(weights, expected[name]), name
    assert resumed.scores.cases == project.results["train"].scores.cases


def test_prediction_that_progress_stops_keeps_what_is_complete(
    project: Project, tmp_path: Path
) -> None:
    def stop(done: float, total: float | None, what: str) -> None:
        if done >= 1.1:
            raise Enough

    model = project.results["train"].folder
    with pytest.raises(Enough):
        samnet.predict(project.images, tmp_path, model=model, progress=stop)
    assert [file.name for file in tmp_path.glob("*.nii.gz")] == ["case_04.nii.gz"]
    before = (tmp_path / "case_04.nii.gz").stat().st_mtime_ns
    found = samnet.predict(project.images, tmp_path, model=model, keep_existing=True)
    assert all(file.is_file() for file in found.files.values())
    assert (tmp_path / "case_04.nii.gz").stat().st_mtime_ns == before


def test_threads_train_and_predict_at_once_each_with_its_own_folders(project: Project) -> None:
    model = project.results["train"].folder
    predictor = samnet.Predictor.from_folder(model, device="cpu")

    def predict(name: str) -> np.ndarray:
        return predictor.segment(project.images / name, probabilities=True).probabilities

    names = ["case_04_0000.nii.gz", "case_05_0000.nii.gz"] * 2
    expected = [predict(name) for name in names]
    told: dict[str, set[int]] = {"thread_a": set(), "thread_b": set()}

    def train(results: str) -> samnet.TrainingResult:
        def show(done: float, total: float | None, what: str) -> None:
            told[results].add(threading.get_ident())

        return project.train(results, progress=show)

    with ThreadPoolExecutor(4) as pool:
        runs = list(pool.map(train, told))
        maps = list(pool.map(predict, names))
    for run, results in zip(runs, told, strict=True):
        assert run.folder.is_relative_to(project.root / results)
        assert run.steps == 4
        assert len(told[results]) == 1
    assert told["thread_a"] != told["thread_b"]
    for found, alone in zip(maps, expected, strict=True):
        assert np.array_equal(found, alone)
    assert not np.array_equal(maps[0], maps[1])


def test_mistakes_are_user_errors(project: Project, tmp_path: Path) -> None:
    with pytest.raises(samnet.UserError, match=r"raw is '.*', which is not there"):
        samnet.verify(77, raw=tmp_path / "missing")
    with pytest.raises(samnet.UserError, match="is not planned yet"):
        samnet.preprocess(501, raw=project.root / "raw", preprocessed=tmp_path)
    with pytest.raises(samnet.UserError, match="no such folder"):
        samnet.evaluate(tmp_path / "missing", tmp_path)
    with pytest.raises(samnet.UserError, match="predictions= needs the images"):
        samnet.report(predictions=tmp_path)
    with pytest.raises(samnet.UserError, match="images= goes with predictions="):
        samnet.report(tmp_path, images=tmp_path)


def test_faults_are_returned_and_fixed(tmp_path: Path) -> None:
    import nibabel

    folder = write_dataset(tmp_path, num_cases=2, shape=(4, 12, 10))
    file = folder / "labelsTr" / "case_00.nii.gz"
    labels = nibabel.load(file)
    values = np.asarray(labels.dataobj) * 255
    nibabel.save(nibabel.Nifti1Image(values.astype(np.uint8), labels.affine), file)
    found = samnet.verify(501, raw=tmp_path, processes=0)
    assert [fault.case for fault in found.faults] == ["case_00"]
    with pytest.raises(samnet.UserError, match="case_00"):
        found.raise_if_faulty()
    fixed = samnet.verify(501, raw=tmp_path, processes=0, fix=True)
    assert fixed.is_usable
    assert len(fixed.fixes) == 1
