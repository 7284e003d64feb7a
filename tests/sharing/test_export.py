"""A model as one file, and back."""

from __future__ import annotations

import json
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from builders.models import DATASET, LORA, add_tiny_sam, make_model, make_plan, synthetic_image

from samnet.core.errors import UserError
from samnet.dataset.description import DatasetDescription
from samnet.inference.predictor import Predictor
from samnet.models.base import BASE_FILE, load_base
from samnet.plan.plan import Plan
from samnet.sharing.export import export_model
from samnet.sharing.install import install_model


@pytest.fixture
def checkpoints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    add_tiny_sam(tmp_path / "checkpoints", monkeypatch)
    monkeypatch.setenv("samnet_results", str(tmp_path / "results"))
    return tmp_path / "checkpoints"


@pytest.fixture
def adapter(checkpoints: Path, tmp_path: Path) -> Path:
    """A model of two folds, adapters on `tiny_sam`."""
    return make_model(tmp_path / "lora", make_plan(**LORA), ("fold_0", "fold_1"))


def test_what_is_in_it(adapter: Path, checkpoints: Path, tmp_path: Path) -> None:
    manifest = export_model(adapter, tmp_path / "out" / "model.zip")
    with zipfile.ZipFile(tmp_path / "out" / "model.zip") as archive:
        names = archive.namelist()
        assert names[:2] == ["manifest.json", "dataset.json"]
        assert sorted(names[2:]) == [
            f"fold_{fold}/{name}"
            for fold in (0, 1)
            for name in ("base.json", "checkpoint_final.safetensors", "plan.json")
        ]
        said = json.loads(archive.read("manifest.json"))
        weights = safetensors.torch.load(archive.read("fold_0/checkpoint_final.safetensors"))
    assert (said["schema_version"], said["dataset_name"], said["configuration"]) == (
        1,
        DATASET,
        "lora",
    )
    assert said["base"] == {
        "backbone": "tiny_sam",
        "file_name": "sam_tiny.pth",
        "sha256": load_base(adapter / "fold_0" / BASE_FILE).sha256,
    }
    assert set(said["files"]) == set(names) - {"manifest.json"}
    assert manifest.folds == ["fold_0", "fold_1"]
    assert all(
        name.startswith("head.") or ".down." in name or ".up." in name for name in weights
    )  # no base in it


def test_the_same_model_makes_the_same_file(adapter: Path, tmp_path: Path) -> None:
    for name in ("one.zip", "two.zip"):
        export_model(adapter, tmp_path / name)
    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "two.zip").read_bytes()


def test_an_installed_model_predicts_the_same(adapter: Path, tmp_path: Path) -> None:
    export_model(adapter, tmp_path / "model.zip")
    folder, manifest = install_model(tmp_path / "model.zip")
    assert folder == tmp_path / "results" / DATASET / "lora"
    assert manifest.base is not None
    expected = Predictor.from_folder(adapter, device="cpu").predict(synthetic_image(), (1, 1, 1))
    assert len(np.unique(expected)) > 1
    found = Predictor.from_folder(folder, device="cpu").predict(synthetic_image(), (1, 1, 1))
    assert np.array_equal(found, expected)
    assert Plan.load(folder / "fold_1" / "plan.json") == Plan.load(adapter / "fold_1" / "plan.json")
    description = DatasetDescription.load(folder / "dataset.json")
    assert (description.class_names, description.channel_names) == (("liver", "tumour"), ("CT",))


def test_a_model_that_needs_no_base(checkpoints: Path, tmp_path: Path) -> None:
    model = make_model(tmp_path / "scratch", make_plan("scratch"))
    assert export_model(model, tmp_path / "model.zip").base is None
    folder, manifest = install_model(tmp_path / "model.zip")
    assert manifest.base is None
    assert not (folder / "fold_0" / BASE_FILE).exists()
    assert Predictor.from_folder(folder, device="cpu").predict(
        synthetic_image(), (1, 1, 1)
    ).shape == (
        3,
        40,
        40,
    )


@pytest.mark.parametrize(
    ("folder", "folds", "expected"),
    [
        (".", ["1"], ["fold_1"]),
        (".", ["all"], ["fold_all"]),
        (".", None, ["fold_0", "fold_1"]),
        ("fold_1", None, ["fold_1"]),
    ],
)
def test_the_folds_are_those_of_a_prediction(
    checkpoints: Path, tmp_path: Path, folder: str, folds: list[str] | None, expected: list[str]
) -> None:
    model = make_model(tmp_path / "lora", make_plan(**LORA), ("fold_0", "fold_1", "fold_all"))
    assert export_model(model / folder, tmp_path / "model.zip", folds).folds == expected


