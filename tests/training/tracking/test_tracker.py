"""Training runs in tracking tools: each number once, over all sessions, and never fatal."""

from __future__ import annotations

import importlib.util
import logging
import sys
from pathlib import Path
from typing import Any

import pytest
from builders.runs import read_rows
from builders.tiny import use_folders
from builders.tracking import READERS, read_tensorboard
from PIL import Image

from samnet.cli.main import main
from samnet.models.model_folder import RunFolder
from samnet.planning.planned_dataset import PlannedDataset
from samnet.training.distributed import Distributed
from samnet.training.options import TrainingOptions
from samnet.training.resolve import resolve_run
from samnet.training.run import train
from samnet.training.tracking.backend import TrackedRun, plain_name
from samnet.training.tracking.tracker import RunTracker

VARIABLES = ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "WANDB_MODE", "WANDB_DIR")


@pytest.fixture(params=READERS)
def tool(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return the name of each tool, with no variables of the user."""
    if importlib.util.find_spec(request.param) is None:
        pytest.skip(f"the package {request.param} is not installed")
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    return request.param


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    """Return the folder of a run that has drawn its curves and two cases."""
    run = RunFolder(tmp_path / "run")
    cases = run.validation / "figures"
    cases.mkdir(parents=True)
    for file in (run.progress_file, cases / "01_case_b.png", cases / "02_a.png"):
        Image.new("RGB", (8, 6), "red").save(file)
    Image.new("RGB", (8, 6), "red").save(cases / "index.png")
    return run


def begin(tool: str, folder: RunFolder, epochs: list[dict], **changes: Any) -> RunTracker:
    run = TrackedRun("Dataset001_One", "lora", "0", folder.tracking)
    parameters = {"steps": 6, "views": [0, 1], "backbone": "tiny"} | changes
    tracker = RunTracker(tool, run, parameters)
    tracker.begin(epochs)
    return tracker


def epoch(number: int) -> dict[str, Any]:
    return {
        "epoch": number,
        "step": 2 * number,
        "loss": 1 / number,
        "mean_dice": 0.25 * number,
        "dice": {"left lung": 0.25 * number, "other": None},
        "validated_on": "held-out cases",
    }


def test_a_resumed_run_is_tracked_as_one_without_gaps_or_repetitions(
    tool: str, folder: RunFolder
) -> None:
    killed = begin(tool, folder, [])
    killed.add_epoch(epoch(1))
    killed.add_epoch(epoch(2))
    killed.close()
    # Its last checkpoint was that of the first epoch.
    resumed = begin(tool, folder, [epoch(1)])
    resumed.add_epoch(epoch(2))
    resumed.add_epoch(epoch(3))
    resumed.finish(folder)
    resumed.close()

    stored = READERS[tool](folder.tracking / tool)
    assert stored.name == ("" if tool == "tensorboard" else "Dataset001_One/lora/fold_0")
    given = {key: stored.parameters[key] for key in ("steps", "views", "backbone")}
    assert given == {"steps": "6", "views": "[0, 1]", "backbone": "tiny"}
    dice = "dice/left lung" if tool == "wandb" else "dice/left_lung"
    for name in ("epoch", "loss", "mean_dice", dice):
        assert [step for step, _ in stored.points[name]] == [2, 4, 6]
    losses = [value for _, value in stored.points["loss"]]
    assert losses == pytest.approx([1, 1 / 2, 1 / 3])
    assert stored.points[dice] == [(2, 0.25), (4, 0.5), (6, 0.75)]
    assert not any("other" in name or "validated" in name for name in stored.points)
    drawn = {figure.rsplit("/", 1)[-1] for figure in stored.figures}
    assert drawn == {"progress", "01_case_b", "02_a"}

    # The same command once more finds nothing to send.
    again = begin(tool, folder, [epoch(1), epoch(2), epoch(3)])
    again.finish(folder)
    again.close()
    assert READERS[tool](folder.tracking / tool) == stored


def test_what_a_prolonged_run_changes_is_added(folder: RunFolder) -> None:
    begin("tensorboard", folder, [epoch(1)]).close()
    begin("tensorboard", folder, [epoch(1), epoch(2)], steps=8).close()
    stored = read_tensorboard(folder.tracking / "tensorboard")
    assert stored.parameters["steps"] == "8"
    assert [step for step, _ in stored.points["loss"]] == [2, 4]


@pytest.fixture
def dataset(prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PlannedDataset:
    use_folders(prepared, tmp_path / "results", monkeypatch)
    return PlannedDataset.find("501")


def options(**changes: Any) -> TrainingOptions:
    settings = {"steps": 2}
    return TrainingOptions(device="cpu", workers=0, settings=settings, seed=5, **changes)


def test_a_run_is_tracked_with_its_plan_its_metrics_and_its_worst_cases(
    dataset: PlannedDataset,
) -> None:
    folder = train(dataset, "scratch", "0", options(track="tensorboard"))
    stored = read_tensorboard(folder.tracking / "tensorboard")
    head = folder.plan.single_configuration.head
    expected = {"dataset": dataset.name, "fold": "0", "seed": "5", "steps": "2", "head": head}
    assert {key: stored.parameters[key] for key in expected} == expected
    (row,) = read_rows(folder)
    for name in ("loss", "mean_dice", "learning_rate", "validation_seconds"):
        assert stored.points[name] == [(2, pytest.approx(row[name]))]
    assert "progress" in stored.figures
    assert any(name.startswith("cases/01_") for name in stored.figures)


def test_a_tool_that_fails_is_one_warning_and_the_training_ends_normally(
    dataset: PlannedDataset, caplog: pytest.LogCaptureFixture
) -> None:
    folder = RunFolder(dataset.folder.results / "scratch" / "fold_0")
    folder.path.mkdir(parents=True)
    folder.tracking.touch()  # a file in the place of the folder
    caplog.set_level(logging.WARNING)
    train(dataset, "scratch", "0", options(track="tensorboard"))
    messages = [entry.getMessage() for entry in caplog.records]
    (warning,) = [message for message in messages if "track" in message]
    assert "not tracked with tensorboard any more, the training is unaffected" in warning
    assert (folder.validation / "summary.json").is_file()


def test_of_several_processes_one_tracks(dataset: PlannedDataset) -> None:
    run = resolve_run(dataset, "scratch", "0", options(track="tensorboard"))
    tracker = RunTracker.of(run, Distributed(rank=1, world_size=2))
    tracker.begin([epoch(1)])
    tracker.close()
    assert not run.folder.tracking.exists()


def test_a_missing_package_is_named_with_its_extra_before_anything_is_written(
    dataset: PlannedDataset, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    assert main(["train", "501", "scratch", "--track", "wandb"]) == 2
    assert "pip install 'samnet[wandb]'" in capsys.readouterr().err
    assert not dataset.folder.results.exists()


def test_names_of_classes_become_names_that_tools_take() -> None:
    assert plain_name("dice/left lung (a+b)") == "dice/left_lung_x28ax2bbx29"
    assert plain_name("dice/\u809d") == "dice/\u809d"
