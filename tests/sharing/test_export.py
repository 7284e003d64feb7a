"""A model is exported as one file, and installed from it."""

from __future__ import annotations

import json
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from builders.confidence import fit, held_out_cases
from builders.fingerprint import make_fingerprint
from builders.models import DATASET, LORA, add_tiny_sam, make_model, make_plan, synthetic_image

from samnet.confidence.calibration import Calibration
from samnet.core.errors import UserError
from samnet.dataset.description import DatasetDescription
from samnet.dataset.label_scheme import LabelScheme
from samnet.fingerprint.training_data import TrainingData, summarize_training_data
from samnet.inference.predictor import Predictor
from samnet.models.base import Base, load_base, save_base
from samnet.models.model_folder import FINAL, ModelFolder
from samnet.postprocessing.rules import (
    POSTPROCESSING_FILE,
    Postprocessing,
    StructureRules,
    load_postprocessing,
)
from samnet.sharing.export import export_model
from samnet.sharing.install import install_model


@pytest.fixture
def checkpoints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    add_tiny_sam(tmp_path / "checkpoints", monkeypatch)
    monkeypatch.setenv("samnet_results", str(tmp_path / "results"))
    return tmp_path / "checkpoints"


@pytest.fixture
def adapter(checkpoints: Path, tmp_path: Path) -> ModelFolder:
    """A model of two folds, adapters on `tiny_sam`."""
    folder = make_model(tmp_path / "lora", make_plan(**LORA), ("fold_0", "fold_1"))
    return ModelFolder(folder)


def predict(model: Path) -> np.ndarray:
    """Return the labels `(Z, Y, X)` of a synthetic image."""
    return Predictor.from_folder(model, device="cpu").predict(
        synthetic_image(), orientation="SAR", spacing=(1, 1, 1)
    )


def test_export_model_writes_manifest_plans_weights_and_bases(
    adapter: ModelFolder, tmp_path: Path
) -> None:
    manifest = export_model(adapter, tmp_path / "out" / "model.zip")
    with zipfile.ZipFile(tmp_path / "out" / "model.zip") as archive:
        names = archive.namelist()
        assert names[:3] == ["manifest.json", "dataset.json", "MODEL_CARD.md"]
        in_folds = []
        for fold in ("fold_0", "fold_1"):
            for name in ("base.json", "checkpoint_final.safetensors", "plan.json"):
                in_folds.append(f"{fold}/{name}")
        assert sorted(names[3:]) == in_folds
        content = json.loads(archive.read("manifest.json"))
        weights = safetensors.torch.load(archive.read("fold_0/checkpoint_final.safetensors"))
    assert content["schema_version"] == 1
    assert (content["dataset_name"], content["configuration"]) == (DATASET, "lora")
    assert content["base"] == {
        "backbone": "tiny_sam",
        "file_name": "sam_tiny.pth",
        "sha256": load_base(adapter.run("0").base_file).sha256,
    }
    assert set(content["files"]) == set(names) - {"manifest.json"}
    assert manifest.folds == ["fold_0", "fold_1"]
    for name in weights:  # none of the base
        assert name.startswith("head.") or ".down." in name or ".up." in name


def test_exported_model_says_what_dice_is_expected(adapter: ModelFolder, tmp_path: Path) -> None:
    names = ("liver", "tumour")
    calibration = fit(held_out_cases(20) + held_out_cases(20, "tumour"), *names)
    calibration.save(adapter.calibration_file)
    export_model(adapter, tmp_path / "model.zip")
    installed = ModelFolder(install_model(tmp_path / "model.zip")[0])
    assert Calibration.load(installed.calibration_file, names) == calibration
    adapter.calibration_file.write_text("{")
    with pytest.raises(UserError, match=r"confidence\.json: not valid JSON"):
        export_model(adapter, tmp_path / "other.zip")
    assert not (tmp_path / "other.zip").exists()


def test_exported_model_brings_its_postprocessing(adapter: ModelFolder, tmp_path: Path) -> None:
    rules = Postprocessing({"liver": StructureRules(largest_component=True)})
    rules.save(adapter.path)
    export_model(adapter, tmp_path / "model.zip")
    installed = install_model(tmp_path / "model.zip")[0]
    scheme = adapter.run("0").plan.label_scheme
    assert load_postprocessing(installed, scheme) == rules
    replace(rules, weights={"fold_0": "of before"}).save(adapter.path)
    export_model(adapter, tmp_path / "retrained.zip")
    with zipfile.ZipFile(tmp_path / "retrained.zip") as archive:
        assert POSTPROCESSING_FILE not in archive.namelist()
    (adapter.path / POSTPROCESSING_FILE).write_text("{")
    with pytest.raises(UserError, match=r"postprocessing\.json: not valid JSON"):
        export_model(adapter, tmp_path / "other.zip")


