"""Several processes on this machine's CPU, which meet by gloo as they do by NCCL on GPUs."""

from __future__ import annotations

import json
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
from builders.data import write_dataset
from builders.tiny import add_tiny_backbone, one_process, prepare_dataset, use_folders
from torch import distributed

from samnet.cli.train import main
from samnet.core.errors import UserError
from samnet.models.network import load_weights
from samnet.training.checkpoint import FINAL, LAST, read_progress
from samnet.training.distributed import Distributed, join_process_group
from samnet.training.launch import _free_port
from samnet.training.loop import Trainer

TESTS = Path(__file__).parents[1]
# `python -m samnet` with the tiny backbone, in every process that is started from it.
CUSTOMIZE = f"""
import sys
sys.path.insert(0, {str(TESTS)!r})
import pytest
from builders.tiny import add_tiny_backbone
add_tiny_backbone(pytest.MonkeyPatch())
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("prepared")
    with pytest.MonkeyPatch.context() as patch:
        add_tiny_backbone(patch)
        write_dataset(folder / "raw", shape=(5, 24, 20))
        prepare_dataset(folder, 501, patch, views=[0], slicing_axis=0)
    (folder / "site").mkdir()
    (folder / "site" / "sitecustomize.py").write_text(CUSTOMIZE)
    return folder


@pytest.fixture
def environment(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    use_folders(root, tmp_path, monkeypatch)
    path = os.pathsep.join([str(root / "site"), str(TESTS.parent)])
    return {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}


@pytest.fixture
def train(environment: dict[str, str]) -> Iterator[Callable[..., subprocess.Popen]]:
    """Start a training as users do; what is left of it at the end is killed."""
    started: list[subprocess.Popen] = []

    def start_training(*words: str) -> subprocess.Popen:
        command = [
            sys.executable,
            "-m",
            "samnet",
            "train",
            "501",
            "lora",
            *words,
            "--device",
            "cpu",
            "--workers",
            "0",
        ]
        started.append(
            subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, encoding="utf-8")
        )
        return started[-1]

    yield start_training
    for process in started:
        if process.poll() is None:
            process.terminate()
            process.wait()


def finish(process: subprocess.Popen) -> str:
    printed = process.communicate(timeout=600)[1]
    assert process.returncode == 0, printed
    return printed


def rows(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_two_processes_train_as_one_with_the_same_batch(
    environment: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loss of each of 20 steps; the Dice, but for single voxels that flip; each held-out case once.

    The processes are told who they are as `torchrun` tells them.
    """
    one_process(monkeypatch)
    options = ["501", "lora", "0", "--device", "cpu", "--workers", "0", "--steps", "20"]
    options += ["--set", "steps_per_epoch=4", "--set", "batch_size=4"]
    folders = []
    for size in (1, 2):
        monkeypatch.setenv("samnet_results", str(tmp_path / f"of_{size}"))
        shared = {
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(_free_port()),
            "WORLD_SIZE": str(size),
        }
        children = [
            start_rank(options, {**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)})
            for rank in range(size)
        ]
        for child in children:
            child.join(900)
        assert [child.exitcode for child in children] == [0] * size
        folders.append(tmp_path / f"of_{size}" / "Dataset501_Tiny" / "lora" / "fold_0")
    one, two = ((folder / "losses").read_text().split() for folder in folders)
    assert len(one) == len(two) == 20
    # Rounding alone makes them differ by 1e-6 after 20 steps.
    assert [float(loss) for loss in two] == pytest.approx([float(loss) for loss in one], rel=1e-3)
    dice = [[row["mean_dice"] for row in rows(folder)] for folder in folders]
    assert dice[1] == pytest.approx(dice[0], abs=1e-2)
    scored = [
        json.loads((folder / "validation" / "summary.json").read_text()) for folder in folders
    ]
    cases = [
        [entry["reference_file"] for entry in summary["metric_per_case"]] for summary in scored
    ]
    assert cases[0] == cases[1]


