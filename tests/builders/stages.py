"""The stages of a project as commands on a tiny data set, each from a folder that holds what the one before left."""

from __future__ import annotations

import hashlib
import importlib
import multiprocessing
import os
import shutil
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from safetensors.torch import load_file
from tqdm import tqdm

from builders.data import write_dataset
from builders.tiny import SHORT
from samnet.core.files import TEMPORARY_PREFIX
from samnet.training.checkpoint import LAST

CPU = ("--device", "cpu")
SETTINGS = [
    f"--set={key}={value}" for key, value in (SHORT | {"initial_weights": "random"}).items()
]
# What holds dates and durations.
DIFFERENT = ("run.json", "metrics.jsonl", "progress.png")


@dataclass(frozen=True)
class Stage:
    """name: of the step. words: the command and its options."""

    name: str
    words: tuple[str, ...]

    def run(self) -> int:
        return importlib.import_module(f"samnet.cli.{self.words[0]}").main(self.words[1:])


STAGES = (
    Stage("fingerprint", ("extract_fingerprint", "-d", "501", "-np", "0")),
    Stage(
        "planning",
        (
            "plan",
            "-d",
            "501",
            "-np",
            "0",
            *CPU,
            *SETTINGS,
            "--set=views=[0]",
            "--set=slicing_axis=0",
        ),
    ),
    Stage("preprocessing", ("preprocess", "-d", "501", "-np", "0")),
    Stage(
        "embedding cache",
        ("train", "501", "frozen", "all", *CPU, "--workers", "0", "--cache-size", "1G"),
    ),
    Stage("training", ("train", "501", "lora", "0", *CPU, "--workers", "0")),
    Stage(
        "prediction",
        (
            "predict",
            "-i",
            "raw/Dataset501_Tiny/imagesTs",
            "-o",
            "preds",
            "-d",
            "501",
            "-c",
            "lora",
            *CPU,
            "--continue",
        ),
    ),
    Stage("export", ("export_model", "-d", "501", "-c", "lora", "-o", "model.zip")),
)


class Project:
    """A folder with all data of a project, put back to the beginning of a stage as often as is wanted.

    root: where it lies while it is worked on, the working directory. states: copies of it as it was before each stage,
    and at the end.
    """

    def __init__(self, folder: Path) -> None:
        self.root, self.states = folder / "work", folder / "states"
        write_dataset(self.root / "raw", num_cases=4, num_test=3, shape=(5, 24, 20))

    def enter(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Let the commands work in it."""
        for station in ("raw", "preprocessed", "results"):
            monkeypatch.setenv(f"samnet_{station}", str(self.root / station))
        monkeypatch.chdir(self.root)
        monkeypatch.setattr("samnet.training.run.default_processes", lambda: 0)
        monkeypatch.setattr(
            tqdm, "monitor_interval", 0
        )  # a thread that may hold its lock while a process is forked

    def complete(self) -> None:
        """Do all stages undisturbed, and keep the states between them."""
        for number, stage in enumerate(STAGES):
            shutil.copytree(self.root, self.states / str(number))
            assert stage.run() == 0, stage.name
        shutil.copytree(self.root, self.states / str(len(STAGES)))

    def go_back_to(self, number: int) -> None:
        """The state before a stage; dates of files are as they were."""
        for entry in self.root.iterdir():
            shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()
        shutil.copytree(self.states / str(number), self.root, dirs_exist_ok=True)

    def check(self, number: int) -> None:
        """All is as after the undisturbed stage, and nothing else is left."""
        found, expected = contents(self.root), contents(self.states / str(number + 1))
        faults = {
            "extra": found.keys() - expected.keys(),
            "missing": expected.keys() - found.keys(),
            "different": {
                name for name in found.keys() & expected.keys() if found[name] != expected[name]
            },
        }
        assert not any(faults.values()), faults


def contents(folder: Path) -> dict[str, str]:
    """A hash of every file; of those that differ each time, only that they are there."""
    files = [file for file in sorted(folder.rglob("*")) if file.is_file()]
    return {
        str(file.relative_to(folder)): "" if file.name in DIFFERENT else _hash(file)
        for file in files
    }


def _hash(file: Path) -> str:
    """Of a state's tensors alone: beside them it has the seconds that the training took."""
    if file.name != LAST:
        return hashlib.sha256(file.read_bytes()).hexdigest()
    tensors = load_file(file)
    return hashlib.sha256(
        b"".join(tensors[name].numpy().tobytes() for name in sorted(tensors))
    ).hexdigest()


def leftovers(folder: Path) -> list[Path]:
    return [
        file
        for file in folder.rglob("*")
        if file.name.startswith(TEMPORARY_PREFIX) or "samnet-lock" in file.name
    ]


def start(
    function: Callable[..., object], *arguments: object
) -> multiprocessing.process.BaseProcess:
    """Run a function in a process of its own, which has all modules loaded already."""
    process = multiprocessing.get_context("fork").Process(
        target=_silently, args=(function, arguments)
    )
    process.start()
    return process


def _silently(function: Callable[..., object], arguments: Sequence[object]) -> None:
    sink = os.open(os.devnull, os.O_WRONLY)
    os.dup2(sink, 1)
    os.dup2(sink, 2)
    tqdm.set_lock(
        threading.RLock()
    )  # the one that is forked is shared, and a killed process never gives it back
    os._exit(int(function(*arguments) or 0))
