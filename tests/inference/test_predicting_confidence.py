"""What `predict_cases` writes and says of how sure a model is."""

from __future__ import annotations

import csv
import logging
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest
from builders.confidence import fit, held_out_cases, make_signals
from builders.models import FakePredictor, make_model, make_plan, synthetic_image
from builders.tiny import add_tiny_backbone

from samnet.confidence.files import read_signals
from samnet.core.geometry import Grid
from samnet.dataset.cases import Case
from samnet.inference.files import predict_cases
from samnet.inference.predictor import Prediction, Predictor
from samnet.models.model_folder import BEST, FINAL, ModelFolder

NAMES = ("liver", "tumour")
CALIBRATION = fit(held_out_cases(40) + held_out_cases(40, "tumour", seed=1), *NAMES)


class SurePredictor(FakePredictor):
    """Is as sure of the liver as the first voxel says, in percent, and finds no tumour."""

    def predict_and_check(self, array: np.ndarray, grid: Grid) -> Prediction:
        prediction = super().predict_and_check(array, grid)
        liver = make_signals(float(array[0, 0, 0, 0]) / 100)
        signals = {"liver": liver, "tumour": make_signals(None, 0.0)}
        confidence = CALIBRATION.expect(signals)
        return replace(prediction, signals=signals, confidence=confidence)


def write_cases(folder: Path, **percents: float) -> list[Case]:
    cases = []
    for name, percent in percents.items():
        folder.mkdir(exist_ok=True)
        file = folder / f"{name}_0000.nii.gz"
        array = np.full((4, 5, 6), 150, np.float32)
        array[0, 0, 0] = percent
        nibabel.save(nibabel.Nifti1Image(array, np.eye(4)), file)
        cases.append(Case(name, (file,)))
    return cases


def read_rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "confidence.csv").open(newline="") as handle:
        return list(csv.DictReader(handle))


def test_confidence_has_a_row_for_each_case_and_class(tmp_path: Path) -> None:
    cases = write_cases(tmp_path / "in", a=95, b=55)
    predict_cases(SurePredictor(), cases, tmp_path / "out")
    rows = read_rows(tmp_path / "out")
    assert [(row["case"], row["class"], row["flag"]) for row in rows] == [
        ("a", "liver", "no"),
        ("a", "tumour", "yes"),
        ("b", "liver", "yes"),
        ("b", "tumour", "yes"),
    ]
    assert float(rows[2]["low"]) <= float(rows[2]["expected_dice"]) <= float(rows[2]["high"])
    assert rows[1]["expected_dice"] == ""
    assert not (tmp_path / "out" / "signals.csv").exists()


def test_confidence_stays_right_when_cases_are_predicted_again(tmp_path: Path) -> None:
    first, second = write_cases(tmp_path / "in", a=95, b=55)
    out = tmp_path / "out"
    predict_cases(SurePredictor(), [first], out)
    predict_cases(SurePredictor(), [second], out)  # another job
    before = read_rows(out)
    predict_cases(SurePredictor(), [first, second], out, keep_existing=True)
    assert read_rows(out) == before
    predict_cases(SurePredictor(), [first, second], out)
    assert read_rows(out) == before
    predict_cases(FakePredictor(), [first], out)  # a model that expects nothing
    assert {row["case"] for row in read_rows(out)} == {"b"}


def test_confidence_of_a_case_that_was_not_finished_is_written_again(tmp_path: Path) -> None:
    cases = write_cases(tmp_path / "in", a=95, b=55)
    out = tmp_path / "out"
    predict_cases(SurePredictor(), cases, out)
    before = read_rows(out)
    (out / "a.nii.gz").unlink()
    predict_cases(SurePredictor(), cases, out, keep_existing=True)
    assert sorted(read_rows(out), key=lambda row: row["case"]) == before


def test_the_poorest_cases_are_named_at_the_end(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    cases = write_cases(tmp_path / "in", a=95, b=55)
    predict_cases(SurePredictor(), cases, tmp_path / "out")
    messages = [record.getMessage() for record in caplog.records]
    file = tmp_path / "out" / "confidence.csv"
    assert f"a poor Dice is expected of 2 of 2 predictions; all are in {file}" in messages
    assert "a: tumour: not predicted, but in every held-out case" in messages


def test_a_model_without_calibration_says_so_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    predict_cases(FakePredictor(), write_cases(tmp_path / "in", a=9, b=5), tmp_path / "out")
    said = [record for record in caplog.records if "no expected Dice" in record.getMessage()]
    assert len(said) == 1
    assert not (tmp_path / "out" / "confidence.csv").exists()


def test_signals_are_kept_on_request(tmp_path: Path) -> None:
    cases = write_cases(tmp_path / "in", a=95)
    predict_cases(SurePredictor(), cases, tmp_path / "out", keep_signals=True)
    signals = read_signals(tmp_path / "out")
    assert signals["a"]["liver"].probability == pytest.approx(0.95)
    assert not (tmp_path / "out" / "confidence.csv").exists()


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModelFolder:
    """A model of two folds with random weights and a calibration."""
    add_tiny_backbone(monkeypatch)
    plan = make_plan("scratch", head="linear", input_size=32, mirror_axes=(2,))
    folder = ModelFolder(make_model(tmp_path / "model", plan, ("fold_0", "fold_1")))
    CALIBRATION.save(folder.calibration_file)
    return folder


def predict(model: ModelFolder, **options: object) -> Prediction:
    predictor = Predictor.from_folder(model.path, device="cpu", **options)
    image = synthetic_image()[None]
    return predictor.predict_and_check(image, Grid(image.shape[1:], np.eye(4)))


def test_predictor_says_what_is_expected_of_a_case(model: ModelFolder) -> None:
    prediction = predict(model)
    assert set(prediction.confidence) == set(NAMES)
    assert prediction.confidence == CALIBRATION.expect(prediction.signals)
    found = [signals for signals in prediction.signals.values() if signals.size]
    assert found
    assert all(0 < signals.networks < 1 for signals in found if signals.networks is not None)
    assert all(signals.mirrors is None for signals in found)


@pytest.mark.parametrize("damage", ["{", '{"schema_version": 9}'])
def test_a_damaged_calibration_is_named_and_left_out(
    model: ModelFolder, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    model.calibration_file.write_text(damage)
    assert predict(model).confidence == {}
    said = [text for text in caplog.messages if "no expected Dice" in text]
    assert len(said) == 1
    assert str(model.calibration_file) in said[0]


def test_a_calibration_is_used_only_for_predictions_as_it_was_fitted_to(
    model: ModelFolder, caplog: pytest.LogCaptureFixture
) -> None:
    assert predict(model, mirror=True).confidence == {}
    assert "fitted to predictions without mirrored inputs" in caplog.messages[-1]
    for run in model.runs():
        run.checkpoint(FINAL).rename(run.checkpoint(BEST))
    assert predict(model, checkpoint=BEST).confidence == {}
    assert "fitted to the final weights, not to those of best" in caplog.messages[-1]
