"""Starting several processes. A script stands for `python -m samnet`, as only its end matters."""

from __future__ import annotations

import os
import signal
import stat
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from samnet.core.errors import SamnetError, UserError
from samnet.core.signals import Interrupted
from samnet.training.launch import launch

Script = Callable[[str], Path]
# Ten seconds, in which a trap is served at any time.
WAIT = "for i in $(seq 200); do sleep 0.05; done"


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Script:
    """Return a function that says what each process does, in a folder that it returns."""

    def write(text: str) -> Path:
        file = tmp_path / "python"
        file.write_text(f"#!/bin/sh\ncd {tmp_path}\n{text}\n")
        file.chmod(file.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setattr(sys, "executable", str(file))
        return tmp_path

    return write


def read_environment(file: Path) -> dict[str, str]:
    lines = [line.split("=", 1) for line in file.read_text().splitlines() if "=" in line]
    return {line[0]: line[1] for line in lines}


def test_each_process_gets_the_command_and_its_rank(
    script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the process that launches them may tell SLURM to put the job back into the queue."""
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    folder = script('env > env_$RANK; echo "$@" > words_$RANK; ps -o pgid= -p $$ > group_$RANK')
    launch(2, "cpu", ["train", "501", "lora"])
    found = [read_environment(folder / f"env_{rank}") for rank in range(2)]
    for rank, environment in enumerate(found):
        assert environment["RANK"] == environment["LOCAL_RANK"] == str(rank)
        assert environment["WORLD_SIZE"] == environment["LOCAL_WORLD_SIZE"] == "2"
        assert environment["MASTER_ADDR"] == "127.0.0.1"
        assert environment["OMP_NUM_THREADS"] == "5"
        assert "SLURM_JOB_ID" not in environment
        assert (folder / f"words_{rank}").read_text() == "-m samnet train 501 lora\n"
    assert found[0]["MASTER_PORT"] == found[1]["MASTER_PORT"]
    # Ctrl-C of the terminal reaches the launcher alone, which passes it on.
    groups = {int((folder / f"group_{rank}").read_text()) for rank in range(2)}
    assert len(groups | {os.getpgid(0)}) == 3


def test_processes_share_the_cores(script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr("samnet.training.launch.usable_cores", lambda: 7)
    folder = script("env > env_$RANK")
    launch(2, "cpu", [])
    assert read_environment(folder / "env_1")["OMP_NUM_THREADS"] == "3"


@pytest.mark.parametrize(
    ("code", "kind"), [(UserError.exit_code, UserError), (1, SamnetError)], ids=["user", "other"]
)
def test_failed_process_ends_the_others(script: Script, code: int, kind: type) -> None:
    folder = script(
        f"if [ $RANK = 1 ]; then while [ ! -f ready ]; do sleep 0.05; done; exit {code}; fi\n"
        "trap 'touch ended; exit 0' TERM; touch ready\n" + WAIT
    )
    with pytest.raises(SamnetError, match="1 of 2 processes failed") as caught:
        launch(2, "cpu", [])
    assert type(caught.value) is kind
    assert (folder / "ended").is_file()


@pytest.mark.parametrize(
    ("name", "raised"), [("USR1", Interrupted), ("INT", KeyboardInterrupt)], ids=str
)
def test_signal_is_passed_on_to_all_processes(
    script: Script, name: str, raised: type[BaseException]
) -> None:
    folder = script(
        f"trap 'touch got_$RANK; exit 75' {name}; touch ready_$RANK\n"
        "while [ ! -f ready_0 ] || [ ! -f ready_1 ]; do sleep 0.05; done\n"
        f"if [ $RANK = 0 ]; then kill -{name} $PPID; fi\n" + WAIT
    )
    with pytest.raises(raised) as caught:
        launch(2, "cpu", [])
    if isinstance(caught.value, Interrupted):
        assert caught.value.number == signal.SIGUSR1
    assert (folder / "got_0").is_file()
    assert (folder / "got_1").is_file()


def test_more_processes_than_gpus_are_refused(
    script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    folder = script("touch started_$RANK")
    with pytest.raises(UserError, match="--gpus 3: this machine has 2"):
        launch(3, "cuda", [])
    assert not list(folder.glob("started_*"))
    launch(2, "cuda", [])
    assert len(list(folder.glob("started_*"))) == 2
