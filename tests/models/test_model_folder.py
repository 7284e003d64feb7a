"""Where the files of a model lie, which of its runs predict, and which models are there."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from builders.models import make_plan

from samnet.core.errors import UserError
from samnet.core.files import TEMPORARY_PREFIX
from samnet.dataset.dataset_folder import DatasetFolder
from samnet.models.model_folder import (
    ALL_CASES,
    BEST,
    CHECKPOINTS,
    FINAL,
    FOLD_FOLDER,
    LAST,
    PREVIOUS,
    ModelFolder,
    RunFolder,
    list_models,
    list_runs,
    replaced_model,
)


def add_run(folder: Path, *checkpoints: str, record: bool = False) -> RunFolder:
    """Write the folder of a run with a plan and some checkpoints, all of them empty files."""
    run = RunFolder(folder)
    folder.mkdir(parents=True)
    run.plan_file.touch()
    for kind in checkpoints:
        run.checkpoint(kind).touch()
    if record:
        run.record_file.touch()
    return run


def selected(model: Path, folds: list[str] | None = None, checkpoint: str = FINAL) -> list[str]:
    """Return the names of the runs that are selected."""
    return [run.name for run in ModelFolder(model).select_runs(folds, checkpoint)]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model: a finished fold, one that has only its best weights, and one on all cases."""
    add_run(tmp_path / "model" / "fold_0", FINAL)
    add_run(tmp_path / "model" / "fold_1", BEST)
    add_run(tmp_path / "model" / "fold_all", FINAL)
    return tmp_path / "model"


def test_run_folder_names_its_files(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "fold_0")
    assert (str(run), run.name) == (str(tmp_path / "fold_0"), "fold_0")
    files = {
        run.plan_file: "plan.json",
        run.base_file: "base.json",
        run.training_data_file: "training_data.json",
        run.record_file: "run.json",
        run.metrics_file: "metrics.jsonl",
        run.progress_file: "progress.png",
        run.validation: "validation",
        run.checkpoint(FINAL): "checkpoint_final.safetensors",
        run.checkpoint(BEST): "checkpoint_best.safetensors",
        run.checkpoint(LAST): "checkpoint_last.safetensors",
        run.checkpoint(PREVIOUS): "checkpoint_previous.safetensors",
    }
    for path, name in files.items():
        assert path == tmp_path / "fold_0" / name


def test_model_folder_names_its_files(tmp_path: Path) -> None:
    model = ModelFolder(tmp_path)
    assert str(model) == str(tmp_path)
    assert model.description_file == tmp_path / "dataset.json"
    assert model.cross_validation_file == tmp_path / "cross_validation.json"
    assert model.cross_validation_table == tmp_path / "cross_validation.csv"
    assert model.run("3") == RunFolder(tmp_path / "fold_3")
    assert model.run(ALL_CASES) == RunFolder(tmp_path / "fold_all")


def test_model_folder_of_a_data_set_lies_in_the_results(folders: dict[str, Path]) -> None:
    model = ModelFolder.of(DatasetFolder.of("Dataset001_One"), "lora")
    assert model.path == folders["results"] / "Dataset001_One" / "lora"
    assert not model.path.exists()


@pytest.mark.parametrize(
    ("checkpoints", "expected"),
    [((), False), ((BEST, LAST), False), ((FINAL,), True), (CHECKPOINTS, True)],
)
def test_run_is_finished_when_its_final_weights_are_there(
    tmp_path: Path, checkpoints: tuple[str, ...], expected: bool
) -> None:
    run = add_run(tmp_path / "model" / "fold_0", *checkpoints)
    assert run.is_finished is expected
    assert ModelFolder(tmp_path / "model").is_finished is expected


def test_model_is_finished_when_any_of_its_runs_is(model: Path) -> None:
    assert ModelFolder(model).is_finished
    for fold in ("fold_0", "fold_all"):
        RunFolder(model / fold).checkpoint(FINAL).unlink()
    assert not ModelFolder(model).is_finished


