"""The calibration of a model from the scores and signals of its folds."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from builders.confidence import held_out_cases
from builders.models import make_plan
from builders.scores import make_scores

from samnet.confidence.calibration import Calibration
from samnet.confidence.files import record_signals, signals_table
from samnet.evaluation.summary import CaseScores, Protocol, summarize
from samnet.evaluation.summary_files import write_summary
from samnet.models.model_folder import ModelFolder
from samnet.training.calibrate import calibrate_model

NAMES = ("liver", "tumour")


def write_fold(model: ModelFolder, fold: str, number: int, *, mirror: bool = False) -> None:
    """Write plan, scores and signals of a validated fold with some cases."""
    axes = (2,) if mirror else ()
    plan = make_plan(mirror_axes=axes, mirror_at_prediction=mirror)
    run = model.run(fold)
    plan.save(run.plan_file)
    livers = held_out_cases(number, seed=int(fold))
    tumours = held_out_cases(number, "tumour", seed=10 + int(fold))
    scores = []
    for liver, tumour in zip(livers, tumours, strict=True):
        name = f"{fold}_{liver.case}"
        signals = {"liver": liver.signals, "tumour": tumour.signals}
        record_signals(run.validation, name, signals)
        of_case = {1: make_scores(liver.dice), 2: make_scores(tumour.dice)}
        scores.append(CaseScores(name, Path("a"), Path("b"), of_case))
    protocol = Protocol(plan.label_scheme, nsd_tolerance=2.0)
    write_summary(summarize(scores, protocol), run.validation / "summary.json")


@pytest.fixture
def model(tmp_path: Path) -> ModelFolder:
    return ModelFolder(tmp_path / "lora")


def test_calibration_rests_on_all_folds_with_scores(model: ModelFolder) -> None:
    write_fold(model, "0", 12)
    calibrate_model(model)
    assert Calibration.load(model.calibration_file, NAMES).folds == ("fold_0",)
    write_fold(model, "1", 14)
    make_plan().save(model.run("2").plan_file)  # is being trained
    calibrate_model(model)
    calibration = Calibration.load(model.calibration_file, NAMES)
    assert calibration.folds == ("fold_0", "fold_1")
    assert calibration.num_cases == 26
    assert calibration.classes["tumour"].num_cases == 26
    assert not calibration.mirror


def test_calibration_says_whether_inputs_were_mirrored(model: ModelFolder) -> None:
    write_fold(model, "0", 12, mirror=True)
    calibrate_model(model)
    assert Calibration.load(model.calibration_file, NAMES).mirror


def test_folds_of_older_versions_have_no_signals(model: ModelFolder) -> None:
    write_fold(model, "0", 12)
    write_fold(model, "1", 12)
    signals_table(model.run("0").validation).file.unlink()
    calibrate_model(model)
    assert Calibration.load(model.calibration_file, NAMES).folds == ("fold_1",)


def test_too_few_cases_leave_no_calibration(
    model: ModelFolder, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    write_fold(model, "0", 4)
    model.calibration_file.write_text("of an earlier run")
    calibrate_model(model)
    assert not model.calibration_file.exists()
    assert "no expected Dice: there are signals of fewer than 9 structures" in caplog.messages[-1]