def test_exported_model_tells_what_it_was_trained_on(adapter: ModelFolder, tmp_path: Path) -> None:
    fingerprint = make_fingerprint(channels=("CT",))
    data = summarize_training_data(fingerprint, fingerprint.cases)
    assert data is not None
    for fold in ("0", "1"):
        data.save(adapter.run(fold).training_data_file)
    export_model(adapter, tmp_path / "model.zip")
    folder, _ = install_model(tmp_path / "model.zip")
    assert Predictor.from_folder(folder, device="cpu").training_data == data


def test_every_fold_keeps_its_own_plan_and_training_data(
    adapter: ModelFolder, tmp_path: Path
) -> None:
    fingerprint = make_fingerprint(channels=("CT",))
    for number, fold in enumerate(("0", "1")):
        run = adapter.run(fold)
        run.plan.with_values("lora", {"steps": 7 + number}, "for this run").save(run.plan_file)
        data = summarize_training_data(fingerprint, list(fingerprint.cases)[: 3 + number])
        assert data is not None
        data.save(run.training_data_file)
    export_model(ModelFolder(adapter.path), tmp_path / "model.zip")
    folder, _ = install_model(tmp_path / "model.zip")
    for number, fold in enumerate(("0", "1")):
        run = ModelFolder(folder).run(fold)
        assert run.configuration.steps == 7 + number
        assert TrainingData.load(run.training_data_file).num_cases == 3 + number


def test_model_keeps_the_name_of_its_configuration_in_any_folder(
    checkpoints: Path, tmp_path: Path
) -> None:
    folder = make_model(tmp_path / "sent by a friend", make_plan(**LORA))
    manifest = export_model(ModelFolder(folder), tmp_path / "model.zip")
    assert (manifest.dataset_name, manifest.configuration) == (DATASET, "lora")


def test_model_of_all_folds_of_a_cross_validation_can_be_installed(
    checkpoints: Path, tmp_path: Path
) -> None:
    folds = (*(f"fold_{number}" for number in range(5)), "fold_all")
    folder = make_model(tmp_path / "lora", make_plan(**LORA), folds)
    names = ["0", "1", "2", "3", "4", "all"]
    export_model(ModelFolder(folder), tmp_path / "model.zip", names)
    _, manifest = install_model(tmp_path / "model.zip")
    assert manifest.folds == sorted(folds)


def test_install_refuses_training_data_of_another_form(
    adapter: ModelFolder, tmp_path: Path
) -> None:
    fingerprint = make_fingerprint(channels=("T1", "T2"))  # the model has one channel
    data = summarize_training_data(fingerprint, fingerprint.cases)
    assert data is not None
    data.save(adapter.run("0").training_data_file)
    export_model(adapter, tmp_path / "model.zip")
    with pytest.raises(UserError, match=r"training_data\.json: describes 2 channels"):
        install_model(tmp_path / "model.zip")


def test_export_model_writes_the_same_file_again(adapter: ModelFolder, tmp_path: Path) -> None:
    for name in ("one.zip", "two.zip"):
        export_model(adapter, tmp_path / name)
    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "two.zip").read_bytes()


def test_installed_model_predicts_what_the_exported_one_does(
    adapter: ModelFolder, tmp_path: Path
) -> None:
    export_model(adapter, tmp_path / "model.zip")
    folder, manifest = install_model(tmp_path / "model.zip")
    assert folder == tmp_path / "results" / DATASET / "lora"
    assert manifest.base is not None
    expected = predict(adapter.path)
    assert len(np.unique(expected)) > 1
    assert np.array_equal(predict(folder), expected)
    installed = ModelFolder(folder)
    assert installed.run("1").plan == adapter.run("1").plan
    description = DatasetDescription.load(installed.description_file)
    assert description.label_scheme.class_names == ("liver", "tumour")
    assert description.channel_names == ("CT",)


def test_export_model_names_no_base_of_a_model_that_needs_none(
    checkpoints: Path, tmp_path: Path
) -> None:
    model = ModelFolder(make_model(tmp_path / "scratch", make_plan("scratch")))
    assert export_model(model, tmp_path / "model.zip").base is None
    folder, manifest = install_model(tmp_path / "model.zip")
    assert manifest.base is None
    assert not ModelFolder(folder).run("0").base_file.exists()
    assert predict(folder).shape == (3, 40, 40)


