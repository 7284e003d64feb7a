"""What samnet_status reads from the folders of runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from builders.models import make_model, make_plan
from builders.scores import PROTOCOL, make_case_scores, make_scores
from builders.tiny import add_tiny_backbone

from samnet.cluster.status import RunStatus, find_runs, format_runs
from samnet.evaluation.summary import summarize
from samnet.evaluation.summary_files import write_summary

STARTED = ("2026-01-02 03:04:05", "2026-02-03 04:05:06")
NAME = "Dataset501_Tiny"


def row(**values: Any) -> dict[str, Any]:
    """A row of metrics.jsonl after 30 steps in 10 minutes."""
    return {"epoch": 3, "step": 30, "mean_dice": 0.7, "seconds": 600.0} | values


def write_run(
    results: Path,
    *rows: dict[str, Any],
    dataset: str = NAME,
    steps: int = 120,
    max_seconds: float | None = None,
    sessions: tuple[str, ...] = STARTED,
) -> Path:
    """Write the folder of a run that has not ended; return it."""
    folder = results / dataset / "lora" / "fold_0"
    folder.mkdir(parents=True)
    request = {
        "training_cases": ["case_00"],
        "seed": 0,
        "max_seconds": max_seconds,
        "data_key": "key",
        "configuration": {"steps": steps},
        "fold": "0",
    }
    record = {"request": request, "sessions": [{"started": started} for started in sessions]}
    (folder / "run.json").write_text(json.dumps(record))
    (folder / "metrics.jsonl").write_text("".join(f"{json.dumps(entry)}\n" for entry in rows))
    return folder


def only_run() -> RunStatus:
    [run] = find_runs()
    return run


def test_state_is_that_of_the_last_epoch_and_the_last_start(folders: dict[str, Path]) -> None:
    write_run(folders["results"], row(epoch=1, mean_dice=0.1), row())
    run = only_run()
    assert (run.name, run.state) == (f"{NAME}/lora/fold_0", "stopped")
    assert (run.epoch, run.dice, run.seconds_left) == (3, 0.7, 1800.0)
    assert run.message == f"begun {STARTED[1]}; the same command resumes it"


def test_run_without_an_epoch_shows_nothing_of_it(folders: dict[str, Path]) -> None:
    write_run(folders["results"])
    run = only_run()
    assert (run.state, run.epoch, run.dice, run.seconds_left) == ("stopped", None, None, None)
    assert run.cells()[2:5] == ("-", "-", "-")


@pytest.mark.parametrize(
    ("steps", "max_seconds", "left"),
    [(120, 7200.0, 1800.0), (1200, 900.0, 300.0), (120, 500.0, 0.0), (20, None, 0.0)],
    ids=["steps", "time limit", "time limit that has passed", "steps that are done"],
)
def test_time_left_ends_with_the_steps_or_the_time_limit(
    folders: dict[str, Path], steps: int, max_seconds: float | None, left: float
) -> None:
    write_run(folders["results"], row(), steps=steps, max_seconds=max_seconds)
    assert only_run().seconds_left == left


def test_finished_run_has_no_time_left(folders: dict[str, Path]) -> None:
    folder = write_run(folders["results"], row())
    (folder / "checkpoint_final.safetensors").touch()
    assert (only_run().state, only_run().seconds_left) == ("trained", None)
    (folder / "validation").mkdir()
    (folder / "validation" / "summary.json").touch()
    assert (only_run().state, only_run().seconds_left) == ("finished", None)


def test_dice_is_that_of_the_final_scores_once_they_are_there(folders: dict[str, Path]) -> None:
    folder = write_run(folders["results"], row(mean_dice=0.7))
    assert (only_run().dice, only_run().dice_of) == (0.7, "last epoch")
    (folder / "checkpoint_final.safetensors").touch()
    scores = make_case_scores("a", make_scores(0.5), make_scores(0.9))
    write_summary(summarize([scores], PROTOCOL), folder / "validation" / "summary.json")
    assert (only_run().dice, only_run().dice_of) == (pytest.approx(0.7), "held-out cases")
    assert only_run().cells()[3:5] == ("0.7000", "held-out cases")


def test_final_scores_that_cannot_be_read_are_named(folders: dict[str, Path]) -> None:
    folder = write_run(folders["results"], row(mean_dice=0.6))
    (folder / "checkpoint_final.safetensors").touch()
    (folder / "validation").mkdir()
    (folder / "validation" / "summary.json").write_text("{}")
    run = only_run()
    assert (run.state, run.dice, run.dice_of) == ("finished", 0.6, "last epoch")
    assert "summary.json: not an evaluation summary" in run.message


def test_models_without_a_record_are_listed_as_installed(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    add_tiny_backbone(monkeypatch)
    write_run(folders["results"], row())
    model = make_model(folders["results"] / "Dataset502_Other" / "bought", make_plan(), ("fold_0",))
    run = find_runs("Dataset502_Other")[0]
    assert (run.name, run.state) == ("Dataset502_Other/bought", "installed")
    assert (run.dice, run.cells()[2:6]) == (None, ("-", "-", "-", "-"))
    for words in ("folds 0", "upsampling head"):
        assert words in run.message
    assert [entry.state for entry in find_runs()] == ["stopped", "installed"]
    assert len(find_runs(NAME)) == 1
    (model / "fold_0" / "checkpoint_final.safetensors").unlink()
    [run] = find_runs("Dataset502_Other")
    assert (run.state, "no final weights" in run.message) == ("damaged", True)


def test_installed_model_with_an_unreadable_plan_is_damaged(folders: dict[str, Path]) -> None:
    fold = folders["results"] / NAME / "bought" / "fold_all"
    fold.mkdir(parents=True)
    (fold / "plan.json").write_text("{")
    (fold / "checkpoint_final.safetensors").touch()
    assert only_run().state == "damaged"
    assert str(fold / "plan.json") in only_run().message


def test_record_without_a_start_is_damaged(folders: dict[str, Path]) -> None:
    folder = write_run(folders["results"], row(), sessions=())
    assert only_run().state == "damaged"
    assert str(folder / "run.json") in only_run().message


def test_runs_may_be_those_of_one_data_set(folders: dict[str, Path]) -> None:
    for dataset in (NAME, "Dataset502_Other"):
        write_run(folders["results"], row(), dataset=dataset)
    assert len(find_runs()) == 2
    assert [run.name for run in find_runs(NAME)] == [f"{NAME}/lora/fold_0"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(10.0, "0 min"), (3540.0, "59 min"), (3600.0, "1 h 00 min"), (11_100.0, "3 h 05 min")],
)
def test_time_left_is_shown_in_hours_and_minutes(seconds: float, text: str) -> None:
    table = format_runs([RunStatus("run", "running", 2, 0.5, seconds, "on a machine")])
    title, line = table.splitlines()
    titles = ["run", "state", "epoch", "Dice", "Dice", "of", "time", "left", "message"]
    assert title.split() == titles
    assert line.split("0.5000")[1].split() == ["-", *text.split(), "on", "a", "machine"]