def test_a_fold_without_its_name_is_the_fold_all(adapter: Path, tmp_path: Path) -> None:
    (adapter / "fold_0").rename(tmp_path / "copied")
    assert export_model(tmp_path / "copied", tmp_path / "model.zip").folds == ["fold_all"]


def test_an_unfinished_model_is_not_exported(adapter: Path, tmp_path: Path) -> None:
    (adapter / "fold_1" / "checkpoint_final.safetensors").unlink()
    with pytest.raises(UserError, match="fold_1 not finished"):
        export_model(adapter, tmp_path / "model.zip", ["0", "1"])
    with pytest.raises(UserError, match=r"has to end in \.zip"):
        export_model(adapter, tmp_path / "model.tar")
    assert not (tmp_path / "model.zip").exists()


def test_folds_that_do_not_belong_together(
    adapter: Path, checkpoints: Path, tmp_path: Path
) -> None:
    other = load_base(adapter / "fold_1" / BASE_FILE)
    (adapter / "fold_1" / BASE_FILE).write_text(
        json.dumps({"backbone": "tiny_sam", "file_name": "medsam.pth", "sha256": "a" * 64})
    )
    with pytest.raises(
        UserError, match=r"was trained on medsam\.pth .* on sam_tiny\.pth .*; choose one with -f"
    ):
        export_model(adapter, tmp_path / "model.zip")
    (adapter / "fold_1" / BASE_FILE).write_text(json.dumps(vars(other)))
    make_plan("mine", **LORA).save(adapter / "fold_1" / "plan.json")
    with pytest.raises(UserError, match=r"mine, but .* is Dataset007_Synthetic, lora; choose one"):
        export_model(adapter, tmp_path / "model.zip")


def test_a_model_on_other_weights_is_exported_without_the_folders_of_this_machine(
    checkpoints: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "home" / "somebody"
    elsewhere.mkdir(parents=True)
    (checkpoints / "sam_tiny.pth").rename(elsewhere / "medsam.pth")
    model = make_model(
        tmp_path / "lora", make_plan(**LORA | {"initial_weights": str(elsewhere / "medsam.pth")})
    )
    expected = Predictor.from_folder(model, device="cpu").predict(synthetic_image(), (1, 1, 1))
    export_model(model, tmp_path / "model.zip")
    with zipfile.ZipFile(tmp_path / "model.zip") as archive:
        for entry in archive.infolist():
            assert b"somebody" not in archive.read(entry)
    folder, _ = install_model(tmp_path / "model.zip")

    (elsewhere / "medsam.pth").rename(checkpoints / "medsam.pth")
    assert np.array_equal(
        Predictor.from_folder(folder, device="cpu").predict(synthetic_image(), (1, 1, 1)), expected
    )
    (checkpoints / "medsam.pth").write_bytes(b"something else")
    with pytest.raises(UserError, match=r"was trained on medsam\.pth .* has another content"):
        Predictor.from_folder(folder, device="cpu")


def test_a_model_from_before_bases_were_noted(
    adapter: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = load_base(adapter / "fold_0" / BASE_FILE)
    for fold in ("fold_0", "fold_1"):
        (adapter / fold / BASE_FILE).unlink()
    assert export_model(adapter, tmp_path / "model.zip").base == before
    assert "unknown" in caplog.text


def test_a_model_of_regions(checkpoints: Path, tmp_path: Path) -> None:
    plan = replace(
        make_plan("scratch"),
        labels={"background": 0, "whole": (1, 2), "core": 2},
        regions_class_order=(1, 2),
    )
    model = make_model(tmp_path / "scratch", plan)
    export_model(model, tmp_path / "model.zip")
    folder, _ = install_model(tmp_path / "model.zip")
    assert DatasetDescription.load(folder / "dataset.json").regions == plan.regions
    predictors = [Predictor.from_folder(where, device="cpu") for where in (model, folder)]
    assert predictors[1].networks[0](torch.zeros(1, 3, 32, 32)).shape[1] == 2
    expected, found = (predictor.predict(synthetic_image(), (1, 1, 1)) for predictor in predictors)
    assert len(np.unique(expected)) > 1
    assert np.array_equal(found, expected)
