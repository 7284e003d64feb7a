"""Several processes on this machine's CPU, which meet by gloo as they do by NCCL on GPUs."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from builders.ports import free_port
from builders.runs import read_rows
from builders.tiny import use_folders
from torch import distributed as torch_distributed

from samnet.core.errors import UserError
from samnet.core.files import read_json, write_json
from samnet.models.model_folder import FINAL, LAST, RunFolder
from samnet.models.network import load_weights
from samnet.planning.planned_dataset import PlannedDataset
from samnet.training.checkpoint import read_progress
from samnet.training.distributed import Distributed, join_process_group
from samnet.training.final_validation import validate_run
from samnet.training.open_run import open_run
from samnet.training.options import TrainingOptions
from samnet.training.resolve import resolve_run
from samnet.training.run_record import RunRecord

TESTS = Path(__file__).parents[1]
# `python -m samnet` with the tiny backbone, in every process that is started from it.
CUSTOMIZE = f"""
import sys
sys.path.insert(0, {str(TESTS)!r})
import pytest
from builders.tiny import add_tiny_backbone
add_tiny_backbone(pytest.MonkeyPatch())
"""
Train = Callable[..., subprocess.Popen]


@pytest.fixture
def environment(prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Return environment variables with which `python -m samnet` has the tiny backbone."""
    use_folders(prepared, tmp_path, monkeypatch)
    site = tmp_path / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(CUSTOMIZE)
    path = os.pathsep.join([str(site), str(TESTS.parent)])
    return {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}


@pytest.fixture
def train(environment: dict[str, str]) -> Iterator[Train]:
    """Start training runs as users do; those that are left at the end are ended."""
    started: list[subprocess.Popen] = []

    def start_training(*words: str) -> subprocess.Popen:
        command = [sys.executable, "-m", "samnet", "train", "501", "lora", *words]
        command += ["--device", "cpu", "--workers", "0"]
        process = subprocess.Popen(
            command, env=environment, stderr=subprocess.PIPE, encoding="utf-8"
        )
        started.append(process)
        return process

    yield start_training
    for process in started:
        if process.poll() is None:
            process.terminate()
            process.wait()


def finish(process: subprocess.Popen) -> str:
    printed = process.communicate(timeout=600)[1]
    assert process.returncode == 0, printed
    return printed


def wait_for(file: Path, process: subprocess.Popen) -> None:
    while not file.is_file():
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.05)


def start_rank(
    options: TrainingOptions, environment: dict[str, str]
) -> multiprocessing.process.BaseProcess:
    """Start one process of a training run, which notes the loss of each step.

    All modules are loaded in it already.
    """

    def work() -> None:
        os.environ.update(environment)
        with join_process_group(torch.device("cpu")) as distributed:
            dataset = PlannedDataset.find("501")
            run = resolve_run(dataset, "lora", "0", options, distributed.world_size)
            distributed.barrier()
            with open_run(run, distributed) as trainer:
                losses: list[float] = []
                trainer.on_step = lambda step, loss: losses.append(loss)
                trainer.run()
            validate_run(run, distributed)
            if distributed.is_master:
                write_json(run.folder.path / "losses.json", losses)

    process = multiprocessing.get_context("fork").Process(target=work)
    process.start()
    return process


def train_in_processes(world_size: int, options: TrainingOptions) -> None:
    """Train in several processes, which are told their rank as `torchrun` tells it."""
    shared = {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(free_port()),
        "WORLD_SIZE": str(world_size),
    }
    children = []
    for rank in range(world_size):
        ranks = {"RANK": str(rank), "LOCAL_RANK": str(rank)}
        children.append(start_rank(options, shared | ranks))
    for child in children:
        child.join(900)
    assert [child.exitcode for child in children] == [0] * world_size


def scored_cases(folder: RunFolder) -> list[str]:
    summary = read_json(folder.validation / "summary.json")
    return [entry["reference_file"] for entry in summary["metric_per_case"]]


