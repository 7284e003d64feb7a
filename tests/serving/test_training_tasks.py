"""Training runs that clients start, with commands that only seem to train."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from builders.serving import client_of, make_service
from builders.tiny import prepare_dataset
from builders.waiting import becomes_true
from fastapi.testclient import TestClient

from samnet.dataset.dataset_folder import DatasetFolder
from samnet.dataset.splits import add_to_splits
from samnet.serving.retraining import Retraining

# Stands for samnet in the processes that a server starts.
PROGRAM = """
import os, pathlib, shutil, sys, time

print("words:", *sys.argv[1:], flush=True)
root = pathlib.Path(os.environ["SAMNET_TEST_ROOT"])
if sys.argv[1] == "train":
    if (root / "waits").exists():
        time.sleep(60)
    if (root / "fails").exists():
        sys.exit("samnet_train: error: no labels")
    target = pathlib.Path(os.environ["samnet_results"], sys.argv[2], sys.argv[3], "fold_all")
    shutil.copytree(root / "results" / sys.argv[2] / "lora" / "fold_0", target)
    (target / "new").touch()
"""


@pytest.fixture
def trainer(
    folder: DatasetFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[TestClient]:
    """A client of a server whose commands only seem to train."""
    prepare_dataset(tmp_path, 501, monkeypatch, initial_weights="random", views=[0], slicing_axis=0)
    package = tmp_path / "programs" / "samnet"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "__main__.py").write_text(PROGRAM, encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(package.parent))
    monkeypatch.chdir(tmp_path)  # `python -m` looks there first
    monkeypatch.setenv("SAMNET_TEST_ROOT", str(tmp_path))
    with client_of(make_service(folder)) as client:
        yield client


def wait(client: TestClient) -> dict:
    assert becomes_true(
        lambda: client.get("/train/?check_if_running=true").status_code == 404, 30
    ), client.get("/train/").text
    status: dict = client.get("/train/").json()
    return status


def test_trained_model_takes_the_place_of_the_last_one(
    trainer: TestClient, folder: DatasetFolder
) -> None:
    started = trainer.post("/train/lora", json={"max_time": "90s", "steps": 0}).json()
    assert started["status"] in ("SUBMITTED", "RUNNING")
    assert started["details"]
    status = wait(trainer)
    assert status["status"] == "DONE", status
    assert status["id"] == started["id"]
    assert (folder.model("lora") / "fold_all" / "new").is_file()
    log = trainer.get("/logs/").text
    assert f"words: plan_and_preprocess -d {folder.name} -np 0" in log
    source = folder.model("lora") / "fold_0"
    end = f"--steps 2 --from {source} --device cpu --workers 0"
    assert f"words: train {folder.name} lora all {end}" in log

    trainer.post("/train/lora", json={"steps": 7, "start": "scratch"})
    assert wait(trainer)["status"] == "DONE"
    assert "lora all --steps 7 --device" in trainer.get("/logs/").text
    assert len(trainer.get("/train/?all=true").json()) == 2
    names = {entry.name for entry in folder.model("lora").iterdir()}
    assert names == {"fold_0", "fold_all"}


def test_failed_training_leaves_the_model(
    trainer: TestClient, folder: DatasetFolder, tmp_path: Path
) -> None:
    (tmp_path / "fails").touch()
    all_models = trainer.post("/train/").json()
    assert all_models["lora"]["result"]["id"] == all_models["id"]
    status = wait(trainer)
    assert status["status"] == "ERROR"
    assert status["result"] == "samnet_train failed: samnet_train: error: no labels"
    assert [entry.name for entry in folder.model("lora").iterdir()] == ["fold_0"]


def test_training_is_stopped(trainer: TestClient, folder: DatasetFolder, tmp_path: Path) -> None:
    (tmp_path / "waits").touch()
    trainer.post("/train/lora")
    assert becomes_true(lambda: "words: train" in trainer.get("/logs/").text, 30)
    assert trainer.post("/train/lora").status_code == 429
    assert trainer.post("/train/lora?enqueue=true").status_code == 200
    began = time.monotonic()
    stopped = trainer.delete("/train/").json()
    assert stopped["status"] == "STOPPED"
    assert "end_ts" in stopped
    (tmp_path / "waits").unlink()
    assert wait(trainer)["status"] == "DONE"  # the one that waited
    assert time.monotonic() - began < 30
    assert trainer.delete("/train/").json() is None


def test_server_that_ends_stops_training(
    trainer: TestClient, folder: DatasetFolder, tmp_path: Path
) -> None:
    (tmp_path / "waits").touch()
    trainer.post("/train/lora")
    assert becomes_true(lambda: "words: train" in trainer.get("/logs/").text, 30)
    trainer.__exit__()
    assert not (folder.model("lora") / "fold_all").exists()


def test_model_is_put_back_after_a_kill(folder: DatasetFolder) -> None:
    run = folder.model("lora") / "fold_all"
    replaced = run.with_name(".replaced-fold_all")
    os.replace(folder.model("lora") / "fold_0", replaced)
    retraining = Retraining(folder, folder.preprocessed / "serving")
    retraining.recover()
    assert [entry.name for entry in run.parent.iterdir()] == ["fold_all"]


def test_new_cases_join_the_folds_without_leaks() -> None:
    splits = [
        {"train": ["p1_a", "p2_a"], "val": ["p3_a"]},
        {"train": ["p2_a", "p3_a"], "val": ["p1_a"]},
    ]
    names = ["p1_a", "p2_a", "p3_a", "p3_b", "p4_a"]
    assert add_to_splits(splits, names, r"^p\d") == [
        {"train": ["p1_a", "p2_a", "p4_a"], "val": ["p3_a", "p3_b"]},
        {"train": ["p2_a", "p3_a", "p3_b", "p4_a"], "val": ["p1_a"]},
    ]
    assert add_to_splits([{"train": ["a"], "val": ["a"]}], ["a", "b"], None) == [
        {"train": ["a", "b"], "val": ["a", "b"]}
    ]
    assert json.dumps(add_to_splits(splits, names[:3], None)) == json.dumps(splits)
