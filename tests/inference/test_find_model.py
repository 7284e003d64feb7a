from __future__ import annotations

from pathlib import Path

import pytest

from samnet.core.errors import UserError
from samnet.core.files import TEMPORARY_PREFIX
from samnet.inference.find_model import find_model, list_models


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for station in ("raw", "preprocessed", "results"):
        monkeypatch.setenv(f"samnet_{station}", str(tmp_path / station))
    return tmp_path / "results"


def add_model(results: Path, name: str, finished: bool = True) -> Path:
    fold = results / name / "fold_0"
    fold.mkdir(parents=True)
    (fold / "plan.json").touch()
    if finished:
        (fold / "checkpoint_final.safetensors").touch()
    return fold.parent


def test_the_only_model_needs_no_name(results: Path) -> None:
    only = add_model(results, "Dataset001_One/lora", finished=False)
    assert find_model(None, None, None) == only
    assert list_models() == [only]


def test_the_only_finished_model_needs_no_name(results: Path) -> None:
    add_model(results, "Dataset001_One/lora", finished=False)
    finished = add_model(results, "Dataset001_One/full")
    assert find_model(None, None, None) == finished
    assert find_model(None, "1", "lora").name == "lora"


def test_a_half_installed_model_is_none(results: Path) -> None:
    add_model(results, f"Dataset001_One/{TEMPORARY_PREFIX}01234567-lora")
    assert list_models() == []


def test_several_models_are_listed_with_the_flags_to_type(results: Path) -> None:
    models = [
        add_model(results, name)
        for name in ("Dataset001_One/full", "Dataset001_One/lora", "Dataset002_Two/lora")
    ]
    with pytest.raises(UserError) as caught:
        find_model(None, None, None)
    for model in models:
        assert f"\n  -d {model.parent.name} -c {model.name}" in str(caught.value)
    with pytest.raises(UserError, match=r"several trained models for -c lora; say which") as caught:
        find_model(None, None, "lora")
    assert "-c full" not in str(caught.value)
    assert find_model(None, "002", None) == models[2]
    assert find_model(None, "Dataset001_One", "full") == models[0]


def test_no_model(results: Path) -> None:
    with pytest.raises(UserError, match=r"no trained model in .*results; run samnet_train"):
        find_model(None, None, None)
    add_model(results, "Dataset001_One/lora")
    with pytest.raises(UserError, match="no trained model for -d 1 -c full in"):
        find_model(None, "1", "full")
    with pytest.raises(UserError, match="no data set '3'"):
        find_model(None, "3", None)


def test_a_folder_names_a_model_by_itself(results: Path, tmp_path: Path) -> None:
    assert find_model(tmp_path / "anywhere", None, None) == tmp_path / "anywhere"
    with pytest.raises(UserError, match="leave out -d and -c"):
        find_model(tmp_path, "1", None)