def test_run_folder_reads_its_plan_once(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    with pytest.raises(UserError, match=r"plan\.json: no such file"):
        _ = run.plan
    plan = make_plan("mine", initial_weights="random", batch_size=3)
    plan.save(run.plan_file)
    assert run.plan.single_name == "mine"
    assert run.configuration.batch_size == 3
    run.plan_file.unlink()
    assert run.plan.single_configuration == run.configuration


def test_runs_are_the_folders_of_folds_that_hold_a_plan(model: Path) -> None:
    (model / "fold_2").mkdir()
    (model / "notes").mkdir()
    (model / "fold_3.txt").touch()
    names = [run.name for run in ModelFolder(model).runs()]
    assert names == ["fold_0", "fold_1", "fold_all"]


def test_runs_of_the_folder_of_a_run_are_the_run_alone(model: Path, tmp_path: Path) -> None:
    assert ModelFolder(model / "fold_1").runs() == [RunFolder(model / "fold_1")]
    copied = add_run(tmp_path / "copied")
    assert ModelFolder(copied.path).runs() == [copied]
    assert ModelFolder(tmp_path).runs() == []
    assert ModelFolder(tmp_path / "absent").runs() == []


def test_select_runs_takes_the_finished_folds_of_the_cross_validation(model: Path) -> None:
    assert selected(model) == ["fold_0"]
    assert selected(model, checkpoint=BEST) == ["fold_1"]
    RunFolder(model / "fold_1").checkpoint(FINAL).touch()
    assert selected(model) == ["fold_0", "fold_1"]


def test_select_runs_takes_the_fold_all_where_no_other_is_finished(model: Path) -> None:
    RunFolder(model / "fold_0").checkpoint(FINAL).unlink()
    assert selected(model) == ["fold_all"]
    shutil.rmtree(model / "fold_0")
    assert selected(model) == ["fold_all"]


def test_select_runs_takes_the_named_folds_in_the_order_of_their_names(model: Path) -> None:
    assert selected(model, ["0"]) == ["fold_0"]
    assert selected(model, ["all"]) == ["fold_all"]
    assert selected(model, ["all", "0"]) == ["fold_0", "fold_all"]
    assert selected(model, ["1"], BEST) == ["fold_1"]


def test_select_runs_takes_the_folder_of_a_run(model: Path) -> None:
    assert selected(model / "fold_0") == ["fold_0"]
    assert selected(model / "fold_all") == ["fold_all"]
    assert selected(model / "fold_0", ["0"]) == ["fold_0"]


def test_select_runs_refuses_an_absent_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="absent: no such model folder"):
        selected(tmp_path / "absent")


@pytest.mark.parametrize("folds", [None, []])
def test_select_runs_refuses_a_folder_without_runs(tmp_path: Path, folds: list[str] | None) -> None:
    with pytest.raises(UserError, match=r"no checkpoint_final\.safetensors \(nothing trained\)"):
        selected(tmp_path, folds)


def test_select_runs_refuses_a_fold_that_is_not_there(model: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"has no fold_4 \(there: fold_0, fold_1, fold_all\)"):
        selected(model, ["0", "4"])
    with pytest.raises(UserError, match=r"has no fold_0 \(there: none\)"):
        selected(tmp_path, ["0"])


@pytest.mark.parametrize("folds", [["1"], ["0", "1"]])
def test_select_runs_refuses_a_named_fold_that_is_not_finished(
    model: Path, folds: list[str]
) -> None:
    message = (
        r"no checkpoint_final\.safetensors \(fold_1 not finished\)\. .*"
        r"same samnet_train command again.*--checkpoint best or last"
    )
    with pytest.raises(UserError, match=message):
        selected(model, folds)


