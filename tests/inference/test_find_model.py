"""Which model a prediction means."""

from __future__ import annotations

from pathlib import Path

import pytest

from samnet.core.errors import UserError
from samnet.inference.find_model import find_model
from samnet.models.model_folder import FINAL, ModelFolder


@pytest.fixture
def results(folders: dict[str, Path]) -> Path:
    return folders["results"]


def add_model(results: Path, name: str, finished: bool = True) -> ModelFolder:
    """Write a model of one fold; its files are empty."""
    model = ModelFolder(results / name)
    run = model.run("0")
    run.path.mkdir(parents=True)
    run.plan_file.touch()
    if finished:
        run.checkpoint(FINAL).touch()
    return model


def test_find_model_needs_no_name_for_the_only_model(results: Path) -> None:
    only = add_model(results, "Dataset001_One/lora", finished=False)
    assert find_model(None, None, None) == only


def test_find_model_needs_no_name_for_the_only_finished_model(results: Path) -> None:
    unfinished = add_model(results, "Dataset001_One/lora", finished=False)
    finished = add_model(results, "Dataset001_One/full")
    assert find_model(None, None, None) == finished
    assert find_model(None, "1", "lora") == unfinished


def test_find_model_lists_several_models_with_the_flags_to_type(results: Path) -> None:
    names = ("Dataset001_One/full", "Dataset001_One/lora", "Dataset002_Two/lora")
    models = [add_model(results, name) for name in names]
    with pytest.raises(UserError) as caught:
        find_model(None, None, None)
    for name in names:
        dataset, configuration = name.split("/")
        assert f"\n  -d {dataset} -c {configuration}" in str(caught.value)
    with pytest.raises(UserError, match=r"several trained models for -c lora; say which") as caught:
        find_model(None, None, "lora")
    assert "-c full" not in str(caught.value)
    assert find_model(None, "002", None) == models[2]
    assert find_model(None, "Dataset001_One", "full") == models[0]


def test_find_model_says_that_there_is_none(results: Path) -> None:
    message = (
        r"no trained model in .*results; run samnet_train, or .* samnet_results is '.*results'"
    )
    with pytest.raises(UserError, match=message):
        find_model(None, None, None)
    add_model(results, "Dataset001_One/lora")
    with pytest.raises(UserError, match="no trained model for -d 1 -c full in"):
        find_model(None, "1", "full")
    with pytest.raises(UserError, match="no data set '3'"):
        find_model(None, "3", None)


def test_find_model_takes_a_folder_without_other_names(results: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "anywhere"
    assert find_model(elsewhere, None, None) == ModelFolder(elsewhere)
    with pytest.raises(UserError, match="leave out -d and -c"):
        find_model(tmp_path, "1", None)
    with pytest.raises(UserError, match="leave out -d and -c"):
        find_model(tmp_path, None, "lora")
