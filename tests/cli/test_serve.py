"""`samnet_serve`: its options, what it refuses, and the command from its start to a signal."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
from builders.serving import NAME, files_below, write_served_dataset

from samnet.cli.main import main
from samnet.core.locks import lock_folder
from samnet.dataset.dataset_folder import DatasetFolder
from samnet.serving.settings import Access, Limits, ServerSettings, TrainingSettings

ROOT = Path(__file__).resolve().parents[2]
TOKEN = "0123456789abcdef0123"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DatasetFolder:
    return write_served_dataset(tmp_path, monkeypatch)


def test_options_reach_the_server(
    folder: DatasetFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[Any, ...]] = []
    monkeypatch.setattr("samnet.serving.server.serve", lambda *arguments: calls.append(arguments))
    assert main(["serve", "-d", "501"]) == 0
    [(served, models, settings, images)] = calls
    assert served == folder
    assert [model.name for model in models] == ["lora"]
    assert settings == ServerSettings()
    assert images == []

    monkeypatch.setenv("samnet_token", "of the environment, too short"[:5])
    files = [tmp_path / "cert.pem", tmp_path / "key.pem"]
    for file in files:
        file.touch()
    words = f"serve -d 501 -c lora full -f 0 -i a b --ranking {files[0]} --device cpu --no-mirror \
        --host 0.0.0.0 --port 9 \
        --token {TOKEN} --certificate {files[0]} --key {files[1]} --allow-origin http://a:3000 \
        --train-time 90s --train-steps 7 -np 3 --max-upload 1G --queue 2 --keep-models 5"
    assert main(words.split()) == 0
    _, models, settings, images = calls[-1]
    assert [(model.name, model.folds) for model in models] == [("lora", ("0",)), ("full", ("0",))]
    assert settings == ServerSettings(
        Access("0.0.0.0", 9, TOKEN, files[0], files[1], ("http://a:3000",)),
        Limits(upload_bytes=1024**3, waiting=2, loaded_models=5),
        TrainingSettings("90s", 7, 3),
        "cpu",
        False,
        files[0],
    )
    assert images == [Path("a"), Path("b")]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--host 0.0.0.0", "give --token"),
        ("--host 0.0.0.0 --token short", "16 characters"),
        ("-c unknown", "no such configuration"),
        ("-m nothing", "holds no finished training run"),
        ("-i nothing", "no such folder"),
        ("--train-time soon", "--train-time"),
        ("--port 70000", "--port"),
    ],
)
def test_what_cannot_work_is_refused(
    folder: DatasetFolder, capsys: pytest.CaptureFixture[str], words: str, message: str
) -> None:
    assert main(["serve", "-d", "501", *words.split()]) == 2
    assert message in capsys.readouterr().err
    assert files_below(folder.preprocessed) == set()


def test_missing_package_is_named(
    folder: DatasetFolder, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("samnet.serving.server._PACKAGES", ("fastapi", "package_that_is_not_here"))
    assert main(["serve", "-d", "501"]) == 2
    assert "pip install 'samnet[serve]'" in capsys.readouterr().err


def test_model_that_cannot_be_read_is_told_at_once(
    folder: DatasetFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder.model("lora") / "fold_0" / "plan.json").write_text("{", encoding="utf-8")
    assert main(["serve", "-d", "501", "--port", "0"]) == 2
    assert "plan.json: not valid JSON" in capsys.readouterr().err


def test_second_server_and_taken_ports_are_refused(
    folder: DatasetFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    with lock_folder(folder.preprocessed / "serving", "serving"):
        assert main(["serve", "-d", "501", "--port", "0"]) == 1
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert main(["serve", "-d", "501", "--port", port]) == 2
    assert f"--port {port}: cannot be listened on" in capsys.readouterr().err


def test_server_serves_until_a_signal_comes(folder: DatasetFolder) -> None:
    shutil.rmtree(folder.results)  # its backbone is known in this process alone
    known = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(known), "samnet_token": TOKEN}
    process = subprocess.Popen(
        [sys.executable, "-m", "samnet", "serve", "-d", "501", "--port", "0", "--device", "cpu"],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(2)]
        assert lines[0] == f"{NAME}: 3 of 6 images labelled; models: none yet\n"
        address = re.fullmatch(r"serving at (http://127\.0\.0\.1:\d+)\n", lines[1])
        assert address is not None
        assert httpx.get(f"{address[1]}/info/").status_code == 401
        header = {"Authorization": f"Bearer {TOKEN}"}
        assert httpx.get(f"{address[1]}/info/", headers=header).json()["name"] == NAME
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 75
    finally:
        process.kill()
        process.wait()
    assert files_below(folder.preprocessed) == set()