@pytest.mark.parametrize(
    "changes",
    [
        {"steps": 20, "weight_average": 0.9},
        {"steps": 8, "depth": 3},
        {"steps": 8, "weight_average": 0.9, "unlabelled_weight": 3.0},
    ],
    ids=["slices", "stacks", "without labels"],
)
def test_two_processes_train_as_one_with_the_same_batch(
    environment: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    changes: dict[str, Any],
) -> None:
    """The loss of each step, the Dice except for single voxels, each held-out case once."""
    settings = {"steps_per_epoch": 4, "batch_size": 4} | changes
    options = TrainingOptions(settings=settings, device="cpu", workers=0)
    folders = []
    for world_size in (1, 2):
        results = tmp_path / f"of_{world_size}"
        monkeypatch.setenv("samnet_results", str(results))
        train_in_processes(world_size, options)
        folders.append(RunFolder(results / "Dataset501_Tiny" / "lora" / "fold_0"))
    one, two = (read_json(folder.path / "losses.json") for folder in folders)
    assert len(one) == len(two) == settings["steps"]
    # Rounding alone makes them differ by 1e-6 after 20 steps.
    assert two == pytest.approx(one, rel=1e-3)
    dice = []
    for folder in folders:
        dice.append([row["mean_dice"] for row in read_rows(folder)])
    assert dice[1] == pytest.approx(dice[0], abs=1e-2)
    assert scored_cases(folders[0]) == scored_cases(folders[1])


def test_signal_to_the_launcher_saves_one_state_and_the_same_command_resumes(
    train: Train, tmp_path: Path
) -> None:
    options = ["all", "--steps", "100000", "--gpus", "2", "--multiply-batch"]
    folder = RunFolder(tmp_path / "Dataset501_Tiny" / "lora" / "fold_all")
    last = folder.checkpoint(LAST)
    process = train(*options)
    wait_for(last, process)
    process.send_signal(signal.SIGUSR1)
    printed = process.communicate(timeout=300)[1]
    assert process.returncode == 75, printed
    assert "Traceback" not in printed
    step = read_progress(last).step
    assert f"state saved at step {step}" in printed
    record = RunRecord.load(folder)
    assert record is not None
    assert record.request.configuration["batch_size"] == 4
    finish(train("all", "--steps", str(step + 2), "--gpus", "2", "--continue"))
    assert read_progress(last).step == step + 2
    final = load_weights(folder.checkpoint(FINAL))
    assert all(value.isfinite().all() for value in final.values())


def test_processes_end_with_a_launcher_that_is_killed(train: Train, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "Dataset501_Tiny" / "lora" / "fold_all")
    process = train("all", "--steps", "100000", "--gpus", "2")
    wait_for(folder.checkpoint(LAST), process)
    process.kill()
    # This ends when no process holds the other end of the pipe any more.
    process.communicate(timeout=120)


def test_error_of_the_user_ends_all_processes(train: Train) -> None:
    process = train("0", "--batch-size", "3", "--gpus", "2")
    printed = process.communicate(timeout=300)[1]
    assert process.returncode == 2
    assert (
        "a batch of 3 cannot be split evenly over 2 processes; "
        "give --batch-size 4, or --multiply-batch"
    ) in printed
    assert "processes failed, for the reason above" in printed


def test_rows_of_a_batch_are_shared_evenly() -> None:
    rows = [list(Distributed(rank, 3).share_batch(6)) for rank in range(3)]
    assert rows == [[0, 1], [2, 3], [4, 5]]
    assert [Distributed(rank, 2).share("abcde") for rank in range(2)] == ["ace", "bd"]
    with pytest.raises(UserError, match="--batch-size 9"):
        Distributed(0, 3).share_batch(8)


def test_single_process_passes_everything_through() -> None:
    alone, tensor = Distributed(), torch.ones(2, 3)
    assert alone.gather_batch(tensor) is tensor
    assert alone.maximum(1.0, 2.0) == [1.0, 2.0]
    assert alone.gather("a") == ["a"]


def test_each_process_on_gpus_uses_its_own_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replaces the functions of torch that need two GPUs."""
    given: dict[str, Any] = {}
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: given.update(current=device))
    monkeypatch.setattr(
        torch_distributed,
        "init_process_group",
        lambda name, **options: given.update(options, backend=name),
    )
    monkeypatch.setattr(torch_distributed, "destroy_process_group", lambda: None)
    for name, value in (("RANK", "0"), ("WORLD_SIZE", "6"), ("LOCAL_RANK", "1")):
        monkeypatch.setenv(name, value)
    with join_process_group(torch.device("cuda")) as distributed:
        assert distributed.device == torch.device("cuda", 1)
    assert given["backend"] == "nccl"
    assert given["device_id"] == given["current"] == torch.device("cuda", 1)
