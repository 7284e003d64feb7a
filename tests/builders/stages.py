"""The stages of a project, each a command on a tiny data set.

Each stage starts from a folder that holds what the stage before left.
"""

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
from samnet.models.model_folder import LAST, RunFolder
from samnet.training import dry_run

CPU = ("--device", "cpu")
SETTINGS = [
    f"--set={key}={value}" for key, value in (SHORT | {"initial_weights": "random"}).items()
]
ONE_VIEW = ("--set=views=[0]", "--set=slicing_axis=0")
MODEL = ("-d", "501", "-c", "lora")
IMAGES = "raw/Dataset501_Tiny/imagesTs"
# Files that hold dates and durations.
DIFFERENT = ("run.json", "metrics.jsonl", "progress.png")


@dataclass(frozen=True)
class Stage:
    """A stage of a project.

    Attributes:
        name: What it does.
        words: The command and its options.
    """

    name: str
    words: tuple[str, ...]

    def run(self) -> int:
        return importlib.import_module(f"samnet.cli.{self.words[0]}").main(self.words[1:])


STAGES = (
    Stage("fingerprint", ("extract_fingerprint", "-d", "501", "-np", "0")),
    Stage("planning", ("plan", "-d", "501", "-np", "0", *CPU, *SETTINGS, *ONE_VIEW)),
    Stage("preprocessing", ("preprocess", "-d", "501", "-np", "0")),
    Stage(
        "embedding cache",
        ("train", "501", "frozen", "all", *CPU, "--workers", "0", "--cache-size", "1G"),
    ),
    Stage("training", ("train", "501", "lora", "0", *CPU, "--workers", "0")),
    Stage("prediction", ("predict", "-i", IMAGES, "-o", "preds", *MODEL, *CPU, "--continue")),
    Stage("export", ("export_model", *MODEL, "-o", "model.zip")),
)


class Project:
    """A folder with all data of a project, which can be put back to the beginning of any stage.

    Attributes:
        root: The folder that the commands work in; it is the working directory.
        states: Copies of it from before each stage, and from the end.
    """

    def __init__(self, folder: Path) -> None:
        self.root, self.states = folder / "work", folder / "states"
        write_dataset(self.root / "raw", num_cases=4, num_test=3, shape=(5, 24, 20))

    def enter(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Let the commands work in it."""
        for name in ("raw", "preprocessed", "results"):
            monkeypatch.setenv(f"samnet_{name}", str(self.root / name))
        monkeypatch.chdir(self.root)
        # Without its monitor: a thread that may hold the lock while a process is forked.
        monkeypatch.setattr(tqdm, "monitor_interval", 0)
        # Measuring a step takes seconds for each configuration; this is its memory in GiB.
        monkeypatch.setattr(dry_run, "measure_step", lambda *configuration: 0.5)

    def complete(self) -> None:
        """Run all stages undisturbed, and keep the states between them."""
        for number, stage in enumerate(STAGES):
            shutil.copytree(self.root, self.states / str(number))
            assert stage.run() == 0, stage.name
        shutil.copytree(self.root, self.states / str(len(STAGES)))

    def go_back_to(self, number: int) -> None:
        """Restore the state before a stage, with the dates of its files."""
        for entry in self.root.iterdir():
            shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()
        shutil.copytree(self.states / str(number), self.root, dirs_exist_ok=True)

    def check(self, number: int) -> None:
        """Check that the files are those after the undisturbed stage, and no others."""
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
    """Return a hash of every file by its path; nothing for those that differ each time."""
    files = [file for file in sorted(folder.rglob("*")) if file.is_file()]
    return {
        str(file.relative_to(folder)): "" if file.name in DIFFERENT else _hash(file)
        for file in files
    }


def _hash(file: Path) -> str:
    """Return the hash of a file; of a checkpoint, that of its tensors without the seconds."""
    if file != RunFolder(file.parent).checkpoint(LAST):
        return hashlib.sha256(file.read_bytes()).hexdigest()
    tensors = load_file(file)
    content = b"".join(tensors[name].numpy().tobytes() for name in sorted(tensors))
    return hashlib.sha256(content).hexdigest()


def leftovers(folder: Path) -> list[Path]:
    """Return temporary files and locks.

    Args:
        folder: Where to look, also in the folders below.
    """
    return [
        file
        for file in folder.rglob("*")
        if file.name.startswith(TEMPORARY_PREFIX) or "samnet-lock" in file.name
    ]


def start(
    function: Callable[..., object], *arguments: object
) -> multiprocessing.process.BaseProcess:
    """Run a function in another process, which has all modules loaded already.

    Args:
        function: What to run. Its return value is the exit code.
        arguments: Its arguments.

    Returns:
        The process.
    """
    process = multiprocessing.get_context("fork").Process(
        target=_silently, args=(function, arguments)
    )
    process.start()
    return process


def _silently(function: Callable[..., object], arguments: Sequence[object]) -> None:
    sink = os.open(os.devnull, os.O_WRONLY)
    os.dup2(sink, 1)
    os.dup2(sink, 2)
    # The forked lock is shared, and a killed process does not release it.
    tqdm.set_lock(threading.RLock())
    os._exit(int(function(*arguments) or 0))
