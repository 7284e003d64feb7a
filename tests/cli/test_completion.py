"""Completion in real shells: what they offer for a line that is being typed."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import samnet
from samnet.cli.completers import _PLAN_FILE, _SPLITS_FILE
from samnet.cli.main import COMMANDS, main
from samnet.core.files import write_json
from samnet.dataset.dataset_folder import DatasetFolder

NAME = "Dataset008_Organs"
# A shell calls the function of the script with the line in its variables; the reply is printed.
BASH = """
eval "$(samnet --completion bash)"
reply() {
    COMP_LINE=$1 COMP_POINT=${#1} COMP_TYPE=9 COMPREPLY=()
    set -- $(complete -p "${1%% *}")
    while [ "$1" != -F ]; do shift; done
    "$2" "${COMP_LINE%% *}"
    printf '%s\\n' "${COMPREPLY[@]}" ----
}
"""
ZSH = """
autoload -U compinit && compinit -u -D
eval "$(samnet --completion zsh)"
_describe() { print -l -- ${completions%%:*} }
reply() {
    BUFFER=$1 CURSOR=${#1} words=(${=1})
    ${_comps[${words[1]}]}
    print -- ----
}
"""
FISH = """
samnet --completion fish | source
function reply
    complete -C $argv[1] | string replace -r '\\t.*' ''
    echo ----
end
"""
SCRIPTS = {"bash": BASH, "zsh": ZSH, "fish": FISH}
WITHOUT_FILES = {"bash": ["--norc"], "zsh": ["-f"], "fish": ["--no-config"]}


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """The folder of the commands `samnet` and `samnet_X`, as pip would install them."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("main", *COMMANDS):
        script = folder / ("samnet" if name == "main" else f"samnet_{name}")
        code = f"import sys; from samnet.cli.{name} import main; sys.exit(main())"
        words = shlex.join([sys.executable, "-c", code])
        script.write_text(f'#!/bin/sh\nexec {words} "$@"\n')
        script.chmod(0o755)
    return folder


def ask(shell: str, programs: Path, lines: list[str]) -> list[list[str]]:
    """Return what a shell offers for each line, without the spaces that end a word."""
    program = shutil.which(shell)
    if program is None:
        pytest.skip(f"there is no {shell}")
    code = SCRIPTS[shell] + "\n".join(f"reply {shlex.quote(line)}" for line in lines)
    environment = {
        **os.environ,
        "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(Path(samnet.__file__).parents[1]),
    }
    process = subprocess.run(
        [program, *WITHOUT_FILES[shell], "-c", code],
        env=environment,
        cwd=programs,
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.stderr == ""
    replies = process.stdout.split("----\n")[:-1]
    assert len(replies) == len(lines)
    offered = []
    for reply in replies:
        words = map(str.strip, reply.splitlines())
        offered.append(list(filter(None, words)))
    return offered


@pytest.mark.parametrize("shell", SCRIPTS)
def test_shells_complete_commands_options_and_choices(
    shell: str, programs: Path, folders: dict[str, Path]
) -> None:
    (folders["raw"] / NAME).mkdir()
    offered = ask(
        shell,
        programs,
        ["samnet tr", "samnet train --ba", "samnet_predict --checkpoint ", "samnet_train "],
    )
    batch = ["--backbone", "--batch-size"]
    assert [sorted(words) for words in offered] == [
        ["train"],
        batch,
        ["best", "final", "last"],
        [NAME],
    ]


def test_bash_completes_data_sets_configurations_and_folds(
    programs: Path, folders: dict[str, Path]
) -> None:
    (folders["results"] / NAME / "mine" / "fold_3").mkdir(parents=True)
    dataset = DatasetFolder.of(NAME)
    write_json(dataset.plan_file, {"configurations": {"lora": {}, "frozen": {}}})
    write_json(dataset.splits_file, [{}, {}])
    offered = ask(
        "bash",
        programs,
        [
            "samnet train -d ",
            "samnet_train 8",
            "samnet_train 8 froz",
            "samnet train 8 lora ",
            f"samnet_predict -d {NAME} -c ",
            "samnet predict -d 8 -c mine -f ",
            "samnet_submit train 8 -c froz",
            "samnet_convert_msd -d ",
        ],
    )
    assert offered == [
        [NAME],
        ["8"],
        ["frozen"],
        ["0", "1", "all", "cv"],
        ["mine"],
        ["3"],
        ["frozen"],
        [],
    ]


def test_bash_completes_files_folders_and_values(programs: Path, folders: dict[str, Path]) -> None:
    (programs / "scans" / "CT").mkdir(parents=True)
    (programs / "scans" / "a b.nii.gz").touch()
    (programs / "scans" / ".hidden").touch()
    offered = ask(
        "bash",
        programs,
        [
            "samnet_predict -i sca",
            "samnet_predict -i scans/",
            "samnet predict -m scans/",
            "samnet_train --device c",
            "samnet_train --backbone vit_",
            "samnet_train --set weight_d",
            "samnet_train --epochs ",
            "samnet submit train --parti",
            "samnet --completion ",
        ],
    )
    assert offered == [
        ["scans/"],
        ["scans/CT/", "scans/a\\ b.nii.gz"],
        ["scans/CT/"],
        ["cpu", "cuda"],
        ["vit_b", "vit_l", "vit_h"],
        ["weight_decay="],
        [],
        ["--partition"],
        ["bash", "zsh", "fish"],
    ]


def test_completion_knows_the_names_of_files() -> None:
    dataset = DatasetFolder.of(NAME)
    assert (dataset.plan_file.name, dataset.splits_file.name) == (_PLAN_FILE, _SPLITS_FILE)


@pytest.mark.parametrize("name", ["main", "train", "predict"])
def test_completion_imports_nothing_heavy(name: str, programs: Path) -> None:
    line = "samnet " if name == "main" else f"samnet_{name} -d 8 -c "
    code = (
        "import os, sys\n"
        "os._exit = lambda code: print(sorted({'numpy', 'torch', 'scipy'} & set(sys.modules)))\n"
        f"from samnet.cli.{name} import main\n"
        "try:\n    main(['--version'])\nexcept SystemExit:\n    pass\n"
    )
    environment = {
        **os.environ,
        "COMP_LINE": line,
        "COMP_POINT": str(len(line)),
        "_ARGCOMPLETE": "1",
        "_ARGCOMPLETE_STDOUT_FILENAME": str(programs / "offered"),
    }
    process = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    assert process.stdout.startswith("[]\n"), process.stdout + process.stderr


def test_an_unknown_shell_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["--completion"], ["--completion", "csh"], ["--completion", "bash", "zsh"]):
        assert main(words) == 2
        assert "write --completion bash|zsh|fish" in capsys.readouterr().err
