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
from samnet.training.checkpoint import FINAL, LAST, read_progress

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
PATIENCE = 900.0  # seconds; a job that is queued again waits for two minutes by itself


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
    """Job numbers by name."""
    capsys.readouterr()
    assert main(words) == 0
    return dict(re.findall(r"^(\S+): job (\d+)$", capsys.readouterr().out, re.MULTILINE))


def show(job: str) -> str:
    return subprocess.run(
        ["scontrol", "show", "job", job], capture_output=True, text=True, check=False
    ).stdout


def logs(project: Path) -> str:
    return "\n".join(file.read_text() for file in (project / "results" / "slurm").glob("*.log"))


def test_folds_their_summary_and_the_choice(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    jobs = submit(
        capsys,
        "train",
        "501",
        "lora",
        "--folds",
        "cv",
        "--time",
        "20m",
        "--cpus",
        "1",
        "--options",
        QUICK,
    )
    assert list(jobs) == ["samnet-train-501", "samnet-choose-501"]
    best = project / "results" / NAME / "best_configuration.json"
    assert becomes_true(best.is_file, PATIENCE), logs(project)
    assert json.loads(best.read_text())["best"] == "lora"
    assert all(
        (project / "results" / NAME / "lora" / f"fold_{fold}" / FINAL).is_file()
        for fold in range(2)
    )


def test_a_job_hit_by_a_signal_is_queued_again_and_completes(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = f"{QUICK} --steps 60 --set patience=0"
    [job] = submit(capsys, "train", "501", "lora", "--folds", "all", "--options", options).values()
    folder = project / "results" / NAME / "lora" / "fold_all"
    assert becomes_true((folder / LAST).is_file, PATIENCE), logs(project)
    subprocess.run(["scancel", "--signal=USR1", job], check=True)
    assert becomes_true(lambda: "Restarts=1" in show(job), PATIENCE), logs(project)
    stopped_at = read_progress(folder / LAST).step
    assert 0 < stopped_at < 60
    assert becomes_true((folder / FINAL).is_file, PATIENCE), logs(project)
    assert f"going on from step {stopped_at}" in logs(project)


def test_shares_of_a_prediction_are_the_whole(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from samnet.cli.predict import main as predict
    from samnet.cli.train import main as train

    assert train(["501", "lora", "all", *QUICK.split()]) == 0
    images = str(project / "raw" / NAME / "imagesTs")
    assert predict(["-i", images, "-o", "whole", "--device", "cpu"]) == 0
    options = ["--num-parts", "2", "--cpus", "1", "--options", "--device cpu"]
    submit(capsys, "predict", "-i", images, "-o", str(project / "shares"), *options)
    expected = {file.name: file.read_bytes() for file in Path("whole").iterdir()}
    assert becomes_true(
        lambda: len(list(Path("shares").glob("case*"))) == len(expected), PATIENCE
    ), logs(project)
    assert {file.name: file.read_bytes() for file in Path("shares").glob("case*")} == expected
