"""A training run from the request to the scores, as scripts call it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from builders.data import write_dataset
from builders.runs import Stopped
from builders.tiny import prepare_dataset, use_folders

from samnet.confidence.files import read_signals
from samnet.planning.planned_dataset import PlannedDataset
from samnet.training.distributed import Distributed
from samnet.training.final_validation import validate_run
from samnet.training.open_run import open_run
from samnet.training.options import TrainingOptions
from samnet.training.resolve import resolve_run
from samnet.training.run import train, train_folds
from samnet.training.task import TrainingTask


def test_run_of_a_script_has_one_progress_bar(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Bars of its stages would estimate the time of a training that a limit ends before."""
    with monkeypatch.context() as patch:
        use_folders(tmp_path, tmp_path / "results", patch)
        write_dataset(tmp_path / "raw", number=1, name="One", num_cases=4)
        prepare_dataset(tmp_path, 1, patch, steps=2)
        options = TrainingOptions(device="cpu", workers=0)
        capsys.readouterr()
        train(PlannedDataset.find("Dataset001_One"), "scratch", "0", options)
    bars = {line.split(":")[0] for line in capsys.readouterr().err.splitlines() if "passed" in line}
    assert bars == {"scratch, fold 0"}


@pytest.fixture
def dataset(prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PlannedDataset:
    use_folders(prepared, tmp_path / "results", monkeypatch)
    return PlannedDataset.find("501")


def begin(dataset: PlannedDataset, began: float, **options: Any) -> TrainingTask:
    """Begin to train fold 0 as if the run were killed before its first step; return its task."""
    tasks: list[TrainingTask] = []

    def note(network: Any, task: TrainingTask, *rest: Any, **hooks: Any) -> None:
        tasks.append(task)
        raise Stopped

    given = TrainingOptions(device="cpu", workers=0, **options)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("samnet.training.open_run.Trainer", note)
        with pytest.raises(Stopped):
            train(dataset, "scratch", "0", given, began=began)
    return tasks[0]


def test_time_limit_counts_from_where_the_command_began(dataset: PlannedDataset) -> None:
    """With `--continue` it is the limit of the beginning."""
    began = time.monotonic() - 1000.0
    assert begin(dataset, began, max_seconds=5000.0).ends_at == pytest.approx(began + 5000.0)
    resumed = begin(dataset, began, resume=True)
    assert (resumed.max_seconds, resumed.ends_at) == (5000.0, pytest.approx(began + 5000.0))


def test_each_fold_of_a_cross_validation_has_the_whole_time_limit(
    dataset: PlannedDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first one counts from where the command began, the others from their own beginning."""
    trained: list[tuple[str, float | None]] = []

    def note(dataset: Any, configuration: str, fold: str, *rest: Any, **options: Any) -> None:
        trained.append((fold, options["began"]))

    monkeypatch.setattr("samnet.training.run.train", note)
    train_folds("501", "scratch", "cv", TrainingOptions(device="cpu"), began=7.0)
    assert trained == [("0", 7.0), ("1", None), ("2", None), ("3", None), ("4", None)]


def test_short_final_prediction_may_end_after_the_time_limit(
    dataset: PlannedDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("samnet.training.final_validation.GRACE_SECONDS", 1000.0)
    options = TrainingOptions(device="cpu", workers=0, settings={"steps": 1})
    run = resolve_run(dataset, "scratch", "0", options)
    with open_run(run, Distributed()) as trainer:
        trainer.run()
    validate_run(run, Distributed(), ends_at=time.monotonic() - 100.0)
    assert (run.folder.validation / "summary.json").is_file()
    assert set(read_signals(run.folder.validation)) == set(run.cases.scored)
    # A command that was stopped before it had drawn everything draws it when it is repeated.
    drawn = [run.folder.validation / "figures" / "index.png"]
    drawn.append(run.folder.path.parent / "progress_folds.png")
    assert all(file.is_file() for file in drawn)
    for file in drawn:
        file.unlink()
    validate_run(run, Distributed())
    assert all(file.is_file() for file in drawn)