def test_select_runs_refuses_a_model_of_unfinished_folds(tmp_path: Path) -> None:
    add_run(tmp_path / "fold_0")
    add_run(tmp_path / "fold_1", LAST)
    with pytest.raises(UserError, match=r"\(fold_0, fold_1 not finished\).*samnet_train"):
        selected(tmp_path)
    # Nothing is finished, so it is not known whether a best one is still to come.
    with pytest.raises(UserError, match=r"checkpoint_best.*not finished\).*samnet_train"):
        selected(tmp_path, checkpoint=BEST)
    assert selected(tmp_path, checkpoint=LAST) == ["fold_1"]


def test_select_runs_says_why_a_finished_run_has_no_best_weights(model: Path) -> None:
    message = (
        r"no checkpoint_best\.safetensors \(no cases were held out to choose it by\)\. "
        r"Predict without --checkpoint best"
    )
    with pytest.raises(UserError, match=message):
        selected(model, ["all"], BEST)
    shutil.rmtree(model / "fold_1")
    with pytest.raises(UserError, match=message):
        selected(model, checkpoint=BEST)


def test_list_models_finds_folders_with_a_run_in_the_order_of_their_paths(
    folders: dict[str, Path],
) -> None:
    results = folders["results"]
    assert list_models() == []
    for name in ("Dataset002_Two/lora", "Dataset001_One/lora", "Dataset001_One/full"):
        add_run(results / name / "fold_0")
    add_run(results / "Dataset001_One" / "full" / "fold_all", FINAL)
    (results / "Dataset001_One" / "planned" / "fold_0").mkdir(parents=True)
    assert list_models() == [
        ModelFolder(results / "Dataset001_One" / "full"),
        ModelFolder(results / "Dataset001_One" / "lora"),
        ModelFolder(results / "Dataset002_Two" / "lora"),
    ]


def test_list_models_needs_no_results_folder(folders: dict[str, Path]) -> None:
    folders["results"].rmdir()
    assert list_models() == []
    assert list_runs() == []


def test_list_models_leaves_out_half_installed_ones(folders: dict[str, Path]) -> None:
    dataset = folders["results"] / "Dataset001_One"
    add_run(dataset / f"{TEMPORARY_PREFIX}01234567-lora" / "fold_0", FINAL)
    # `atomic_path` writes a folder into a temporary folder.
    add_run(dataset / f"{TEMPORARY_PREFIX}89abcdef" / "lora" / "fold_0", FINAL)
    assert list_models() == []
    complete = add_run(dataset / "lora" / "fold_0", FINAL)
    assert list_models() == [ModelFolder(complete.path.parent)]


def test_list_runs_finds_the_runs_with_a_record(folders: dict[str, Path]) -> None:
    results = folders["results"]
    of_two = add_run(results / "Dataset002_Two" / "lora" / "fold_0", record=True)
    second = add_run(results / "Dataset001_One" / "lora" / "fold_1", FINAL, record=True)
    first = add_run(results / "Dataset001_One" / "lora" / "fold_0", record=True)
    add_run(results / "Dataset001_One" / "full" / "fold_0", FINAL)  # installed, not trained here
    assert list_runs() == [first, second, of_two]
    assert list_runs("Dataset001_One") == [first, second]
    assert list_runs("Dataset003_Three") == []


def test_list_runs_leaves_out_those_of_a_model_that_is_being_replaced(
    folders: dict[str, Path],
) -> None:
    model = folders["results"] / "Dataset001_One" / "lora"
    for folder in (replaced_model(model), model.with_name(f"{TEMPORARY_PREFIX}01234567-lora")):
        add_run(folder / "fold_0", FINAL, record=True)
    assert list_runs() == []
    assert list_models() == []


def test_folders_of_folds_have_plain_numbers() -> None:
    for name in ("fold_0", "fold_9", "fold_10", "fold_9999", "fold_all"):
        assert FOLD_FOLDER.fullmatch(name), name
    for name in ("fold_", "fold_01", "fold_-1", "fold_10000", "fold_al", "fold_0/plan.json"):
        assert not FOLD_FOLDER.fullmatch(name), name
