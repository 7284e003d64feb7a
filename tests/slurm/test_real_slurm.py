"""`samnet_submit` on a real SLURM; see `conftest.py` for what that takes."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import pytest
from builders.data import write_dataset
from builders.tiny import prepare_dataset, use_folders
from builders.waiting import becomes_true

from samnet.cli.submit import main
from samnet.models.model_folder import FINAL, LAST, ModelFolder
from samnet.training.checkpoint import read_progress

NAME = "Dataset501_Tiny"
TESTS = Path(__file__).parents[1]
# So that the jobs know the tiny backbone.
CUSTOMIZE = f"""
import sys
sys.path.insert(0, {str(TESTS)!r})
import pytest
from builders.tiny import add_tiny_backbone
add_tiny_backbone(pytest.MonkeyPatch())
"""
QUICK = "--device cpu --workers 0"
PATIENCE = 900.0  # seconds; SLURM makes a job that is queued again wait for two minutes


@pytest.fixture
def project(slurm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A planned and prepared data set of two cases, which has two folds."""
    write_dataset(tmp_path / "raw", shape=(5, 24, 20), num_cases=2, num_test=3)
    prepare_dataset(tmp_path, 501, monkeypatch, views=[0], slicing_axis=0, initial_weights="random")
    use_folders(tmp_path, tmp_path / "results", monkeypatch)
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(CUSTOMIZE)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path / "site"), str(TESTS.parent)]))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def submit(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, str]:
    """Submit jobs; return their numbers by name."""
    capsys.readouterr()
    assert main(words) == 0
    return dict(re.findall(r"^(\S+): job (\d+)$", capsys.readouterr().out, re.MULTILINE))


def show(job: str) -> str:
    return subprocess.run(
        ["scontrol", "show", "job", job], capture_output=True, text=True, check=False
    ).stdout


def logs(project: Path) -> str:
    return "\n".join(file.read_text() for file in (project / "results" / "slurm").glob("*.log"))


def test_submit_train_runs_the_folds_then_their_summary_and_the_choice(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--time", "20m", "--cpus", "1", "--options", QUICK]
    jobs = submit(capsys, "train", "501", "lora", "--folds", "cv", *options)
    assert list(jobs) == ["samnet-train-501", "samnet-choose-501"]
    best = project / "results" / NAME / "best_configuration.json"
    assert becomes_true(best.is_file, PATIENCE), logs(project)
    assert json.loads(best.read_text())["best"] == "lora"
    model = ModelFolder(project / "results" / NAME / "lora")
    assert model.run("0").is_finished
    assert model.run("1").is_finished


def test_slurm_queues_a_signalled_job_again_and_it_completes(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = f"{QUICK} --steps 60 --set patience=0"
    [job] = submit(capsys, "train", "501", "lora", "--folds", "all", "--options", options).values()
    run = ModelFolder(project / "results" / NAME / "lora").run("all")
    assert becomes_true(run.checkpoint(LAST).is_file, PATIENCE), logs(project)
    subprocess.run(["scancel", "--signal=USR1", job], check=True)
    assert becomes_true(lambda: "Restarts=1" in show(job), PATIENCE), logs(project)
    stopped_at = read_progress(run.checkpoint(LAST)).step
    assert 0 < stopped_at < 60
    assert becomes_true(run.checkpoint(FINAL).is_file, PATIENCE), logs(project)
    assert f"resuming from step {stopped_at}" in logs(project)


def test_submit_predict_in_parts_equals_one_prediction(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from samnet.cli.predict import main as predict
    from samnet.cli.train import main as train

    assert train(["501", "lora", "all", *QUICK.split()]) == 0
    images = str(project / "raw" / NAME / "imagesTs")
    assert predict(["-i", images, "-o", "whole", "--device", "cpu"]) == 0
    options = ["--num-parts", "2", "--cpus", "1", "--options", "--device cpu"]
    submit(capsys, "predict", "-i", images, "-o", str(project / "parts"), *options)
    expected = {file.name: file.read_bytes() for file in Path("whole").iterdir()}

    def is_complete() -> bool:
        return len(list(Path("parts").glob("case*"))) == len(expected)

    assert becomes_true(is_complete, PATIENCE), logs(project)
    assert {file.name: file.read_bytes() for file in Path("parts").glob("case*")} == expected
