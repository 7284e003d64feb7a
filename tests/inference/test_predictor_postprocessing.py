"""The rules that are kept with a model or an ensemble, applied to what it predicts."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from builders.tiny import TWO_CLASSES, make_model, tiny_backbone, use_folders

from samnet.cli.predict import main
from samnet.core.errors import UserError
from samnet.dataset.dataset_folder import ensemble_folder
from samnet.inference.ensemble import EnsemblePredictor
from samnet.inference.find_model import find_model, find_models
from samnet.inference.predictor import Predictor
from samnet.models.model_folder import ModelFolder
from samnet.models.weights_note import note_weights
from samnet.postprocessing.rules import POSTPROCESSING_FILE, Postprocessing, StructureRules

__all__ = ["tiny_backbone"]
NAME = TWO_CLASSES.class_names[0]
NOTHING_IS_LARGE_ENOUGH = Postprocessing({NAME: StructureRules(smallest_size=1e9)})
IMAGE = np.random.default_rng(0).uniform(0, 255, (1, 8, 20, 20)).astype(np.float32)
SPACING = (2.0, 1.0, 1.0)


def write_models(folder: Path, names: tuple[str, ...] = ("lora", "frozen")) -> list[Path]:
    for seed, name in enumerate(names):
        make_model(folder / name / "fold_0", seed)
    return [folder / name for name in names]


def warnings_in(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.message for record in caplog.records if record.levelno == logging.WARNING]


def test_a_model_predicts_by_its_rules(tmp_path: Path) -> None:
    [folder] = write_models(tmp_path, ("lora",))
    before = Predictor.from_folder(folder, device="cpu").predict(
        IMAGE, orientation="SAR", spacing=SPACING
    )
    assert (before == 1).any()
    NOTHING_IS_LARGE_ENOUGH.save(folder)
    after = Predictor.from_folder(folder, device="cpu").predict(
        IMAGE, orientation="SAR", spacing=SPACING
    )
    assert np.array_equal(after, np.where(before == 1, 0, before))
    unchanged = Predictor.from_folder(folder, device="cpu", postprocess=False)
    assert np.array_equal(unchanged.predict(IMAGE, orientation="SAR", spacing=SPACING), before)
    of_fold = Predictor.from_folder(folder / "fold_0", device="cpu").predict(
        IMAGE, orientation="SAR", spacing=SPACING
    )
    assert np.array_equal(of_fold, after)


def test_an_ensemble_predicts_by_its_own_rules(tmp_path: Path) -> None:
    folders = write_models(tmp_path)
    before = EnsemblePredictor.from_folders(folders, device="cpu").predict(
        IMAGE, orientation="SAR", spacing=SPACING
    )
    assert (before == 1).any()
    NOTHING_IS_LARGE_ENOUGH.save(folders[0])  # of a member: not of the ensemble
    same = EnsemblePredictor.from_folders(folders, device="cpu").predict(
        IMAGE, orientation="SAR", spacing=SPACING
    )
    assert np.array_equal(same, before)
    NOTHING_IS_LARGE_ENOUGH.save(ensemble_folder(tmp_path, ["lora", "frozen"]))
    for postprocess, expected in ((True, np.where(before == 1, 0, before)), (False, before)):
        ensemble = EnsemblePredictor.from_folders(folders, device="cpu", postprocess=postprocess)
        assert np.array_equal(ensemble.predict(IMAGE, orientation="SAR", spacing=SPACING), expected)


def test_rules_for_other_weights_are_named_and_not_applied(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folders = write_models(tmp_path)
    models = [ModelFolder(folder) for folder in folders]
    of_ensemble = ensemble_folder(tmp_path, ["lora", "frozen"])
    for folder, chosen_for in ((folders[0], models[:1]), (of_ensemble, models)):
        weights = note_weights(chosen_for, ["0"])
        replace(NOTHING_IS_LARGE_ENOUGH, weights=weights).save(folder)
    make_model(folders[0] / "fold_1", 7)  # trained later: no reason to drop the rules
    assert Predictor.from_folder(folders[0], device="cpu").postprocessing
    assert EnsemblePredictor.from_folders(folders, device="cpu").postprocessing
    assert not warnings_in(caplog)
    make_model(folders[0] / "fold_0", 8)
    assert not Predictor.from_folder(folders[0], device="cpu").postprocessing
    assert not EnsemblePredictor.from_folders(folders, device="cpu").postprocessing
    for message, retrained in zip(warnings_in(caplog), ("fold_0", "lora/fold_0"), strict=True):
        assert f"were chosen before {retrained} was trained again" in message
        assert "run samnet_find_best_configuration again" in message


def test_damaged_rules_are_named(tmp_path: Path) -> None:
    [folder] = write_models(tmp_path, ("lora",))
    (folder / POSTPROCESSING_FILE).write_text('{"structures": {"spleen": {"fill_holes": true}}}')
    with pytest.raises(UserError, match=r"postprocessing\.json: has rules for 'spleen'"):
        Predictor.from_folder(folder, device="cpu")


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the results of a data set of two models."""
    use_folders(tmp_path, tmp_path / "results", monkeypatch)
    folder = tmp_path / "results" / "Dataset501_Tiny"
    write_models(folder)
    return folder


def test_best_stands_for_what_a_comparison_has_chosen(results: Path) -> None:
    (results / "best_configuration.json").write_text(json.dumps({"members": ["frozen", "lora"]}))
    expected = [results / "frozen", results / "lora"]
    for dataset in ("501", None):
        assert [model.path for model in find_models([], dataset, ["best"])] == expected
    with pytest.raises(UserError, match="and is named alone"):
        find_models([], "501", ["best", "lora"])
    # Commands that take a single model.
    with pytest.raises(UserError, match="best is the ensemble of frozen and lora of Dataset501"):
        find_model(None, "501", "best")
    (results / "best_configuration.json").write_text(json.dumps({"members": ["lora"]}))
    assert find_model(None, "501", "best").path == results / "lora"


def test_a_choice_among_other_weights_is_named(
    results: Path, caplog: pytest.LogCaptureFixture
) -> None:
    weights = note_weights([ModelFolder(results / "lora")], ["0"])
    choice = {"members": ["lora"], "weights": weights}
    (results / "best_configuration.json").write_text(json.dumps(choice))
    find_models([], None, ["best"])
    assert not warnings_in(caplog)
    make_model(results / "lora" / "fold_0", 8)
    assert [model.path for model in find_models([], None, ["best"])] == [results / "lora"]
    assert "chosen before fold_0 was trained again" in caplog.text


@pytest.mark.parametrize("content", [None, {"best": "lora"}])
def test_best_without_a_comparison_is_refused(
    results: Path, content: object, capsys: pytest.CaptureFixture[str]
) -> None:
    if content is not None:
        (results / "best_configuration.json").write_text(json.dumps(content))
    arguments = ["-d", "501", "-c", "best", "-i", str(results), "-o", str(results / "out")]
    assert main(arguments) == 2
    assert "run samnet_find_best_configuration" in capsys.readouterr().err