def start_rank(
    options: list[str], environment: dict[str, str]
) -> multiprocessing.process.BaseProcess:
    """A process of a training that notes the loss of each step; all modules are loaded in it already."""

    def work() -> None:
        os.environ.update(environment)
        plain = Trainer._step

        def step(self: Trainer, *batch: Any) -> float:
            loss = plain(self, *batch)
            if self.processes.is_master:
                with (self.folder / "losses").open("a") as handle:
                    handle.write(f"{loss!r}\n")
            return loss

        Trainer._step = step  # type: ignore[method-assign]
        sys.exit(main(options))

    process = multiprocessing.get_context("fork").Process(target=work)
    process.start()
    return process


def test_a_signal_to_the_parent_saves_in_one_file_and_the_same_command_goes_on(
    train: Callable[..., subprocess.Popen], tmp_path: Path
) -> None:
    options = ["all", "--steps", "100000", "--gpus", "2", "--multiply-batch"]
    folder = tmp_path / "Dataset501_Tiny" / "lora" / "fold_all"
    process = train(*options)
    while not (folder / LAST).is_file():
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.05)
    process.send_signal(signal.SIGUSR1)
    printed = process.communicate(timeout=300)[1]
    assert process.returncode == 75, printed
    assert "Traceback" not in printed
    step = read_progress(folder / LAST).step
    assert f"state saved at step {step}" in printed
    asked = json.loads((folder / "run.json").read_text())["asked"]
    assert asked["configuration"]["batch_size"] == 4
    finish(train("all", "--steps", str(step + 2), "--gpus", "2", "--continue"))
    assert read_progress(folder / LAST).step == step + 2
    assert all(value.isfinite().all() for value in load_weights(folder / FINAL).values())


def test_processes_end_with_a_parent_that_is_killed(
    train: Callable[..., subprocess.Popen], tmp_path: Path
) -> None:
    folder = tmp_path / "Dataset501_Tiny" / "lora" / "fold_all"
    process = train("all", "--steps", "100000", "--gpus", "2")
    while not (folder / LAST).is_file():
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.05)
    process.kill()
    process.communicate(
        timeout=120
    )  # whose end comes when nobody holds the other end of the pipe any more


def test_what_is_wrong_ends_all_of_them(train: Callable[..., subprocess.Popen]) -> None:
    process = train("0", "--batch-size", "3", "--gpus", "2")
    printed = process.communicate(timeout=300)[1]
    assert process.returncode == 2
    assert (
        "a batch of 3 cannot be split evenly over 2 processes; give --batch-size 4, or --multiply-batch"
        in printed
    )
    assert "processes failed, for the reason above" in printed


def test_the_rows_of_a_batch_are_shared_out() -> None:
    assert [list(Distributed(rank, 3).share_batch(6)) for rank in range(3)] == [
        [0, 1],
        [2, 3],
        [4, 5],
    ]
    assert [Distributed(rank, 2).share("abcde") for rank in range(2)] == ["ace", "bd"]
    with pytest.raises(UserError, match="--batch-size 9"):
        Distributed(0, 3).share_batch(8)


def test_one_process_passes_everything_through() -> None:
    alone, tensor = Distributed(), torch.ones(2, 3)
    assert alone.gather_batch(tensor) is tensor
    assert alone.maximum(1.0, 2.0) == [1.0, 2.0]
    assert alone.gather("a") == ["a"]


def test_each_process_on_gpus_names_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: asked.update(current=device))
    monkeypatch.setattr(
        distributed, "init_process_group", lambda name, **given: asked.update(given, backend=name)
    )
    monkeypatch.setattr(distributed, "destroy_process_group", lambda: None)
    for name, value in (("RANK", "0"), ("WORLD_SIZE", "6"), ("LOCAL_RANK", "1")):
        monkeypatch.setenv(name, value)
    with join_process_group(torch.device("cuda")) as processes:
        assert processes.device == torch.device("cuda", 1)
    assert asked["backend"] == "nccl"
    assert asked["device_id"] == asked["current"] == torch.device("cuda", 1)