@pytest.mark.parametrize(
    ("folder", "folds", "expected"),
    [
        (".", ["1"], ["fold_1"]),
        (".", ["all"], ["fold_all"]),
        (".", None, ["fold_0", "fold_1"]),
        ("fold_1", None, ["fold_1"]),
    ],
)
def test_export_model_takes_the_folds_of_a_prediction(
    checkpoints: Path, tmp_path: Path, folder: str, folds: list[str] | None, expected: list[str]
) -> None:
    model = make_model(tmp_path / "lora", make_plan(**LORA), ("fold_0", "fold_1", "fold_all"))
    manifest = export_model(ModelFolder(model / folder), tmp_path / "model.zip", folds)
    assert manifest.folds == expected


def test_export_model_calls_a_fold_without_its_name_all(
    adapter: ModelFolder, tmp_path: Path
) -> None:
    adapter.run("0").path.rename(tmp_path / "copied")
    manifest = export_model(ModelFolder(tmp_path / "copied"), tmp_path / "model.zip")
    assert manifest.folds == ["fold_all"]


def test_export_model_refuses_an_unfinished_fold(adapter: ModelFolder, tmp_path: Path) -> None:
    adapter.run("1").checkpoint(FINAL).unlink()
    with pytest.raises(UserError, match="fold_1 not finished"):
        export_model(adapter, tmp_path / "model.zip", ["0", "1"])
    assert not (tmp_path / "model.zip").exists()


def test_export_model_refuses_another_ending(adapter: ModelFolder, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"has to end in \.zip"):
        export_model(adapter, tmp_path / "model.tar")
    assert not (tmp_path / "model.tar").exists()


def test_export_model_refuses_folds_on_different_bases(
    adapter: ModelFolder, tmp_path: Path
) -> None:
    save_base(Base("tiny_sam", "medsam.pth", "a" * 64), adapter.run("1"))
    message = r"was trained on medsam\.pth .* on sam_tiny\.pth .*; choose one with -f"
    with pytest.raises(UserError, match=message):
        export_model(adapter, tmp_path / "model.zip")
    assert not (tmp_path / "model.zip").exists()


def test_export_model_refuses_folds_of_different_configurations(
    adapter: ModelFolder, tmp_path: Path
) -> None:
    make_plan("mine", **LORA).save(adapter.run("1").plan_file)
    with pytest.raises(UserError, match=r"mine, but .* is Dataset007_Synthetic, lora; choose one"):
        export_model(adapter, tmp_path / "model.zip")


def test_export_model_leaves_out_the_folders_of_this_machine(
    checkpoints: Path, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "home" / "somebody"
    elsewhere.mkdir(parents=True)
    (checkpoints / "sam_tiny.pth").rename(elsewhere / "medsam.pth")
    plan = make_plan(**LORA | {"initial_weights": str(elsewhere / "medsam.pth")})
    model = make_model(tmp_path / "lora", plan)
    expected = predict(model)
    export_model(ModelFolder(model), tmp_path / "model.zip")
    with zipfile.ZipFile(tmp_path / "model.zip") as archive:
        for entry in archive.infolist():
            assert b"somebody" not in archive.read(entry)
    folder, _ = install_model(tmp_path / "model.zip")

    (elsewhere / "medsam.pth").rename(checkpoints / "medsam.pth")
    assert np.array_equal(predict(folder), expected)
    (checkpoints / "medsam.pth").write_bytes(b"something else")
    with pytest.raises(UserError, match=r"was trained on medsam\.pth .* has another content"):
        Predictor.from_folder(folder, device="cpu")


def test_export_model_finds_the_base_of_runs_without_a_record(
    adapter: ModelFolder, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    recorded = load_base(adapter.run("0").base_file)
    for run in adapter.runs():
        run.base_file.unlink()
    assert export_model(adapter, tmp_path / "model.zip").base == recorded
    assert "unknown" in caplog.text


def test_installed_model_of_regions_predicts_what_the_exported_one_does(
    checkpoints: Path, tmp_path: Path
) -> None:
    labels = {"background": 0, "whole": (1, 2), "core": 2}
    scheme = LabelScheme(labels, regions_class_order=(1, 2))
    model = make_model(tmp_path / "scratch", replace(make_plan("scratch"), label_scheme=scheme))
    export_model(ModelFolder(model), tmp_path / "model.zip")
    folder, _ = install_model(tmp_path / "model.zip")
    description = DatasetDescription.load(ModelFolder(folder).description_file)
    assert description.label_scheme.regions == scheme.regions
    predictors = [Predictor.from_folder(where, device="cpu") for where in (model, folder)]
    assert predictors[1].networks[0](torch.zeros(1, 3, 32, 32)).shape[1] == 2
    expected, found = (
        predictor.predict(synthetic_image(), orientation="SAR", spacing=(1, 1, 1))
        for predictor in predictors
    )
    assert len(np.unique(expected)) > 1
    assert np.array_equal(found, expected)
