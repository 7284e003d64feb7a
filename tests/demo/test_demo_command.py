"""`samnet_demo` on as little data and time as it takes."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from builders.tiny import SHORT, tiny_backbone

from samnet.cli.demo import COMMAND, main
from samnet.core.machine import Machine, detect_machine
from samnet.demo.anatomy import DATASET_NAME
from samnet.demo.run import DemoResult
from samnet.fingerprint.records import Fingerprint
from samnet.inference.predictor import Predictor
from samnet.models.model_folder import RunFolder
from samnet.plan.plan import Plan
from samnet.planning.memory import EstimatingMeter
from samnet.planning.planner import make_plan
from samnet.training.options import TrainingOptions
from samnet.training.run import train

__all__ = ["tiny_backbone"]


# Two steps of the tiny network on coarse slices, which one input shows whole.
QUICK = SHORT | {
    "steps": 2,
    "views": [0],
    "slicing_axis": 0,
    "in_plane_spacing": 12.0,
    "mirror_at_prediction": False,
    "initial_weights": "random",
}


def plan_quick_training(fingerprint: Fingerprint, machine: Machine, **options: Any) -> Plan:
    [measure] = options.values()
    assert isinstance(measure, EstimatingMeter)  # which needs no dry run here
    return make_plan(fingerprint, machine, QUICK)


def note_devices(patch: pytest.MonkeyPatch) -> list[str | None]:
    """Return the devices that will be planned for, trained on and predicted on."""
    used: list[str | None] = []

    def plan_for(device: str | None) -> Machine:
        used.append(device)
        return detect_machine(device)

    def train_on(dataset: Any, name: str, fold: str, options: TrainingOptions) -> RunFolder:
        used.append(options.device)
        return train(dataset, name, fold, options)

    def predict_on(folder: Path, *, device: str | None = None) -> Predictor:
        used.append(device)
        return from_folder(folder, device=device)

    from_folder = Predictor.from_folder
    patch.setattr("samnet.demo.run.detect_machine", plan_for)
    patch.setattr("samnet.demo.run.train", train_on)
    patch.setattr("samnet.demo.run.Predictor.from_folder", predict_on)
    return used


def test_demo_takes_a_data_set_through_all_steps_within_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("samnet_results", str(tmp_path / "mine"))
    monkeypatch.setattr("samnet.demo.run.make_plan", plan_quick_training)
    monkeypatch.setattr("samnet.demo.run.default_processes", lambda: 0)
    opened: list[Path] = []
    monkeypatch.setattr("samnet.core.browser.open_in_browser", opened.append)
    used = note_devices(monkeypatch)
    folder = tmp_path / "demo"
    words = ["-o", str(folder), "--num-training", "2", "--num-test", "1"]
    assert main([*words, "--max-time", "1h", "--seed", "5", "--device", "cpu:0"]) == 0
    assert used == ["cpu:0"] * 3
    printed = capsys.readouterr().out
    assert "Scores on the 1 test cases" in printed
    for name in ("index.png", "progress.png", "samnetPlans.json"):
        [file] = folder.rglob(name)
        assert str(file) in printed
    report = folder / "report.html"
    assert printed.splitlines()[-1].strip() == report.as_uri()
    assert opened == [report]
    page = report.read_text(encoding="utf-8")
    for part in ("Scores", "Cases to look at", "Data", "Plan", "How it was made"):
        assert f">{part}</" in page
    raw = folder / "raw" / DATASET_NAME
    assert len(list((raw / "imagesTr").iterdir())) == 2
    [image] = (raw / "imagesTs").iterdir()
    predictions = folder / "results" / DATASET_NAME / "predictions"
    summary = json.loads((predictions / "summary.json").read_text())
    [scored] = summary["metric_per_case"]
    assert Path(scored["prediction_file"]).name == image.name.replace("_0000", "")
    [record] = folder.rglob("run.json")
    request = json.loads(record.read_text())["request"]
    assert (request["fold"], request["seed"], request["max_seconds"]) == ("all", 5, 3600.0)
    assert json.loads((raw / "dataset.json").read_text())["demo"]["seed"] == 5
    assert os.environ["samnet_results"] == str(tmp_path / "mine")
    assert not (tmp_path / "mine").exists()


def test_demo_does_not_open_the_report_if_told_not_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[Path] = []
    result = DemoResult(1.0, tmp_path / "report.html")
    monkeypatch.setattr("samnet.demo.run.run_demo", lambda options: result)
    monkeypatch.setattr("samnet.core.browser.open_in_browser", opened.append)
    assert main(["--no-open"]) == 0
    assert opened == []
    assert main([]) == 0
    assert opened == [result.report]


def test_demo_takes_minutes_on_a_cpu_by_default() -> None:
    options = COMMAND.parser().parse_args([])
    assert (options.num_training, options.num_test, options.seed) == (12, 4, 0)
    assert (options.output, options.max_time, options.device) == (Path("demo_output"), 210.0, None)
