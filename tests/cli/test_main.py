from __future__ import annotations

import subprocess
import sys

import pytest

import samnet
from samnet.cli.main import COMMANDS, main


@pytest.mark.parametrize("arguments", [[], ["-h"], ["--help"]])
def test_samnet_help_lists_every_command(
    arguments: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    assert "usage: samnet COMMAND" in printed
    for name, summary in COMMANDS.items():
        assert f"  {name} " in printed
        assert summary in printed


def test_samnet_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"samnet {samnet.__version__}\n"


@pytest.mark.parametrize("word", ["tran", "main", "samnet_train", "../train", "command"])
def test_samnet_refuses_an_unknown_command(word: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([word, "8"]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert f"unknown command {word!r}" in printed.err
    assert "plan_and_preprocess" in printed.err


def test_samnet_passes_options_to_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["preprocess", "--help"])
    assert caught.value.code == 0
    assert "usage: samnet_preprocess" in capsys.readouterr().out
    with pytest.raises(SystemExit) as caught:
        main(["plan", "-d", "8", "--overwrit"])
    assert caught.value.code == 2
    assert "samnet_plan: error: unrecognized arguments: --overwrit" in capsys.readouterr().err


def test_samnet_returns_the_exit_code_of_the_command(
    folders: dict, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", "-d", "77"]) == 2
    assert "samnet_plan: error: no data set '77'" in capsys.readouterr().err


def test_python_m_samnet_runs_commands() -> None:
    process = subprocess.run(
        [sys.executable, "-m", "samnet", "nothing"], capture_output=True, text=True, check=False
    )
    assert process.returncode == 2
    assert "unknown command 'nothing'" in process.stderr


@pytest.mark.parametrize(
    ("word", "command"),
    [
        ("trian", "train"),
        ("samnet_predict", "predict"),
        ("plan-and-preprocess", "plan_and_preprocess"),
        ("Evaluate", "evaluate"),
        ("preproces", "preprocess"),
    ],
)
def test_samnet_suggests_the_command_that_was_meant(
    word: str, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([word]) == 2
    assert f"unknown command {word!r}; did you mean {command!r}?" in capsys.readouterr().err


def test_samnet_suggests_nothing_for_a_word_like_no_command(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["xyz"]) == 2
    assert "did you mean" not in capsys.readouterr().err
